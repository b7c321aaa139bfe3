"""The key backend: PKCS#8 sealed into the key's own record."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from ucm.api.errors import Invalid, KeyUnavailable, SafeMode, Unsupported
from ucm.api.keys import BackendStatus, KeyCapability, KeyRecord, KeySpec, SigningKey
from ucm.api.publickeys import accepted_spec, spec_of, spki_der, spki_sha256
from ucm.api.services import Sealer
from ucm_softkeys.algorithms import PrivateKey, available_specs, make, names
from ucm_softkeys.signing import signing_key

KIND = "softkeys"
_SPKI = "spki_sha256"
_SEALED_PREFIX = "ENC:"
_Identity = tuple[str, str | None, KeySpec, tuple[tuple[str, str | int | bool], ...]]


class SoftKeyBackend:
    """Implements `ImportingKeyBackend` and `ExportingKeyBackend` for every `KeySpec`.

    A record is complete in itself: `sealed` holds the PKCS#8 DER under the master key, `locator`
    the SHA-256 of the public key, so that a record whose sealed text was exchanged does not open.
    The backend itself keeps nothing but at most `cache_size` opened keys.
    """

    kind = KIND
    capabilities = frozenset(
        {KeyCapability.SIGN, KeyCapability.IMPORT, KeyCapability.EXPORT, KeyCapability.DECRYPT}
    )
    local = True

    def __init__(self, sealer: Sealer, *, cache_size: int = 256) -> None:
        self._sealer = sealer
        self._cache_size = cache_size
        self._opened: OrderedDict[_Identity, SigningKey] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def specs(self) -> Sequence[KeySpec]:
        """Every `KeySpec` of the installed `cryptography`."""
        return available_specs()

    def generate(self, spec: KeySpec, *, label: str) -> KeyRecord:
        """Make a key. RSA takes up to a second (4096 bits) or many (8192): not in a write unit."""
        del label  # a sealed record needs no name of its own
        return self._seal(make(spec), spec=spec)

    def import_key(self, pkcs8: bytes, *, label: str) -> KeyRecord:
        """Take over a private key.

        Raises `Invalid` when it is not unencrypted PKCS#8 DER, is inconsistent in itself (RSA
        primes, point not on the curve) or known to be weak, and `Unsupported` for another
        algorithm, size or curve.
        """
        del label
        key = _load(pkcs8, trusted=False)
        spec = accepted_spec(spki_der(key.public_key()), pointer="/private_key")
        return self._seal(key, spec=spec)

    def export_key(self, record: KeyRecord) -> bytes:
        """The private key as unencrypted PKCS#8 DER; it does not stay in the cache."""
        key = self._unseal(record)
        return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    @contextmanager
    def open(self, record: KeyRecord) -> Iterator[SigningKey]:
        """Use a key.

        Raises `Invalid` when the record is not of this backend or does not fit its public key,
        `SafeMode` when no master key opens it.
        """
        identity = _identity(record)
        with self._lock:
            opened = self._opened.get(identity)
            if opened is not None:
                self._opened.move_to_end(identity)
        if opened is None:
            opened = signing_key(self._unseal(record), spec=record.spec)
            with self._lock:
                opened = self._opened.setdefault(identity, opened)
                while len(self._opened) > self._cache_size:
                    self._opened.popitem(last=False)
        yield opened

    def destroy(self, record: KeyRecord) -> None:
        """Forget the opened key; the sealed text goes with the record that the caller deletes."""
        with self._lock:
            self._opened.pop(_identity(record), None)

    def probe(self) -> BackendStatus:
        """Whether the master key is there."""
        try:
            self._sealer.seal(b"probe")
        except SafeMode as safe_mode:
            return BackendStatus(available=False, detail=safe_mode.detail)
        return BackendStatus(available=True)

    def _seal(self, key: PrivateKey, *, spec: KeySpec) -> KeyRecord:
        pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return KeyRecord(
            backend=KIND,
            spec=spec,
            locator={_SPKI: _fingerprint(key)},
            sealed=self._sealer.seal(pkcs8),
        )

    def _unseal(self, record: KeyRecord) -> PrivateKey:
        key = _load(self._sealer.unseal(_sealed_text(record)), trusted=True)
        described = record.locator.get(_SPKI)  # rows taken over from elsewhere have none
        if spec_of(key.public_key()) is not record.spec or (
            described is not None and described != _fingerprint(key)
        ):
            raise Invalid(
                "The stored key is not the one its record describes.",
                hint="The row was changed outside UCM: restore it from a backup.",
            )
        return key


def _sealed_text(record: KeyRecord) -> str:
    if record.backend != KIND:
        raise Invalid(
            f"This record belongs to the key backend {record.backend!r}, not to {KIND!r}."
        )
    if record.sealed is None:
        raise Invalid("This record holds no sealed key.")
    if not record.sealed.startswith(_SEALED_PREFIX):
        raise KeyUnavailable(
            "This key is stored without encryption, and UCM uses sealed keys only.",
            hint="Run 'encrypt all keys' on the security page, then try again.",
        )
    return record.sealed


def _identity(record: KeyRecord) -> _Identity:
    """All that the record says: no edited record finds the key of another one in the cache."""
    return record.backend, record.sealed, record.spec, tuple(sorted(record.locator.items()))


def _fingerprint(key: PrivateKey) -> str:
    return spki_sha256(spki_der(key.public_key()))


def _load(encoded: bytes, *, trusted: bool) -> PrivateKey:
    """A private key from PKCS#8 DER, or from PEM as rows of other products hold it.

    OpenSSL's consistency check of an RSA key costs tens of milliseconds: keys that came out of our
    own seal passed it when they were made or imported.
    """
    load = load_pem_private_key if encoded.startswith(b"-----BEGIN") else load_der_private_key
    try:
        key = load(encoded, password=None, unsafe_skip_rsa_key_validation=trusted)
    except (ValueError, TypeError):
        raise Invalid(
            "This is not a usable private key.",
            hint="Give an unencrypted PKCS#8 key that passes `openssl pkey -check`.",
        ) from None
    except UnsupportedAlgorithm:
        raise _not_ours() from None
    if spec_of(key.public_key()) is None:
        raise _not_ours()
    return cast("PrivateKey", key)


def _not_ours() -> Unsupported:
    return Unsupported(
        "The algorithm, size or curve of this private key is not supported.",
        hint=f"Allowed: {names(available_specs())}.",
    )
