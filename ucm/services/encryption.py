"""Encryption at rest: how much is sealed, and sealing of what still lies in clear."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NoReturn

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, Invalid, KeyUnavailable, UcmError
from ucm.api.keys import KeyRecord, SigningKey
from ucm.api.services import Sealer, Target
from ucm.domain.sealing import MasterKey, OwnedSealer, is_sealed
from ucm.services.masterkey import MasterKeyService, MasterKeyState
from ucm.store import sealed
from ucm.store.sealed import SealedColumn, SealedValue
from ucm.store.uow import Reader, UnitOfWork

BATCH = 200
_KEY_COLUMN = "core_key.sealed"
_CANARY_COLUMN = "core_secret_canary.sealed"

_CORE_TABLES = "core_"

OpenRecord = Callable[[KeyRecord], AbstractContextManager[SigningKey]]


@dataclass(frozen=True, kw_only=True, slots=True)
class SealOwners:
    """The plugin that seals for a key backend (by its kind) and for a table of its own.

    Both raise `KeyUnavailable` when no plugin that runs does.
    """

    of_backend: Callable[[str], str]
    of_table: Callable[[str], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncryptionStatus:
    """`columns` counts per ``table.column``; a plain value is not used until it is sealed."""

    key: MasterKeyState
    columns: dict[str, sealed.SealedCount]

    @property
    def encrypted_count(self) -> int:
        """Secrets that are sealed."""
        return sum(count.sealed for count in self.columns.values())

    @property
    def unencrypted_count(self) -> int:
        """Secrets that lie in clear."""
        return sum(count.plain for count in self.columns.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class EncryptAllResult:
    """What a run sealed (or would seal), what was sealed already, which rows are unusable."""

    dry_run: bool
    encrypted: int
    skipped: int
    errors: tuple[str, ...]


def batches(uow: UnitOfWork, column: SealedColumn) -> Iterator[list[SealedValue]]:
    """Every value of a column, a batch at a time; no read stays open between two batches."""
    after = None
    while True:
        with uow.read() as reader:
            values = list(sealed.batch(reader.session, column, after=after, size=BATCH))
        if values:
            yield values
        if len(values) < BATCH:
            return
        after = values[-1].key


class EncryptionService:
    """`open_record` opens a key by its record, to tell a key from rubbish before it is sealed;
    `owners` say for whom it is sealed.
    """

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        master_key: MasterKeyService,
        open_record: OpenRecord,
        owners: SealOwners,
    ) -> None:
        self._uow = uow
        self._master_key = master_key
        self._open_record = open_record
        self._owners = owners

    def status(self) -> EncryptionStatus:
        """The state of the master key and of every column that holds secrets."""
        with self._uow.read() as reader:
            columns = {
                column.name: sealed.count(reader.session, column) for column in _columns(reader)
            }
        return EncryptionStatus(key=self._master_key.state(), columns=columns)

    def encrypt_all(self, *, dry_run: bool, actor: Actor) -> EncryptAllResult:
        """Seal every secret that lies in clear. Raises `SafeMode`.

        A row that is neither sealed nor a usable key is left as it is and named in `errors`.
        """
        self._master_key.sealing_keys()
        encrypted = skipped = 0
        errors: list[str] = []
        with self._uow.read() as reader:
            columns = _columns(reader)
        for column in columns:
            for values in batches(self._uow, column):
                plain = [value for value in values if not is_sealed(value.text)]
                skipped += len(values) - len(plain)
                ready: list[tuple[SealedValue, str]] = []
                for value in plain:
                    try:
                        ready.append((value, self._seal(column, value)))
                    except UnusableValue as unusable:
                        errors.append(str(unusable))
                encrypted += len(ready) if dry_run else self._store(column, ready, actor=actor)
        result = EncryptAllResult(
            dry_run=dry_run, encrypted=encrypted, skipped=skipped, errors=tuple(errors)
        )
        if not dry_run:
            self._record(result, actor=actor)
        return result

    def enable(self) -> NoReturn:
        """Private keys are sealed from the first one on, so there is nothing to switch on.

        Raises ``Invalid``, and ``SafeMode`` when the master key is missing.
        """
        self._master_key.sealing_keys()
        raise Invalid(
            "Encryption of private keys is on already: UCM seals every key before it is stored.",
            hint="POST /api/v2/system/security/encrypt-all-keys seals what another program left in"
            " clear; rotate-master-key exchanges the master key.",
        )

    def disable(self) -> NoReturn:
        """Raises ``Conflict``: no key is ever stored in clear."""
        raise Conflict(
            "Encryption of private keys cannot be switched off: UCM stores no key in clear, so that"
            " a copy of the database alone is worth nothing to a thief.",
            hint="To use a key elsewhere, export it with a password; to change who can open the"
            " keys, rotate the master key.",
        )

    def key_state(self) -> MasterKeyState:
        """The state of the master key alone."""
        return self._master_key.state()

    def generate_key(self) -> MasterKey:
        """A new key, kept nowhere."""
        return MasterKey.generate()

    def download(self, *, actor: Actor) -> str:
        """The text of the key file, for safe keeping; audited.

        Raises `SafeMode` when there is no key, `Conflict` when it does not come from a file.
        """
        keys = self._master_key.usable_keys()
        state = self._master_key.state()
        if state.path is None and state.warning is None:
            raise Conflict(
                "The master key does not come from a file, so there is no file to download.",
                hint="Keep a copy of KEY_ENCRYPTION_KEY where it is set.",
            )
        with self._uow.begin(actor) as tx:
            tx.audit("master_key_downloaded", target=Target("master_key", keys.newest.fingerprint))
        return keys.render()

    def _seal(self, column: SealedColumn, value: SealedValue) -> str:
        if column.name != _KEY_COLUMN:
            return self._seal_as_it_is(column, value)
        try:
            with self._uow.read() as reader:
                stored = reader.keys.get(int(value.key[0]))
            owner = self._owners.of_backend(stored.record.backend)
            text = self._sealer_of(owner).seal(_key_bytes(value.text))
            with self._open_record(dataclasses.replace(stored.record, sealed=text)):
                return text
        except UcmError as error:
            raise UnusableValue(
                f"{_place(column, value)}: neither sealed nor a usable private key: {error.detail}"
            ) from None

    def _seal_as_it_is(self, column: SealedColumn, value: SealedValue) -> str:
        sealer: Sealer = self._master_key.keyring
        if not column.table.name.startswith(_CORE_TABLES):
            try:
                sealer = self._sealer_of(self._owners.of_table(column.table.name))
            except KeyUnavailable as unavailable:
                raise UnusableValue(f"{_place(column, value)}: {unavailable.detail}") from None
        return sealer.seal(value.text.encode())

    def _sealer_of(self, owner: str) -> OwnedSealer:
        return OwnedSealer(self._master_key.keyring, owner)

    def _store(
        self, column: SealedColumn, ready: list[tuple[SealedValue, str]], *, actor: Actor
    ) -> int:
        if not ready:
            return 0
        with self._uow.begin(actor) as tx:
            sealed.wipe_replaced_texts(tx.session)
            return sum(sealed.replace(tx.session, column, value, new=text) for value, text in ready)

    def _record(self, result: EncryptAllResult, *, actor: Actor) -> None:
        with self._uow.begin(actor) as tx:
            tx.audit(
                "system_encrypt",
                target=Target("master_key"),
                success=not result.errors,
                encrypted=result.encrypted,
                skipped=result.skipped,
                errors=len(result.errors),
            )


class UnusableValue(Exception):
    """A stored text that cannot be sealed as it is."""


def _columns(reader: Reader) -> list[SealedColumn]:
    """What holds secrets; the canary is none."""
    columns = sealed.sealed_columns(reader.session)
    return [column for column in columns if column.name != _CANARY_COLUMN]


def _place(column: SealedColumn, value: SealedValue) -> str:
    return f"{column.name}, row {', '.join(str(part) for part in value.key)}"


def _key_bytes(text: str) -> bytes:
    """PEM as it is; otherwise base64 of PEM or DER, as other products store keys."""
    if text.startswith("-----BEGIN"):
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()
