"""Keys in files: each private key encrypted in a file of its own.

What decrypts a file is sealed in the key's record, under UCM's master key. So neither the file nor
the database is enough alone, and a rotation of the master key, which reseals what the database
holds, need not know the files. Never put ``Sealer.seal``'s result anywhere but into the database.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from ucm.api.errors import Invalid, KeyUnavailable, Unsupported
from ucm.api.keys import (
    BackendStatus,
    KeyCapability,
    KeyRecord,
    KeySpec,
    SignatureScheme,
    SigningKey,
)
from ucm.api.services import Ids, Sealer

KIND = "demo-files"
_PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_CURVES: dict[KeySpec, ec.EllipticCurve] = {
    KeySpec.EC_P256: ec.SECP256R1(),
    KeySpec.EC_P384: ec.SECP384R1(),
}
_DIGESTS: dict[SignatureScheme, hashes.HashAlgorithm] = {
    SignatureScheme.ECDSA_SHA256: hashes.SHA256(),
    SignatureScheme.ECDSA_SHA384: hashes.SHA384(),
    SignatureScheme.ECDSA_SHA512: hashes.SHA512(),
}
_FILE_NAME = re.compile(r"[0-9a-f-]{36}\.key")


class FileKey:
    """An opened key."""

    def __init__(self, key: _PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<key of a file>"

    def public_key(self) -> CertificatePublicKeyTypes:
        """The public half."""
        return self._key.public_key()

    def sign(self, data: bytes, scheme: SignatureScheme) -> bytes:
        """The signature. Raises ``Unsupported`` for a scheme that does not fit the key."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            allowed = [SignatureScheme.ED25519]
        else:
            allowed = list(_DIGESTS)
        if scheme not in allowed:
            names = ", ".join(item.value for item in allowed)
            raise Unsupported(f"This key cannot sign with {scheme.value}; it signs with {names}.")
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        return self._key.sign(data, ec.ECDSA(_DIGESTS[scheme]))


class FileKeyBackend:
    """Implements ``ucm.api.keys.KeyBackend``. ``directory`` gives ``None`` while it is off."""

    kind = KIND
    capabilities = frozenset({KeyCapability.SIGN})
    local = True

    def __init__(self, *, sealer: Sealer, ids: Ids, directory: Callable[[], Path | None]) -> None:
        self._sealer = sealer
        self._ids = ids
        self._directory = directory

    def specs(self) -> Sequence[KeySpec]:
        """What it can make and use."""
        return (*_CURVES, KeySpec.ED25519)

    def generate(self, spec: KeySpec, *, label: str) -> KeyRecord:
        """Make a key in a new file."""
        key: _PrivateKey
        if spec in _CURVES:
            key = ec.generate_private_key(_CURVES[spec])
        elif spec is KeySpec.ED25519:
            key = ed25519.Ed25519PrivateKey.generate()
        else:
            allowed = ", ".join(item.value for item in self.specs())
            raise Unsupported(f"Key files hold no {spec.value} keys; they hold {allowed}.")
        pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        path = self._place() / f"{self._ids.new_id()}.key"
        file_key = Fernet.generate_key()
        sealed = self._sealer.seal(file_key)  # first: in safe mode no file is left behind
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(Fernet(file_key).encrypt(pkcs8))
        return KeyRecord(backend=KIND, spec=spec, locator={"file": path.name}, sealed=sealed)

    @contextlib.contextmanager
    def open(self, record: KeyRecord) -> Iterator[SigningKey]:
        """Use a key. Raises ``KeyUnavailable`` when its file is gone."""
        path = self._path(record)
        try:
            encrypted = path.read_bytes()
        except OSError as error:
            raise KeyUnavailable(
                f"The key file {path.name} cannot be read: {error.strerror}."
            ) from None
        try:
            pkcs8 = Fernet(self._sealer.unseal(record.sealed or "")).decrypt(encrypted)
        except InvalidToken:
            raise Invalid(f"The key file {path.name} was changed, or is another key's.") from None
        key = load_der_private_key(pkcs8, None)
        if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
            raise Invalid("The key file holds a key of another kind.")
        if _spec_of(key) is not record.spec:
            raise Invalid(f"The key file does not hold the {record.spec.value} key of its record.")
        yield FileKey(key)

    def destroy(self, record: KeyRecord) -> None:
        """Delete the file; quiet when it is gone already."""
        self._path(record).unlink(missing_ok=True)

    def probe(self) -> BackendStatus:
        """Whether the directory can be used."""
        try:
            self._place()
        except KeyUnavailable as error:
            return BackendStatus(False, error.detail)
        return BackendStatus(True)

    def _place(self) -> Path:
        directory = self._directory()
        if directory is None:
            raise KeyUnavailable(
                "Keys in files are switched off.", hint="Set demo.key_directory to a directory."
            )
        if not directory.is_dir() or directory.stat().st_mode & 0o077:
            raise KeyUnavailable(
                f"{directory} is not a directory that only UCM can read.",
                hint=f"mkdir -m 700 {directory}",
            )
        return directory

    def _path(self, record: KeyRecord) -> Path:
        name = str(record.locator.get("file", ""))
        if record.backend != KIND or not _FILE_NAME.fullmatch(name):
            raise Invalid(f"The key record is not one of {KIND!r}.")
        return self._place() / name


def _spec_of(key: _PrivateKey) -> KeySpec | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return KeySpec.ED25519
    for spec, curve in _CURVES.items():
        if curve.name == key.curve.name:
            return spec
    return None
