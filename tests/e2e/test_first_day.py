"""From an empty folder to issued, verified and revoked certificates, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from ucm.testing.server import RunningServer


def openssl(*arguments: str, cwd: Path) -> str:
    """Run openssl; its output."""
    done = subprocess.run(
        ["openssl", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def intermediate(server: RunningServer, parent_id: int) -> int:
    body = {
        "common_name": "Day One Issuing",
        "type": "intermediate",
        "parent_id": parent_id,
        "key_algo": "ECDSA",
        "key_size": "prime256v1",
        "validity_years": 5,
        "path_length": 0,
    }
    return int(server.call("POST", "/api/v2/cas", json=body)["data"]["id"])


@pytest.mark.peer("openssl")
def test_first_day(database_url: str, start_server, tmp_path: Path) -> None:
    server: RunningServer = start_server(UCM_DATABASE_URL=database_url)
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    root_id = server.create_root("Day One Root", validity_years=20)
    ca_id = intermediate(server, root_id)
    for name, authority in (("root", root_id), ("issuing", ca_id)):
        pem = server.call("GET", f"/api/v2/cas/{authority}/export?format=pem")
        (tmp_path / f"{name}.pem").write_bytes(pem)

    request = ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "r.csr"]
    openssl(
        *request, "-subj", "/CN=a.example", "-addext", "subjectAltName=DNS:a.example", cwd=tmp_path
    )
    body = {"ca_id": ca_id, "csr": (tmp_path / "r.csr").read_text(), "validity_days": 30}
    from_csr = server.call("POST", "/api/v2/certificates", json=body)["data"]
    body = {"ca_id": ca_id, "cn": "b.example", "key_type": "ec", "curve": "secp384r1"}
    from_server = server.call("POST", "/api/v2/certificates", json=body)["data"]

    for issued, host in ((from_csr, "a.example"), (from_server, "b.example")):
        pem = server.call("GET", f"/api/v2/certificates/{issued['id']}/export?format=pem")
        (tmp_path / "leaf.pem").write_bytes(pem)
        chain = ["-CAfile", "root.pem", "-untrusted", "issuing.pem", "-verify_hostname", host]
        assert "OK" in openssl("verify", "-x509_strict", *chain, "leaf.pem", cwd=tmp_path)
        shown = openssl("x509", "-in", "leaf.pem", "-noout", "-text", cwd=tmp_path)
        assert "Issuer: CN = Day One Issuing" in shown
        assert f"DNS:{host}" in shown
        assert "TLS Web Server Authentication" in shown
        assert "X509v3 Authority Key Identifier" in shown
        certificate = x509.load_pem_x509_certificate(pem)
        assert certificate.version is x509.Version.v3
        assert 64 <= certificate.serial_number.bit_length() <= 159

    path = f"/api/v2/certificates/{from_csr['id']}"
    revoked = server.call("POST", f"{path}/revoke", json={"reason": "keyCompromise"})["data"]
    assert revoked["status"] == "revoked"
    assert server.call("GET", path)["data"]["revoke_reason"] == "keyCompromise"
    again = server.request("POST", f"{path}/revoke", json={"reason": "superseded"})
    assert again.status_code == 409
    assert again.headers["Content-Type"] == "application/problem+json"
    assert again.json()["success"] is False

    actions = [row["action"] for row in server.call("GET", "/api/v2/audit/logs")["data"]]
    assert actions.count("ca_created") == 2
    assert actions.count("certificate_created") == 4  # those of the authorities too
    assert "cert_revoked" in actions

    assert server.stop() == 0
    server.start()
    listed = server.call("GET", "/api/v2/certificates?status=revoked")["data"]
    assert [row["id"] for row in listed] == [from_csr["id"]]


def test_the_log_and_the_database_hold_no_secret(start_server, tmp_path: Path) -> None:
    server: RunningServer = start_server()
    ca_id = server.create_root()
    body = {"ca_id": ca_id, "cn": "secret.example", "key_type": "rsa", "key_size": 2048}
    issued = server.call("POST", "/api/v2/certificates", json=body)["data"]
    key = server.call(
        "POST",
        f"/api/v2/certificates/{issued['id']}/export",
        json={"format": "key"},
    )
    assert b"PRIVATE KEY" in key
    line = key.splitlines()[2]
    files = [path for path in server.data_dir.rglob("*") if path.is_file()]
    for path in [*files, server.log_file]:
        content = path.read_bytes()
        assert line not in content, path
        assert server.api_key.encode() not in content, path
    assert b"ENC:" in b"".join(p.read_bytes() for p in files if p.suffix in {".db", ".db-wal"})
    assert json.dumps(server.call("GET", "/api/v2/audit/logs")).count("PRIVATE KEY") == 0
