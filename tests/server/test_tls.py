"""Certificates on both sides of the handshake."""

from __future__ import annotations

import json
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from tests.server.conftest import eventually, read_all
from ucm.runtime.clock import SystemClock, SystemIds
from ucm.server.config import ServerConfig
from ucm.server.selfsigned import ensure_server_certificate
from ucm.server.tls import FileTLSMaterialSource, TLSContexts, TLSUnusable

DAY = timedelta(days=1)


class Pair:
    """A certificate and its key."""

    def __init__(
        self, name: str, *, issuer: Pair | None = None, ca: bool = False, key=None
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + 90 * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
        )
        self.certificate = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def key_pem(self, password: bytes | None = None) -> bytes:
        sealing = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing)

    def store(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Put both in place by renaming, the key first."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, content in ((paths[1], self.key_pem()), (paths[0], self.pem)):
            new = path.with_suffix(".tmp")
            new.write_bytes(content)
            new.replace(path)
        return paths


def tls_of(server, *, version: ssl.TLSVersion, client: tuple[Path, Path] | None) -> dict:
    context = server.tls()
    context.minimum_version = context.maximum_version = version
    if client:
        context.load_cert_chain(*client)
    with (
        socket.create_connection(("127.0.0.1", server.https), 10) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        tls.sendall(b"GET /environ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        told = json.loads(read_all(tls).partition(b"\r\n\r\n")[2])["tls"]
        if version is ssl.TLSVersion.TLSv1_2:
            told["client_unique"] = tls.get_channel_binding("tls-unique").hex()
        return told


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture
def authority() -> Pair:
    return Pair("Client CA", ca=True)


@pytest.mark.parametrize("version", VERSIONS)
class TestClientCertificates:
    @pytest.fixture
    def server(self, start, tmp_path, authority):
        (tmp_path / "tls").mkdir()
        (tmp_path / "tls" / "client-ca.pem").write_bytes(authority.pem)
        return start()

    def test_the_application_sees_it(self, server, tmp_path, authority, version):
        client = Pair("alice", issuer=authority)
        told = tls_of(server, version=VERSIONS[version], client=client.store(tmp_path, "alice"))
        assert told["version"] == version
        assert bytes.fromhex(told["peer"]) == client.der

    def test_it_is_optional(self, server, version):
        told = tls_of(server, version=VERSIONS[version], client=None)
        assert told["peer"] is None

    def test_tls_unique_is_there_where_it_is_defined(self, server, version):
        told = tls_of(server, version=VERSIONS[version], client=None)
        if version == "TLSv1.3":
            assert told["tls_unique"] is None
        else:
            assert told["tls_unique"] == told["client_unique"]

    def test_one_of_an_unknown_authority_fails_the_handshake(self, server, tmp_path, version):
        stranger = Pair("mallory", issuer=Pair("Client CA", ca=True))
        with pytest.raises((ssl.SSLError, ConnectionResetError, json.JSONDecodeError)) as failure:
            tls_of(server, version=VERSIONS[version], client=stranger.store(tmp_path, "mallory"))
        if failure.type is json.JSONDecodeError:
            # TLS 1.3: the client learns it with the first read; nothing was answered.
            assert "Expecting value" in str(failure.value)

    def test_an_authority_added_while_the_server_runs_counts_at_once(
        self, server, tmp_path, authority, version
    ):
        added = Pair("Another CA", ca=True)
        client = Pair("bob", issuer=added)
        paths = client.store(tmp_path, "bob")
        new = tmp_path / "tls" / "new"
        new.write_bytes(authority.pem + added.pem)
        new.replace(tmp_path / "tls" / "client-ca.pem")
        told = tls_of(server, version=VERSIONS[version], client=paths)
        assert bytes.fromhex(told["peer"]) == client.der


def test_the_first_authority_added_while_the_server_runs_counts_at_once(start, tmp_path, authority):
    server = start()
    client = Pair("alice", issuer=authority)
    paths = client.store(tmp_path, "alice")
    # No authority yet: none is asked for, so the client's own choice of certificate does no harm.
    told = tls_of(server, version=ssl.TLSVersion.TLSv1_3, client=paths)
    assert told["peer"] is None
    (tmp_path / "tls" / "client-ca.pem").write_bytes(authority.pem)
    told = tls_of(server, version=ssl.TLSVersion.TLSv1_3, client=paths)
    assert bytes.fromhex(told["peer"]) == client.der


def test_authorities_of_the_application_count_soon(start, tmp_path, authority):
    server = start()
    client = Pair("alice", issuer=authority)
    paths = client.store(tmp_path, "alice")
    (tmp_path / "ca.authority").write_bytes(authority.der)

    def peer() -> str | None:
        return tls_of(server, version=ssl.TLSVersion.TLSv1_3, client=paths)["peer"]

    assert bytes.fromhex(eventually(peer)) == client.der
    eventually(lambda: all(peer() for _ in range(12)))  # every worker asks for itself
    (tmp_path / "authorities-fail").touch()
    eventually(lambda: server.log.count("the known ones stay") >= 1)
    assert bytes.fromhex(peer()) == client.der


def served_certificate(server, *, name: str | None = "localhost") -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", server.https), 10) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        return tls.getpeercert(binary_form=True)


def test_a_new_certificate_is_served_at_once_and_open_connections_go_on(start, tmp_path):
    server = start()
    first = served_certificate(server)
    client = server.client()
    client.request("GET", "/hello")
    assert client.getresponse().read() == b"hello\n"
    under_way = server.client()
    under_way.request("GET", "/sleep/1.0")

    replacement = Pair("localhost", key=rsa.generate_private_key(65537, 2048))
    replacement.store(tmp_path / "tls", "server")
    for name in ("localhost", None, None, "localhost"):
        assert served_certificate(server, name=name) == replacement.der
    assert replacement.der != first

    client.request("GET", "/hello")
    assert client.getresponse().read() == b"hello\n"
    assert under_way.getresponse().read() == b"slept\n"
    client.close()
    under_way.close()


def test_an_unusable_replacement_is_logged_and_the_old_certificate_stays(start, tmp_path):
    server = start()
    first = served_certificate(server)
    (tmp_path / "tls" / "server.key").write_bytes(Pair("other").key_pem())
    assert served_certificate(server) == first
    (tmp_path / "tls" / "server.crt").unlink()
    assert served_certificate(server) == first
    eventually(lambda: "stays in use" in server.log)
    assert "PRIVATE" not in server.log
    repaired = Pair("localhost")
    repaired.store(tmp_path / "tls", "server")
    assert served_certificate(server) == repaired.der


def test_tls_1_1_is_refused(served):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", served.https), 10) as sock,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
        context.wrap_socket(sock),
    ):
        pass


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_resume_in_every_worker(start, version):
    server = start(workers=2)
    context = server.tls()
    context.maximum_version = VERSIONS[version]
    session, pids = None, set()
    for attempt in range(60):
        with (
            socket.create_connection(("127.0.0.1", server.https), 10) as sock,
            context.wrap_socket(sock, server_hostname="localhost", session=session) as tls,
        ):
            assert tls.session_reused == (attempt > 0)
            tls.sendall(b"GET /pid HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            pids.add(json.loads(read_all(tls).partition(b"\r\n\r\n")[2])["pid"])
            session = tls.session
        if len(pids) > 1:
            return
    pytest.skip("one worker took every connection")


class TestOwnCertificate:
    @pytest.fixture
    def config(self, tmp_path):
        return ServerConfig(data_dir=tmp_path)

    def make(self, config: ServerConfig, *, ahead: timedelta = timedelta()) -> bool:
        class LaterClock(SystemClock):
            def now(self) -> datetime:
                return super().now() + ahead

        return ensure_server_certificate(config, clock=LaterClock(), ids=SystemIds())

    def test_is_made_once_and_names_this_machine(self, config):
        assert self.make(config) is True
        assert self.make(config) is False
        assert config.private_key_path.stat().st_mode & 0o777 == 0o600
        assert config.private_key_path.parent.stat().st_mode & 0o777 == 0o700
        certificate = x509.load_pem_x509_certificate(config.certificate_path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "localhost" in names.get_values_for_type(x509.DNSName)
        assert {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} == {
            "127.0.0.1",
            "::1",
        }
        assert isinstance(certificate.public_key().curve, ec.SECP256R1)

    def test_is_made_again_before_it_ends(self, config):
        self.make(config)
        assert self.make(config, ahead=360 * DAY) is False
        assert self.make(config, ahead=370 * DAY) is True

    def test_one_that_another_authority_signed_is_left_alone(self, config):
        pair = Pair("localhost", issuer=Pair("CA", ca=True))
        pair.store(config.certificate_path.parent, "server")
        assert self.make(config, ahead=360 * DAY) is False
        assert config.certificate_path.read_bytes() == pair.pem

    def test_half_a_pair_is_an_error_that_says_what_to_do(self, config):
        self.make(config)
        config.private_key_path.unlink()
        with pytest.raises(TLSUnusable, match=r"server\.key is missing; put the file there"):
            self.make(config)

    def test_configured_files_are_never_made(self, tmp_path):
        config = ServerConfig(
            data_dir=tmp_path,
            tls_certificate=tmp_path / "mine.crt",
            tls_private_key=tmp_path / "mine.key",
        )
        with pytest.raises(TLSUnusable, match=r"mine\.crt is missing"):
            self.make(config)
        assert not list(tmp_path.iterdir())


class TestUnusableMaterial:
    def contexts(self, tmp_path: Path) -> TLSContexts:
        source = FileTLSMaterialSource(ServerConfig(data_dir=tmp_path))
        return TLSContexts(source, request_client_certificate=True)

    def test_an_encrypted_key(self, tmp_path):
        pair = Pair("localhost")
        _, key = pair.store(tmp_path / "tls", "server")
        key.write_bytes(pair.key_pem(b"secret"))
        with pytest.raises(TLSUnusable, match="encrypted"):
            self.contexts(tmp_path)

    def test_a_key_of_another_certificate(self, tmp_path):
        _, key = Pair("localhost").store(tmp_path / "tls", "server")
        key.write_bytes(Pair("other").key_pem())
        with pytest.raises(TLSUnusable, match="KEY_VALUES_MISMATCH"):
            self.contexts(tmp_path)

    def test_files_that_are_not_pem(self, tmp_path):
        certificate, _ = Pair("localhost").store(tmp_path / "tls", "server")
        certificate.write_bytes(b"nonsense")
        with pytest.raises(TLSUnusable, match="PEM chain"):
            self.contexts(tmp_path)

    def test_missing_files(self, tmp_path):
        with pytest.raises(TLSUnusable, match=r"cannot read .*server\.crt"):
            self.contexts(tmp_path)

    def test_anchors_that_are_not_certificates(self, tmp_path):
        Pair("localhost").store(tmp_path / "tls", "server")
        (tmp_path / "tls" / "client-ca.pem").write_bytes(b"nonsense")
        with pytest.raises(TLSUnusable, match=r"client-ca\.pem"):
            self.contexts(tmp_path)

    def test_the_key_stays_out_of_the_text_form(self, tmp_path):
        Pair("localhost").store(tmp_path / "tls", "server")
        material = FileTLSMaterialSource(ServerConfig(data_dir=tmp_path)).current()
        assert "PRIVATE" not in repr(material)

    def test_reading_the_key_leaves_no_descriptor_open(self, tmp_path):
        Pair("localhost").store(tmp_path / "tls", "server")
        before = open_descriptors()
        self.contexts(tmp_path)
        assert open_descriptors() == before
