"""Records of private keys: where a key lives, never the key in the clear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from ucm.api.db import metadata
from ucm.api.errors import NotFound
from ucm.api.keys import KeyPurpose, KeyRecord, KeyRef, KeySpec
from ucm.store import tables
from ucm.store.scope import Repository

_t = tables.key.c
CORE = "core"
"""The owner of every key that is not a plugin's own."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key's row."""

    ref: KeyRef
    record: KeyRecord
    label: str
    owner: str
    created_at: datetime
    created_by: str


class KeyRepository(Repository):
    """Key records."""

    def add(
        self, record: KeyRecord, *, purpose: KeyPurpose, label: str = "", owner: str = CORE
    ) -> KeyRef:
        """Store a record; neither its purpose nor its owner ever changes."""
        values = {
            "purpose": purpose.value,
            "owner": owner,
            "backend": record.backend,
            "spec": record.spec.value,
            "label": label,
            "locator": dict(record.locator),
            "sealed": record.sealed,
            "created_at": self._scope.clock.now(),
            "created_by": self._scope.actor.name,
        }
        return KeyRef(self._insert(insert(tables.key), values, unique={}), purpose)

    def record(self, ref: KeyRef) -> KeyRecord:
        """Raises ``NotFound``, also when the purpose is not the stored one."""
        return self.find(ref).record

    def find(self, ref: KeyRef) -> StoredKey:
        """As ``record``, with everything else that is known of the key."""
        stored = self.get(ref.id)
        if stored.ref != ref:
            raise NotFound(f"There is no {ref.purpose.value} key with the id {ref.id}.")
        return stored

    def get(self, key_id: int) -> StoredKey:
        """Raises ``NotFound``."""
        row = self._execute(select(tables.key).where(_t.id == key_id)).first()
        if row is None:
            raise NotFound(f"There is no key with the id {key_id}.")
        return _view(row)

    def all(self, *, purpose: KeyPurpose | None = None) -> Iterator[StoredKey]:
        """Keys by id."""
        statement = select(tables.key).order_by(_t.id)
        if purpose is not None:
            statement = statement.where(_t.purpose == purpose.value)
        return (_view(row) for row in self._execute(statement))

    def of_owner(self, owner: str) -> list[StoredKey]:
        """The keys of one owner, by id."""
        statement = select(tables.key).where(_t.owner == owner).order_by(_t.id)
        return [_view(row) for row in self._execute(statement)]

    def uses_of_owner(self, owner: str, *, apart_from: str) -> Mapping[str, int]:
        """How many of an owner's keys each table refers to, tables with that prefix left out."""
        uses: dict[str, int] = {}
        for table in metadata.tables.values():
            if table.name.startswith(apart_from):
                continue
            for reference in table.foreign_keys:
                if reference.column is not _t.id:
                    continue
                used = reference.parent
                number = self._number(
                    select(func.count(used.distinct()))
                    .join_from(table, tables.key, used == _t.id)
                    .where(_t.owner == owner)
                )
                if number:
                    uses[table.name] = uses.get(table.name, 0) + number
        return uses

    def counts_by_backend(self) -> Mapping[str, int]:
        """Number of keys per backend."""
        return dict(self._pairs(select(_t.backend, func.count()).group_by(_t.backend)))

    def replace_record(self, ref: KeyRef, *, record: KeyRecord) -> None:
        """The same key lives elsewhere or under another seal now. Raises ``NotFound``."""
        result = self._execute(
            update(tables.key)
            .where(_t.id == ref.id, _t.purpose == ref.purpose.value)
            .values(backend=record.backend, locator=dict(record.locator), sealed=record.sealed)
        )
        if result.rowcount == 0:
            raise NotFound(f"There is no {ref.purpose.value} key with the id {ref.id}.")

    def delete(self, ref: KeyRef) -> None:
        """Raises ``NotFound``, and ``Conflict`` while an authority or a certificate uses it."""
        result = self._guarded(
            delete(tables.key).where(_t.id == ref.id, _t.purpose == ref.purpose.value),
            None,
            unique={"": "The key is still used by an authority, a certificate or a request."},
        )
        if result.rowcount == 0:
            raise NotFound(f"There is no {ref.purpose.value} key with the id {ref.id}.")


def _view(row: Row[Any]) -> StoredKey:
    return StoredKey(
        ref=KeyRef(row.id, KeyPurpose(row.purpose)),
        record=KeyRecord(
            backend=row.backend, spec=KeySpec(row.spec), locator=row.locator, sealed=row.sealed
        ),
        label=row.label,
        owner=row.owner,
        created_at=row.created_at,
        created_by=row.created_by,
    )
