"""Fakes that stand in for time, chance and a key store, so that tests can compare whole results."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from ucm.api.errors import Invalid, KeyUnavailable, Unsupported
from ucm.api.keys import (
    BackendStatus,
    KeyCapability,
    KeyRecord,
    KeySpec,
    SignatureScheme,
    SigningKey,
)

START = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 1000.0

    def now(self) -> datetime:
        """Aware UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds; moves with ``advance`` only."""
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        if by < timedelta(0):
            raise ValueError("time does not go back; make another clock")
        self._now += by
        self._monotonic += by.total_seconds()


class SequenceIds:
    """Identifiers that count: the same test makes the same ones each time."""

    def __init__(self, *, first: int = 1) -> None:
        self._numbers = itertools.count(first)

    def new_id(self) -> str:
        """A UUID-shaped text that counts."""
        return f"00000000-0000-4000-8000-{next(self._numbers):012d}"

    def serial(self) -> int:
        """A serial with 127 bits whose low part counts."""
        return 1 << 126 | next(self._numbers)

    def token(self, size: int = 32) -> str:
        """URL-safe text of ``size`` bytes made from a counter: distinct, and no secret."""
        seed = hashlib.sha256(str(next(self._numbers)).encode()).digest()
        data = (seed * (size // len(seed) + 1))[:size]
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class _MemoryKey:
    """An opened key of ``MemoryKeyBackend``."""

    def __init__(
        self, backend: MemoryKeyBackend, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    ) -> None:
        self._backend = backend
        self._key = key

    def __repr__(self) -> str:
        return "<key in memory>"

    def public_key(self) -> CertificatePublicKeyTypes:
        """The public half."""
        return self._key.public_key()

    def sign(self, data: bytes, scheme: SignatureScheme) -> bytes:
        """The signature. Raises ``Unsupported`` for a scheme that does not fit the key."""
        self._backend.count_signature()
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            if scheme is SignatureScheme.ED25519:
                return self._key.sign(data)
        elif scheme in _ECDSA:
            return self._key.sign(data, ec.ECDSA(_ECDSA[scheme]))
        raise Unsupported(f"This key cannot sign with {scheme.value}.")


_ECDSA: dict[SignatureScheme, hashes.HashAlgorithm] = {
    SignatureScheme.ECDSA_SHA256: hashes.SHA256(),
    SignatureScheme.ECDSA_SHA384: hashes.SHA384(),
    SignatureScheme.ECDSA_SHA512: hashes.SHA512(),
}
_CURVES: dict[KeySpec, ec.EllipticCurve] = {
    KeySpec.EC_P256: ec.SECP256R1(),
    KeySpec.EC_P384: ec.SECP384R1(),
    KeySpec.EC_P521: ec.SECP521R1(),
}


class MemoryKeyBackend:
    """A key store that forgets everything when its process ends, and can be told to fail.

    ``signatures`` counts real signatures: a test that expects a refusal checks that it stays 0.
    ``local`` false makes the pipeline take the long way, as it does for tokens and networks.
    """

    capabilities = frozenset({KeyCapability.SIGN, KeyCapability.EXPORT})

    def __init__(self, *, kind: str = "memory", local: bool = True) -> None:
        self.kind = kind
        self.local = local
        self.signatures = 0
        self.unavailable: str | None = None
        self._keys: dict[str, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey] = {}
        self._numbers = itertools.count(1)

    def count_signature(self) -> None:
        """Called by its keys before each signature."""
        self._available()
        self.signatures += 1

    def specs(self) -> Sequence[KeySpec]:
        """NIST curves and Ed25519."""
        return (*_CURVES, KeySpec.ED25519)

    def generate(self, spec: KeySpec, *, label: str) -> KeyRecord:
        """Make a key."""
        self._available()
        if spec is KeySpec.ED25519:
            key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
            key = ed25519.Ed25519PrivateKey.generate()
        elif spec in _CURVES:
            key = ec.generate_private_key(_CURVES[spec])
        else:
            allowed = ", ".join(item.value for item in self.specs())
            raise Unsupported(f"{self.kind} cannot make {spec.value}; it makes {allowed}.")
        name = f"{label}-{next(self._numbers)}"
        self._keys[name] = key
        return KeyRecord(backend=self.kind, spec=spec, locator={"name": name})

    @contextlib.contextmanager
    def open(self, record: KeyRecord) -> Iterator[SigningKey]:
        """Use a key. Raises ``Invalid`` for a record of another backend."""
        self._available()
        yield _MemoryKey(self, self._find(record))

    def export_key(self, record: KeyRecord) -> bytes:
        """Unencrypted PKCS#8 DER."""
        self._available()
        return self._find(record).private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def destroy(self, record: KeyRecord) -> None:
        """Forget the key."""
        self._mine(record)
        self._keys.pop(str(record.locator.get("name")), None)

    def probe(self) -> BackendStatus:
        """Available unless told otherwise."""
        return BackendStatus(self.unavailable is None, self.unavailable or "")

    def _find(self, record: KeyRecord) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
        self._mine(record)
        key = self._keys.get(str(record.locator.get("name")))
        if key is None:
            raise KeyUnavailable("The key is not in memory (destroyed, or of an earlier process).")
        return key

    def _mine(self, record: KeyRecord) -> None:
        if record.backend != self.kind:
            raise Invalid(f"The key record belongs to {record.backend!r}, not to {self.kind!r}.")

    def _available(self) -> None:
        if self.unavailable is not None:
            raise KeyUnavailable(self.unavailable)
