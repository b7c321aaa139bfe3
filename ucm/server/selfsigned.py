"""The certificate that the server makes for itself when it has none."""

from __future__ import annotations

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
from ucm.services.tls_files import TLSFiles

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
    names = [
        *_present_names(certificate),
        "localhost",
        "127.0.0.1",
        "::1",
        socket.gethostname(),
        config.host,
    ]
    pem, key_pem = server_certificate(_distinct(names), clock=clock, ids=ids)
    with TLSFiles(config.data_dir).replacing(chain_pem=pem, key_pem=key_pem):
        return True


def _present_names(path: Path) -> list[str]:
    """The names of the certificate that is replaced, so that clients find them again."""
    if not path.exists():
        return []
    found = x509.load_pem_x509_certificate(path.read_bytes()).extensions
    try:
        names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *(str(ip) for ip in addresses)]


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
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    left = certificate.not_valid_after_utc - clock.now()
    ending = left < min(RENEW_BEFORE, lifetime / 3)  # made by an administrator, it may be short
    return ending and certificate.subject == certificate.issuer
