"""Chains: from a certificate to its root, through the authorities as they were when they signed.

An authority that was renewed with a new key has several certificates. What it signed before chains
to the older one; the key identifiers say which (RFC 5280 4.2.1.1).
"""

from __future__ import annotations

from cryptography import x509

from ucm.api.views import CaView
from ucm.store.uow import Repositories

_LONGEST = 32


def subject_key_id(certificate: x509.Certificate) -> str | None:
    """Lower-case hex of the subject key identifier, if there is one."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return found.value.digest.hex()


def authority_key_id(certificate: x509.Certificate) -> str | None:
    """Lower-case hex of the issuer's key identifier, if there is one."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    identifier = found.value.key_identifier
    return identifier.hex() if identifier else None


def issuers_of(reader: Repositories, *, ca_id: int | None, key_id: str | None) -> list[bytes]:
    """DER of the issuers of a certificate, nearest first, as far as they are known.

    ``ca_id`` is the authority that issued it, ``key_id`` its authority key identifier.
    """
    chain: list[bytes] = []
    seen: set[int] = set()
    while ca_id is not None and ca_id not in seen and len(chain) < _LONGEST:
        seen.add(ca_id)
        ca = reader.cas.find(ca_id)
        if ca is None:
            break
        certificate, der = _certificate_with(reader, ca, key_id)
        chain.append(der)
        ca_id, key_id = ca.parent_id, authority_key_id(certificate)
    return chain


def _certificate_with(
    reader: Repositories, ca: CaView, key_id: str | None
) -> tuple[x509.Certificate, bytes]:
    """The newest certificate of the authority with that key; its present one when none has it."""
    if key_id is None or subject_key_id(ca.certificate) == key_id:
        return ca.certificate, ca.der
    older = reader.certificates.get(ca.certificate_id, der=False).renews
    while older is not None:
        view = reader.certificates.get(older)
        if view.subject_key_id == key_id:
            return x509.load_der_x509_certificate(view.der), view.der
        older = view.renews
    return ca.certificate, ca.der
