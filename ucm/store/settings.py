"""Settings that operators changed; defaults live in the settings classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select

from ucm.api.errors import Conflict
from ucm.store import tables
from ucm.store.counters import bump, current
from ucm.store.scope import Repository
from ucm.store.upsert import upsert

_t = tables.setting.c
_COUNTER = "settings"


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingRow:
    """A stored setting: ``value`` is JSON, or ``sealed`` holds the sealed JSON of a secret."""

    key: str
    value: Any
    sealed: str | None = field(repr=False)
    version: int
    updated_at: datetime
    updated_by: str


class SettingRepository(Repository):
    """Settings by key (``acme.http01_timeout``)."""

    def revision(self) -> int:
        """Grows with every change of any setting; cheap to ask."""
        return current(self._connection, _COUNTER)

    def all(self) -> Mapping[str, SettingRow]:
        """Every stored setting."""
        rows = self._execute(select(tables.setting).order_by(_t.key))
        return {row.key: _view(row) for row in rows}

    def get(self, key: str) -> SettingRow | None:
        """One stored setting."""
        row = self._execute(select(tables.setting).where(_t.key == key)).first()
        return None if row is None else _view(row)

    def set(
        self,
        key: str,
        *,
        value: Any = None,
        sealed: str | None = None,
        version: int | None = None,
    ) -> int:
        """Store a value or a sealed one; return the row's new version, the settings' revision.

        Raises ``Conflict`` when ``version`` is given and no longer current (0: not stored yet).
        """
        revision = bump(self._connection, _COUNTER)  # its row lock makes the check below safe
        if version is not None:
            stored = self.get(key)
            if (0 if stored is None else stored.version) != version:
                raise Conflict(
                    f"The setting {key} was changed meanwhile.",
                    hint="Read it again and repeat the change.",
                )
        upsert(
            self._connection,
            tables.setting,
            key={"key": key},
            values={
                "value": value,
                "sealed": sealed,
                "version": revision,
                "updated_at": self._scope.clock.now(),
                "updated_by": self._scope.actor.name,
            },
        )
        return revision

    def delete(self, key: str) -> bool:
        """Back to the default; return whether a value was stored."""
        bump(self._connection, _COUNTER)
        return bool(self._execute(delete(tables.setting).where(_t.key == key)).rowcount)

    def delete_of_owner(self, owner: str) -> int:
        """Forget every setting ``<owner>.*``; return how many there were."""
        bump(self._connection, _COUNTER)
        statement = delete(tables.setting).where(_t.key.startswith(f"{owner}.", autoescape=True))
        return self._execute(statement).rowcount


def _view(row: Row[Any]) -> SettingRow:
    return SettingRow(**row._mapping)
