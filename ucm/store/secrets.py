"""Which master key this database belongs to: its fingerprint and a sealed constant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import delete, insert, select

from ucm.store import tables
from ucm.store.scope import Repository

_t = tables.secret_canary.c


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryRow:
    """A key that may open secrets of this database; during a rotation there are two."""

    id: int
    fingerprint: str
    sealed: str = field(repr=False)
    created_at: datetime


class CanaryRepository(Repository):
    """Canaries."""

    def all(self) -> list[CanaryRow]:
        """Newest first."""
        rows = self._execute(select(tables.secret_canary).order_by(_t.id.desc()))
        return [CanaryRow(**row._mapping) for row in rows]

    def newest(self) -> CanaryRow | None:
        """The canary of the current master key; ``None`` before the first one."""
        return next(iter(self.all()), None)

    def add(self, *, fingerprint: str, sealed: str) -> int:
        """A master key joins. Raises ``Conflict`` when it is already known."""
        values = {
            "fingerprint": fingerprint,
            "sealed": sealed,
            "created_at": self._scope.clock.now(),
        }
        return self._insert(
            insert(tables.secret_canary),
            values,
            unique={"fingerprint": "This master key is already known."},
        )

    def replace_sealed(self, canary_id: int, *, sealed: str) -> None:
        """The constant under another seal."""
        self._execute(tables.secret_canary.update().where(_t.id == canary_id).values(sealed=sealed))

    def remove(self, fingerprint: str) -> None:
        """A master key is gone: nothing is sealed under it any more."""
        self._execute(delete(tables.secret_canary).where(_t.fingerprint == fingerprint))
