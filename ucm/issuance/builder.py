"""The only place that assembles certificates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ucm.api.issuance import CertificateDraft
from ucm.api.keys import SignatureScheme
from ucm.api.private_keys import hash_of, rsa_padding_of
from ucm.api.publickeys import load_spki
from ucm.api.services import Clock, Ids
from ucm.api.x509 import key_usage, parse_general_name
from ucm.domain.validity import BACKDATE

SELF_MADE_VALIDITY = timedelta(days=397)

_STAND_INS: dict[str, Callable[[], CertificateIssuerPrivateKeyTypes]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
}


class ThrowawayKeys:
    """Keys that stand in for the issuer's while linting: one per algorithm and process.

    What is signed depends on the algorithm only, so that RSA-2048 stands in for every RSA size and
    P-256 for every curve.
    """

    def __init__(self) -> None:
        self._keys: dict[str, CertificateIssuerPrivateKeyTypes] = {}
        self._lock = threading.Lock()

    def key_for(self, scheme: SignatureScheme) -> CertificateIssuerPrivateKeyTypes:
        """A key that signs by the scheme. It certifies nothing that anybody trusts."""
        kind = scheme.value
        if kind.startswith(("rsa-", "ecdsa-")):
            kind = kind.partition("-")[0]
        key = self._keys.get(kind)
        if key is None:
            with self._lock:
                key = self._keys.setdefault(kind, _STAND_INS[kind]())
        return key


def build(draft: CertificateDraft, key: CertificateIssuerPrivateKeyTypes) -> x509.Certificate:
    """The draft as a certificate signed by ``key``, whose kind must fit ``draft.scheme``."""
    public_key: Any = load_spki(draft.public_key)
    builder = x509.CertificateBuilder(
        issuer_name=draft.issuer,
        subject_name=draft.subject,
        public_key=public_key,
        serial_number=draft.serial,
        not_valid_before=_naive(draft.not_before),
        not_valid_after=_naive(draft.not_after),
        extensions=list(draft.extensions),
    )
    hashing = hash_of(draft.scheme)
    padding = rsa_padding_of(draft.scheme)
    if padding is None:
        return builder.sign(key, hashing)
    return builder.sign(key, hashing, rsa_padding=padding)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def server_certificate(
    names: Sequence[str], *, clock: Clock, ids: Ids, validity: timedelta = SELF_MADE_VALIDITY
) -> tuple[bytes, bytes]:
    """A self-signed TLS certificate and its P-256 key, both PEM, for the server itself.

    It is no authority and vouches for nothing but its own key; an issued one replaces it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    start = clock.now().replace(microsecond=0) - BACKDATE
    public_key = key.public_key()
    values: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage(["digitalSignature"]), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([parse_general_name(name) for name in names]), False),
    ]
    builder = x509.CertificateBuilder(
        issuer_name=subject,
        subject_name=subject,
        public_key=public_key,
        serial_number=ids.serial(),
        not_valid_before=_naive(start),
        not_valid_after=_naive(start + BACKDATE + validity),
        extensions=[x509.Extension(value.oid, critical, value) for value, critical in values],
    )
    certificate = builder.sign(key, hash_of(SignatureScheme.ECDSA_SHA256))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), pem
