"""PKCS#10 intake (RFC 2986): read strictly, verify possession, keep what the requester asks for as
data.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509

from ucm.api.keys import KeySpec


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateRequest:
    """A certification request whose signature was verified and whose key is of an accepted kind.

    Made by ``parse_csr`` only. ``key_usage`` and ``extended_key_usage`` are wishes; a profile
    decides.
    """

    der: bytes = field(repr=False)
    subject: x509.Name
    names: tuple[x509.GeneralName, ...]
    public_key: bytes = field(repr=False)
    """SubjectPublicKeyInfo, DER."""
    key_spec: KeySpec
    key_usage: frozenset[str] = frozenset()
    extended_key_usage: tuple[str, ...] = ()
    wants_ca: bool = False
    must_staple: bool = False
    challenge_password: str | None = field(default=None, repr=False)
    ignored_extensions: tuple[str, ...] = ()
    """Dotted OIDs that were present and are never taken from a requester."""
