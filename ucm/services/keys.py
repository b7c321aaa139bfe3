"""Private keys for the core and for plugins: which backend, which record, which purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from ucm.api.errors import Forbidden, Unsupported
from ucm.api.keys import (
    ExportingKeyBackend,
    ImportingKeyBackend,
    KeyBackend,
    KeyPurpose,
    KeyRecord,
    KeyRef,
    KeySpec,
    SigningKey,
)
from ucm.api.services import Transaction
from ucm.store.keys import CORE, StoredKey
from ucm.store.plugin_units import store_transaction
from ucm.store.uow import UnitOfWork

DEFAULT_BACKEND = "softkeys"


class KeyService:
    """Implements `ucm.api.services.Keys` for the core; CA keys included.

    `backends` finds a running backend by its kind and raises `KeyUnavailable` when there is none. A
    key's purpose is fixed when it is stored: a `KeyRef` with another one finds nothing
    (`NotFound`).
    """

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        backends: Callable[[str], KeyBackend],
        default_backend: Callable[[], str] = lambda: DEFAULT_BACKEND,
    ) -> None:
        self._uow = uow
        self._backends = backends
        self._default_backend = default_backend

    def backend(self, kind: str | None = None) -> KeyBackend:
        """The backend of that kind, or the one that new keys go to. Raises `KeyUnavailable`."""
        return self._backends(kind or self._default_backend())

    # --- making ---------------------------------------------------------------------------------

    def make(self, spec: KeySpec, *, label: str, backend: str | None = None) -> KeyRecord:
        """A new key that is not stored yet; takes seconds for large RSA keys, so outside of units.

        Raises `Unsupported` with the list of what the backend makes, `KeyUnavailable`, `SafeMode`.
        """
        chosen = self.backend(backend)
        if spec not in chosen.specs():
            raise Unsupported(
                f"The key backend {chosen.kind!r} makes no {spec.value} keys.",
                hint=f"It makes {', '.join(each.value for each in chosen.specs())}.",
            )
        return chosen.generate(spec, label=label)

    def take(self, pkcs8: bytes, *, label: str, backend: str | None = None) -> KeyRecord:
        """A private key from elsewhere (unencrypted PKCS#8 DER) that is not stored yet.

        Raises `Unsupported` (algorithm, or a backend that does not import), `Invalid`.
        """
        chosen = self.backend(backend)
        if not isinstance(chosen, ImportingKeyBackend):
            raise Unsupported(
                f"The key backend {chosen.kind!r} takes no keys from elsewhere.",
                hint="Import into a backend that does, or make a new key.",
            )
        return chosen.import_key(pkcs8, label=label)

    def keep(
        self,
        record: KeyRecord,
        *,
        purpose: KeyPurpose,
        label: str,
        tx: Transaction,
        owner: str = CORE,
    ) -> KeyRef:
        """Store a made or taken key in the given unit."""
        return store_transaction(tx).keys.add(record, purpose=purpose, label=label, owner=owner)

    def generate(
        self,
        spec: KeySpec,
        *,
        purpose: KeyPurpose,
        label: str,
        tx: Transaction,
        backend: str | None = None,
    ) -> KeyRef:
        """`make` and `keep` in one; for kinds of keys that are made quickly."""
        record = self.make(spec, label=label, backend=backend)
        return self.keep(record, purpose=purpose, label=label, tx=tx)

    def import_key(
        self,
        pkcs8: bytes,
        *,
        purpose: KeyPurpose,
        label: str,
        tx: Transaction,
        backend: str | None = None,
    ) -> KeyRef:
        """`take` and `keep` in one."""
        record = self.take(pkcs8, label=label, backend=backend)
        return self.keep(record, purpose=purpose, label=label, tx=tx)

    # --- using ----------------------------------------------------------------------------------

    def record(self, ref: KeyRef) -> KeyRecord:
        """Where the key lives. Raises `NotFound`."""
        return self.stored(ref).record

    def stored(self, ref: KeyRef) -> StoredKey:
        """The key's row. Raises `NotFound`."""
        with self._uow.read() as reader:
            return reader.keys.find(ref)

    @contextmanager
    def open(self, ref: KeyRef) -> Iterator[SigningKey]:
        """Use a key. Raises `NotFound`, `KeyUnavailable`, `SafeMode`."""
        with self.open_record(self.record(ref)) as key:
            yield key

    def open_record(self, record: KeyRecord) -> AbstractContextManager[SigningKey]:
        """Use a key whose record is at hand, stored or not."""
        return self._backends(record.backend).open(record)

    def export_key(self, ref: KeyRef) -> bytes:
        """The private key as unencrypted PKCS#8 DER; who asks has checked, and audits.

        Raises `NotFound`, `SafeMode`, `Unsupported` when the backend never gives its keys away.
        """
        return self.export_record(self.record(ref))

    def export_record(self, record: KeyRecord) -> bytes:
        """As `export_key`, for a record at hand."""
        chosen = self._backends(record.backend)
        if not isinstance(chosen, ExportingKeyBackend):
            raise Unsupported(
                f"Keys in the backend {record.backend!r} cannot be exported.",
                hint="They were made to stay there; export the certificate without its key.",
            )
        return chosen.export_key(record)

    # --- ending ---------------------------------------------------------------------------------

    def destroy(self, ref: KeyRef, *, tx: Transaction) -> None:
        """Delete the record in the given unit; once that is durable, the backend destroys the key.

        Raises `NotFound`, and `Conflict` while an authority or a certificate uses the key.
        """
        keys = store_transaction(tx).keys
        record = keys.record(ref)
        backend = self._backends(record.backend)
        keys.delete(ref)
        tx.after_commit(lambda: backend.destroy(record))


class PluginKeys:
    """Implements `ucm.api.services.Keys` for one plugin: the keys that it made itself and no other,
    and never the key of an authority.
    """

    def __init__(self, keys: KeyService, owner: str) -> None:
        self._keys = keys
        self._owner = owner

    def make(self, spec: KeySpec, *, label: str, backend: str | None = None) -> KeyRecord:
        """A new key that is not stored yet. Raises `Unsupported`, `KeyUnavailable`, `SafeMode`."""
        return self._keys.make(spec, label=label, backend=backend)

    def keep(
        self, record: KeyRecord, *, purpose: KeyPurpose, label: str, tx: Transaction
    ) -> KeyRef:
        """Store a made key in the given unit. Raises `Forbidden` for purpose CA."""
        _refuse_ca(purpose)
        return self._keys.keep(record, purpose=purpose, label=label, tx=tx, owner=self._owner)

    def generate(
        self,
        spec: KeySpec,
        *,
        purpose: KeyPurpose,
        label: str,
        tx: Transaction,
        backend: str | None = None,
    ) -> KeyRef:
        """Make a key and store its record in the given unit. Raises `Forbidden` for purpose CA."""
        _refuse_ca(purpose)  # before there is a key
        record = self._keys.make(spec, label=label, backend=backend)
        return self.keep(record, purpose=purpose, label=label, tx=tx)

    def open(self, ref: KeyRef) -> AbstractContextManager[SigningKey]:
        """Use a key. Raises `Forbidden` for another owner's, `NotFound` for a purpose not its
        own."""
        return self._keys.open_record(self.record(ref))

    def record(self, ref: KeyRef) -> KeyRecord:
        """Where the key lives. Raises `Forbidden` for another owner's, `NotFound`."""
        _refuse_ca(ref.purpose)
        stored = self._keys.stored(ref)
        self._check_owner(stored)
        return stored.record

    def destroy(self, ref: KeyRef, *, tx: Transaction) -> None:
        """Delete the record and the key. Raises `Forbidden` for another owner's, `NotFound`."""
        _refuse_ca(ref.purpose)
        self._check_owner(store_transaction(tx).keys.find(ref))
        self._keys.destroy(ref, tx=tx)

    def _check_owner(self, stored: StoredKey) -> None:
        if stored.owner != self._owner:
            raise Forbidden(
                f"The key {stored.ref.id} is not one of the plugin {self._owner!r}.",
                hint="A plugin uses the keys that it made with ctx.keys, and no others.",
            )


def _refuse_ca(purpose: KeyPurpose) -> None:
    if purpose is KeyPurpose.CA:
        raise Forbidden(
            "Keys of authorities are not open to plugins.",
            hint="Ask for a certificate with ctx.issuance.issue instead.",
        )
