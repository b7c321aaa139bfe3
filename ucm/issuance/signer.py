"""The only user of authorities' keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ucm.api.actor import Actor
from ucm.api.der import content_of, end_of, value_of
from ucm.api.errors import Invalid, KeyUnavailable, PolicyDenied
from ucm.api.issuance import Operation
from ucm.api.keys import KeyPurpose, KeyRecord, KeyRef
from ucm.api.private_keys import verify
from ucm.api.publickeys import spki_der
from ucm.issuance.custody import Custody
from ucm.issuance.guards import Guards
from ucm.issuance.lint import SigningTicket


@dataclass(frozen=True, slots=True)
class Signed:
    """A finished certificate."""

    der: bytes
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class CAKey:
    """An authority's key: ``ref`` is ``None`` for a key that is stored with its own certificate."""

    record: KeyRecord
    public_key: Any
    ref: KeyRef | None = None


class Signer:
    """Signs what the linter passed, and nothing else."""

    def __init__(self, custody: Custody, guards: Guards) -> None:
        self._custody = custody
        self._guards = guards

    def is_local(self, key: CAKey) -> bool:
        """Whether signing with the key is in-process and quick."""
        return self._custody.is_local(key.record)

    def check_belongs(self, record: KeyRecord, *, public_key: bytes) -> None:
        """Whether a kept key is the private half of what is certified (SPKI DER).

        Raises ``Invalid`` (``key-mismatch``), and ``KeyUnavailable`` when it cannot be looked at.
        """
        with self._custody.open(record) as opened:
            own = spki_der(opened.public_key())
        if own != public_key:
            raise Invalid.field(
                "/key",
                "key-mismatch",
                "The private key that is to be kept with the certificate does not belong to the "
                "public key that is certified.",
                hint="Give the public key of that private key, or leave the private key out.",
            )

    def permit(self, key: CAKey, *, actor: Actor) -> None:
        """Ask the guards of key use. Raises ``PolicyDenied`` or ``PluginUnavailable``."""
        self._guards.require(Operation.KEY_USE)
        if key.ref is None:
            return
        denials = self._guards.before_key_use(key.ref, KeyPurpose.CA, actor)
        if denials:
            raise PolicyDenied(denials)

    def sign(self, ticket: SigningTicket, *, key: CAKey, actor: Actor) -> Signed:
        """The certificate of a ticket. Raises ``KeyUnavailable`` when the key cannot be used or
        is not the authority's, ``PolicyDenied`` when a guard forbids its use.

        What is returned holds the linted bytes, and its signature was verified with the
        authority's public key.
        """
        self.permit(key, actor=actor)
        tbs = ticket.redeem()
        scheme = ticket.draft.scheme
        with self._custody.open(key.record) as opened:
            signature = opened.sign(tbs, scheme)
        try:
            verify(key.public_key, signature=signature, data=tbs, scheme=scheme)
        except InvalidSignature:
            raise KeyUnavailable(
                "The stored key does not belong to the authority's certificate: its signature "
                "does not verify. Nothing was issued.",
                hint="Restore the authority's own key.",
            ) from None
        der = _assembled(tbs, signature)
        certificate = x509.load_der_x509_certificate(der)
        if certificate.tbs_certificate_bytes != tbs:
            raise RuntimeError("the assembled certificate does not hold the linted bytes")
        return Signed(der, certificate)


def _assembled(tbs: bytes, signature: bytes) -> bytes:
    """Certificate ::= SEQUENCE { tbs, signatureAlgorithm, signature } (RFC 5280 4.1); the algorithm
    is copied from inside the signed part, with which it must be identical (4.1.1.2).
    """
    start = end_of(tbs, end_of(tbs, content_of(tbs)))  # after version and serialNumber
    algorithm = tbs[start : end_of(tbs, start)]
    bits = value_of(0x03, b"\x00" + signature)
    return value_of(0x30, tbs + algorithm + bits)
