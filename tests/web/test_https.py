"""The server's own certificate."""

from __future__ import annotations

import socket
import ssl
import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ucm.runtime.boot import BootSettings
from ucm.runtime.container import Substitutes, build_container
from ucm.services.tls_files import TLSFiles
from ucm.testing.builders import a_csr
from ucm.testing.server import running_server
from ucm.web.app import create_app
from ucm.web.v2.https import ServerCertificateItem

PATH = "/api/v2/system/https"


@pytest.fixture
def ca(admin):
    made = admin.post("/api/v2/cas", {"common_name": "Root", "key_type": "EC-P256"})
    assert made.status_code == 201, made.json
    return made.json["data"]["id"]


def issue(admin, ca, **fields):
    body = {"ca_id": ca, "cn": "ucm.example", "key_type": "EC-P256", **fields}
    made = admin.post("/api/v2/certificates", body)
    assert made.status_code == 201, made.json
    return made.json["data"]["id"]


def pair(installation):
    folder = installation.container.boot.data_dir / "tls"
    chain = x509.load_pem_x509_certificates((folder / "server.crt").read_bytes())
    return chain, load_pem_private_key((folder / "server.key").read_bytes(), None)


def same_key(certificate, key):
    return certificate.public_key() == key.public_key()


def test_without_a_certificate_there_is_nothing_to_tell(admin):
    answer = admin.get(f"{PATH}/cert-info")
    assert answer.status_code == 404
    assert "server.crt" in answer.json["error"]


def test_a_self_made_certificate_is_as_it_was_ordered(installation, admin):
    answer = admin.post(f"{PATH}/regenerate", {"common_name": "ucm.example", "validity_days": 40})
    assert answer.status_code == 200, answer.json
    item = ServerCertificateItem.model_validate(answer.json["data"], strict=True, extra="forbid")
    assert (item.subject, item.issuer, item.source) == (
        "CN=ucm.example",
        "CN=ucm.example",
        "self_signed",
    )
    assert item.sans[0].endswith("ucm.example")
    [certificate], key = pair(installation)
    assert same_key(certificate, key)
    assert certificate.not_valid_after_utc - installation.clock.now() == timedelta(days=40)
    key_file = installation.container.boot.data_dir / "tls" / "server.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700
    assert admin.get(f"{PATH}/cert-info").json["data"] == answer.json["data"]
    [row] = installation.audit("https_regenerate")
    assert row.details == {"serial": item.serial_number}
    again = admin.post(f"{PATH}/regenerate")
    assert again.json["data"]["subject"] == "CN=localhost"
    assert again.json["data"]["days_remaining"] == 365


@pytest.mark.parametrize("name", ["not a host", "*", "-a.example", "a..example"])
def test_a_name_that_no_server_can_have_is_refused(installation, admin, name):
    answer = admin.post(f"{PATH}/regenerate", {"common_name": name})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == "/common_name"
    assert not (installation.container.boot.data_dir / "tls").exists()
    [row] = installation.audit("https_refused")
    assert row.success is False


def test_an_issued_certificate_is_put_in_place_with_chain_and_key(installation, admin, ca):
    certificate_id = issue(admin, ca)
    answer = admin.post(f"{PATH}/apply", {"cert_id": certificate_id})
    assert answer.status_code == 200, answer.json
    assert answer.json["data"]["source"] == "issued"
    assert answer.json["data"]["restart_required"] is False
    (leaf, *above), key = pair(installation)
    assert same_key(leaf, key)
    assert [one.subject.rfc4514_string() for one in above] == ["CN=Root"]
    [row] = installation.audit("https_apply")
    assert (row.resource_type, row.resource_id) == ("certificate", str(certificate_id))
    text = (installation.container.boot.data_dir / "tls" / "server.key").read_text()
    assert text.splitlines()[1] not in str(installation.audit())


def test_what_cannot_serve_is_refused_and_changes_nothing(installation, admin, ca):
    admin.post(f"{PATH}/regenerate")
    before = pair(installation)[0]
    keyless = issue(admin, ca, cn=None, key_type=None, csr=a_csr().pem())
    revoked = issue(admin, ca)
    admin.post(f"/api/v2/certificates/{revoked}/revoke", {"reason": "superseded"})
    client = issue(admin, ca, cert_type="client", san=["dns:c.example"])
    ending = issue(admin, ca, validity_days=1)
    cases = {
        keyless: "does not keep its key",
        revoked: "revoked",
        client: "serverAuth",
    }
    for certificate_id, reason in cases.items():
        answer = admin.post(f"{PATH}/apply", {"cert_id": certificate_id})
        assert (answer.status_code, reason in answer.json["error"]) == (409, True), answer.json
    own = installation.container.cas.get(ca).certificate_id
    assert "authority" in admin.post(f"{PATH}/apply", {"cert_id": own}).json["error"]
    assert admin.post(f"{PATH}/apply", {"cert_id": 98765}).status_code == 404
    installation.clock.advance(timedelta(days=2))
    late = installation.signed_in("admin").post(f"{PATH}/apply", {"cert_id": ending})
    assert "expired" in late.json["error"]
    assert pair(installation)[0] == before


def test_what_the_operator_configured_is_not_replaced(installation, tmp_path):
    boot = installation.container.boot
    mine = tmp_path / "mine.crt"
    https = build_container(
        BootSettings(
            **boot.model_dump(exclude={"tls_certificate", "tls_private_key"}),
            tls_certificate=mine,
            tls_private_key=tmp_path / "mine.key",
        ),
        clock=installation.clock,
        substitutes=Substitutes(environ={}),
    )
    try:
        https.start(role="web")
        api = type(installation)(https, create_app(https), installation.clock).with_key("admin")
        for call, body in (("regenerate", {}), ("apply", {"cert_id": 1})):
            answer = api.post(f"{PATH}/{call}", body)
            assert answer.status_code == 409
            assert "UCM_TLS_CERTIFICATE" in answer.json["error"]
        assert not (boot.data_dir / "tls").exists()
        assert "mine.crt" in api.get(f"{PATH}/cert-info").json["error"]
        admin = installation.with_key("admin")
        admin.post(f"{PATH}/regenerate")
        mine.write_bytes((boot.data_dir / "tls" / "server.crt").read_bytes())
        info = api.get(f"{PATH}/cert-info").json["data"]
        assert (info["source"], info["replaceable"]) == ("configured", False)
    finally:
        https.close()


def test_a_replacement_that_fails_leaves_the_pair_and_no_rubbish(tmp_path):
    files = TLSFiles(tmp_path)
    with files.replacing(chain_pem=b"chain", key_pem=b"key"):
        assert not files.key.exists()
    with (
        pytest.raises(RuntimeError),
        files.replacing(chain_pem=b"other chain", key_pem=b"other key"),
    ):
        raise RuntimeError
    assert (files.certificate.read_bytes(), files.key.read_bytes()) == (b"chain", b"key")
    assert sorted(path.name for path in files.key.parent.iterdir()) == ["server.crt", "server.key"]


def shown(server, *, trusted: Path):
    """What `openssl s_client` and the standard library see of the certificate in use."""
    port = int(server.https.rpartition(":")[2])
    context = ssl.create_default_context(cafile=str(trusted))
    with (
        socket.create_connection(("127.0.0.1", port), 10) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


@pytest.mark.peer("openssl")
def test_a_running_server_shows_the_new_certificate_without_a_restart(tmp_path):
    with running_server(tmp_path, environment={"UCM_WORKERS": "2"}) as server:
        assert server.process is not None
        first = server.process.pid
        old = shown(server, trusted=server.certificate)
        ca = server.create_root()
        made = server.call(
            "POST",
            "/api/v2/certificates",
            json={"ca_id": ca, "cn": "localhost", "key_type": "EC-P256", "san": ["ip:127.0.0.1"]},
        )["data"]
        root = tmp_path / "root.pem"
        root.write_bytes(server.call("GET", f"/api/v2/cas/{ca}/export"))
        server.call("POST", f"{PATH}/apply", json={"cert_id": made["id"]})
        for _ in range(8):  # whichever process takes the connection
            new = shown(server, trusted=root)
            assert f"{new.serial_number:x}" == made["serial_number"].lower().lstrip("0")
            assert new != old
        verify = f"openssl s_client -connect {server.https[8:]} -CAfile {root} -verify_return_error"
        done = subprocess.run(verify.split(), input=b"", capture_output=True, timeout=60)
        assert b"Verify return code: 0 (ok)" in done.stdout
        assert server.process.pid == first
        assert server.process.poll() is None
