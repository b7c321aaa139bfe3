"""Intents: what is about to be signed, written before the signature exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from ucm.api.errors import Conflict, NotFound
from ucm.store import tables
from ucm.store.scope import Repository

_t = tables.intent.c
SIGNING, DONE, FAILED, ORPHANED = "signing", "done", "failed", "orphaned"
"""Values of ``IntentRow.state``."""

_UNIQUE = {
    "idempotency": "A request with this idempotency key is being answered.",
    "serial": "The authority already uses this serial number.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewIntent:
    """A certificate that will be signed; ``tbs`` is what was linted (DER), ``request`` JSON."""

    ca_id: int | None
    serial: str
    origin: str
    client: str = ""
    idempotency_key: str | None = None
    subject: str
    request_digest: str
    request: Mapping[str, Any]
    tbs: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class IntentRow:
    """A stored intent."""

    id: int
    ca_id: int | None
    serial: str
    origin: str
    client: str
    idempotency_key: str | None
    subject: str
    request_digest: str
    request: Mapping[str, Any]
    tbs: bytes | None = field(repr=False)
    state: str
    reason: str
    certificate_id: int | None
    created_at: datetime
    created_by: str
    updated_at: datetime


class IntentRepository(Repository):
    """Intents. One is open from before the signature until its certificate is stored."""

    def open(self, new: NewIntent) -> int:
        """Reserve the serial and say what will be signed.

        Raises ``Conflict`` when the serial is reserved or the idempotency key is being answered.
        """
        now = self._scope.clock.now()
        values = {name: getattr(new, name) for name in NewIntent.__slots__}
        values |= {
            "request": dict(new.request),
            "state": SIGNING,
            "created_at": now,
            "updated_at": now,
            "created_by": self._scope.actor.name,
        }
        return self._insert(insert(tables.intent), values, unique=_UNIQUE)

    def get(self, intent_id: int) -> IntentRow:
        """Raises ``NotFound``."""
        row = self._execute(select(tables.intent).where(_t.id == intent_id)).first()
        if row is None:
            raise NotFound(f"There is no intent with the id {intent_id}.")
        return _view(row)

    def done(self, intent_id: int, *, certificate_id: int) -> None:
        """The certificate is stored. An orphan may still become done. Raises ``Conflict``."""
        self._close(
            intent_id,
            states=(SIGNING, ORPHANED),
            values={"state": DONE, "certificate_id": certificate_id},
        )

    def failed(self, intent_id: int, *, reason: str) -> None:
        """Nothing was signed. Raises ``Conflict`` when it is no longer open."""
        self._close(intent_id, states=(SIGNING,), values={"state": FAILED, "reason": reason})

    def orphaned(self, intent_id: int, *, reason: str) -> None:
        """Nobody knows whether it was signed. Raises ``Conflict`` when it is no longer open."""
        self._close(intent_id, states=(SIGNING,), values={"state": ORPHANED, "reason": reason})

    def unfinished(self, *, before: datetime, limit: int = 100) -> list[IntentRow]:
        """Open intents that nobody touched since ``before``, oldest first."""
        rows = self._execute(
            select(tables.intent)
            .where(_t.state == SIGNING, _t.updated_at < before)
            .order_by(_t.updated_at)
            .limit(limit)
        )
        return [_view(row) for row in rows]

    def orphans(self, *, limit: int = 100) -> list[IntentRow]:
        """Orphaned intents, newest first."""
        rows = self._execute(
            select(tables.intent).where(_t.state == ORPHANED).order_by(_t.id.desc()).limit(limit)
        )
        return [_view(row) for row in rows]

    def _close(self, intent_id: int, *, states: tuple[str, ...], values: Mapping[str, Any]) -> None:
        result = self._execute(
            update(tables.intent)
            .where(_t.id == intent_id, _t.state.in_(states))
            .values(**values, updated_at=self._scope.clock.now())
        )
        if result.rowcount == 0:
            state = self.get(intent_id).state
            raise Conflict(f"The intent {intent_id} is {state}.")


def _view(row: Row[Any]) -> IntentRow:
    return IntentRow(**row._mapping)
