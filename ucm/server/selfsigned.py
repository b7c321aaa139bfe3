"""The certificate that the server makes for itself when it has none."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from ucm.api.errors import Invalid
from ucm.api.names import parse_general_name
from ucm.api.services import Clock, Ids
from ucm.issuance.builder import server_certificate
from ucm.server.config import ServerConfig
from ucm.server.tls import TLSUnusable

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
    pem, key_pem = server_certificate(_distinct(names), clock=clock, ids=ids)
    certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(key, key_pem, mode=0o600)
    _replace(certificate, pem, mode=0o644)
    return True


def _distinct(names: list[str]) -> list[str]:
    unspecified = {"0.0.0.0", "::", ""}  # noqa: S104 - names that mean every address, not a listener
    fit = []
    for name in names:
        try:
            parse_general_name(name)
        except Invalid:
            continue  # a machine may be called what no certificate can say
        fit.append(name)
    return list(dict.fromkeys(name for name in fit if name not in unspecified))


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
