"""Keys and where they live: the contract between the core and key backends.

A backend implements ``KeyBackend``; the core alone opens CA keys. Plugins open only their own,
non-CA keys, through ``PluginContext.keys``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes


class KeySpec(enum.Enum):
    """The key algorithms UCM makes and accepts; everything else is refused."""

    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    RSA_4096 = "RSA-4096"
    RSA_8192 = "RSA-8192"
    EC_P256 = "EC-P256"
    EC_P384 = "EC-P384"
    EC_P521 = "EC-P521"
    ED25519 = "ED25519"
    ED448 = "ED448"
    ML_DSA_44 = "ML-DSA-44"
    ML_DSA_65 = "ML-DSA-65"
    ML_DSA_87 = "ML-DSA-87"


class SignatureScheme(enum.Enum):
    """How bytes are signed; the message is always the full data, never a digest."""

    RSA_PKCS1_SHA256 = "rsa-pkcs1-sha256"
    RSA_PKCS1_SHA384 = "rsa-pkcs1-sha384"
    RSA_PKCS1_SHA512 = "rsa-pkcs1-sha512"
    RSA_PSS_SHA256 = "rsa-pss-sha256"
    RSA_PSS_SHA384 = "rsa-pss-sha384"
    RSA_PSS_SHA512 = "rsa-pss-sha512"
    ECDSA_SHA256 = "ecdsa-sha256"
    ECDSA_SHA384 = "ecdsa-sha384"
    ECDSA_SHA512 = "ecdsa-sha512"
    ED25519 = "ed25519"
    ED448 = "ed448"
    ML_DSA_44 = "ml-dsa-44"
    ML_DSA_65 = "ml-dsa-65"
    ML_DSA_87 = "ml-dsa-87"


class KeyCapability(enum.Enum):
    """What a backend can do besides making and using keys."""

    SIGN = "sign"
    IMPORT = "import"
    EXPORT = "export"
    DECRYPT = "decrypt"
    OFFLINE = "offline"
    ATTEST = "attest"


class KeyPurpose(enum.Enum):
    """What a key is for, fixed when it is made. Plugins can never open a ``CA`` key."""

    CA = "ca"
    OCSP = "ocsp"
    TSA = "tsa"
    SCEP_RA = "scep-ra"
    TLS = "tls"
    ACME_ACCOUNT = "acme-account"
    SUBJECT = "subject"
    """The key of a certificate's subject, kept for its owner (server-side generation)."""


@dataclass(frozen=True, slots=True)
class KeyRef:
    """Identity of a stored key; says nothing about where it lives."""

    id: int
    purpose: KeyPurpose


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What a backend needs to find a key again, stored by the core.

    ``locator`` is plain JSON and never secret (slot, label, key id). A backend that keeps the key
    with its record puts it, sealed by ``PluginContext.sealer``, into ``sealed`` (text that starts
    with ``ENC:``).
    """

    backend: str
    spec: KeySpec
    locator: Mapping[str, str | int | bool] = field(default_factory=dict)
    sealed: str | None = field(default=None, repr=False)


@runtime_checkable
class SigningKey(Protocol):
    """An opened private key. Thread-safe.
    Raises ``KeyUnavailable`` when the store behind it is gone.
    """

    def public_key(self) -> CertificatePublicKeyTypes:
        """The public half."""
        ...

    def sign(self, data: bytes, scheme: SignatureScheme) -> bytes:
        """The signature in the encoding X.509 expects (ECDSA: DER).
        Raises ``Unsupported`` for a foreign scheme.
        """
        ...


@runtime_checkable
class DecryptionKey(SigningKey, Protocol):
    """What ``open`` returns from a backend with ``KeyCapability.DECRYPT`` for an RSA key."""

    def decrypt(self, ciphertext: bytes, *, oaep: bool) -> bytes:
        """RSA decryption, PKCS#1 v1.5 or OAEP with SHA-256.
        Raises ``Invalid`` when it does not decrypt.
        """
        ...


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Answer of ``probe``: can keys be used now, and if not, what to do."""

    available: bool
    detail: str = ""


@runtime_checkable
class KeyBackend(Protocol):
    """A place where private keys live. All methods are thread-safe; none is called before
    ``ucm_start``.

    Every method may raise ``KeyUnavailable``; ``generate`` raises ``Unsupported`` for a spec not in
    ``specs()``.
    """

    kind: str
    capabilities: frozenset[KeyCapability]
    local: bool
    """Signing is in-process and quick: issuance may then hold its transaction open while signing.
    """

    def specs(self) -> Sequence[KeySpec]:
        """What it can generate and use."""
        ...

    def generate(self, spec: KeySpec, *, label: str) -> KeyRecord:
        """Make a key. The caller stores the record in the same transaction that needs it."""
        ...

    def open(self, record: KeyRecord) -> AbstractContextManager[SigningKey]:
        """Use a key. Raises ``Invalid`` when the record is not of this backend."""
        ...

    def destroy(self, record: KeyRecord) -> None:
        """Make the key unusable for ever; quiet when it is already gone."""
        ...

    def probe(self) -> BackendStatus:
        """Quick check without side effects."""
        ...


@runtime_checkable
class ImportingKeyBackend(KeyBackend, Protocol):
    """A backend with ``KeyCapability.IMPORT``."""

    def import_key(self, pkcs8: bytes, *, label: str) -> KeyRecord:
        """Take over a private key (unencrypted PKCS#8 DER).
        Raises ``Unsupported`` for other algorithms.
        """
        ...


@runtime_checkable
class ExportingKeyBackend(KeyBackend, Protocol):
    """A backend with ``KeyCapability.EXPORT``."""

    def export_key(self, record: KeyRecord) -> bytes:
        """The private key as unencrypted PKCS#8 DER; the core encrypts and audits."""
        ...
