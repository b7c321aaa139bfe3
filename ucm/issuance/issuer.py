"""What issuing needs to know of an authority, worked out once per version of its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from ucm.api.keys import KeySpec
from ucm.api.publickeys import spec_of
from ucm.api.views import CaView
from ucm.domain.nameconstraints import Constraints, constraints_of


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authority about to sign."""

    ca: CaView
    public_key: Any
    spec: KeySpec | None
    authority_key_id: x509.AuthorityKeyIdentifier
    path_length: int | None
    constraints: tuple[Constraints, ...]
    """Of the authority itself and of everything above it."""
    subject: x509.Name
    """The name as it stands in the authority's certificate, string types included."""
    subject_der: bytes
    revoked: str | None
    """The name of the revoked authority on the way to the root, itself included."""


def issuer_of(ca: CaView, *, above: Sequence[CaView]) -> Issuer:
    """``above`` are the authorities from the parent to the root, as far as they are known."""
    certificate = ca.certificate
    public_key = certificate.public_key()
    chain = [constraints_of(c.certificate) for c in (ca, *above)]
    return Issuer(
        ca=ca,
        public_key=public_key,
        spec=spec_of(public_key),
        authority_key_id=authority_key_id(certificate),
        path_length=_tightest_path_length(ca, above),
        constraints=tuple(c for c in chain if c is not None),
        subject=certificate.subject,
        subject_der=certificate.subject.public_bytes(),
        revoked=next((c.name for c in (ca, *above) if c.revoked), None),
    )


def authority_key_id(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The issuer's own SubjectKeyIdentifier value, whatever method made it (RFC 5280 4.2.1.1)."""
    try:
        ski = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key: Any = certificate.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def _path_length_of(certificate: x509.Certificate) -> int | None:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return None
    return found.value.path_length


def _tightest_path_length(ca: CaView, above: Sequence[CaView]) -> int | None:
    """How many authorities may follow below ``ca``, by it and by all above it (RFC 5280 6.1.4 l,
    m)."""
    tightest = _path_length_of(ca.certificate)
    for distance, parent in enumerate(above, start=1):
        limit = _path_length_of(parent.certificate)
        if limit is not None:
            left = max(limit - distance, 0)
            tightest = left if tightest is None else min(tightest, left)
    return tightest
