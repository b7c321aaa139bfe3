"""Which master key this database belongs to: its fingerprint and a sealed constant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import insert, select, update

from ucm.store import tables
from ucm.store.scope import Repository

_t = tables.secret_canary.c
_ONLY = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """A constant sealed under the master key of this database."""

    fingerprint: str
    sealed: str = field(repr=False)
    created_at: datetime


class CanaryRepository(Repository):
    """The one canary."""

    def canary(self) -> Canary | None:
        """``None`` before a master key was taken."""
        row = self._execute(select(tables.secret_canary).where(_t.id == _ONLY)).first()
        if row is None:
            return None
        return Canary(fingerprint=row.fingerprint, sealed=row.sealed, created_at=row.created_at)

    def plant(self, *, fingerprint: str, sealed: str) -> None:
        """Say which key it is, once. Raises ``Conflict`` when another process was quicker."""
        values = {
            "id": _ONLY,  # the primary key settles who is first
            "fingerprint": fingerprint,
            "sealed": sealed,
            "created_at": self._scope.clock.now(),
        }
        self._insert(
            insert(tables.secret_canary),
            values,
            unique={"core_secret_canary": "This database has a master key already."},
        )

    def rename(self, *, fingerprint: str) -> None:
        """The constant is sealed under another key now."""
        self._execute(
            update(tables.secret_canary).where(_t.id == _ONLY).values(fingerprint=fingerprint)
        )
