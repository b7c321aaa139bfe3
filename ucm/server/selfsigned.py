"""The certificate that the server makes for itself when it has none."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ucm.api.services import Clock, Ids
from ucm.server.config import ServerConfig
from ucm.server.tls import TLSUnusable

VALIDITY = timedelta(days=397)
RENEW_BEFORE = timedelta(days=30)


def ensure_server_certificate(config: ServerConfig, *, clock: Clock, ids: Ids) -> bool:
    """Make `<data_dir>/tls/server.crt` and `server.key` (0600) when they are missing; True when it
    did.

    A certificate that UCM signed with its own key is made again 30 days before it ends; any other
    is left alone. Raises TLSUnusable when one file of the pair is missing or a configured path
    does not exist.
    """
    certificate, key = config.certificate_path, config.private_key_path
    there = (certificate.exists(), key.exists())
    if all(there):
        if config.tls_certificate is not None or not _is_own_and_ending(certificate, clock=clock):
            return False
    elif any(there) or config.tls_certificate is not None:
        missing = key if there[0] else certificate
        raise TLSUnusable(
            f"{missing} is missing; put the file there, or remove its partner too and the server "
            "makes both"
        )
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname(), config.host]
    pem, key_pem = _server_certificate(_distinct(names), clock=clock, ids=ids)
    certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(key, key_pem, mode=0o600)
    _replace(certificate, pem, mode=0o644)
    return True


def _distinct(names: list[str]) -> list[str]:
    unspecified = {"0.0.0.0", "::", ""}  # noqa: S104 - names that mean every address, not a listener
    return list(dict.fromkeys(name for name in names if name not in unspecified))


def _is_own_and_ending(path: Path, *, clock: Clock) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        return False
    ending = certificate.not_valid_after_utc - clock.now() < RENEW_BEFORE
    return ending and certificate.subject == certificate.issuer


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _server_certificate(names: list[str], *, clock: Clock, ids: Ids) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    begin = clock.now() - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()  # noqa: TID251 - until the issuance builder offers it
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(ids.serial())
        .not_valid_before(begin)
        .not_valid_after(begin + VALIDITY)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key_pem


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
