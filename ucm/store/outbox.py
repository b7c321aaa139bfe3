"""The outbox: events as rows, committed with the state they tell of."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, update

from ucm.api.events import Event
from ucm.store import tables
from ucm.store.scope import Repository

_t = tables.outbox.c


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OutboxRow:
    """An event as it was stored; ``payload`` holds its fields as JSON, times as ISO 8601 text."""

    id: int
    name: str
    version: int
    payload: Mapping[str, Any]
    created_at: datetime
    delivered_at: datetime | None
    attempts: int
    last_error: str


class OutboxRepository(Repository):
    """Stored events."""

    def pending(
        self, limit: int, *, after: int = 0, before: datetime | None = None
    ) -> list[OutboxRow]:
        """Undelivered events in the order of their ids; ``before`` leaves the youngest alone."""
        statement = select(tables.outbox).where(_t.delivered_at.is_(None), _t.id > after)
        if before is not None:
            statement = statement.where(_t.created_at < before)
        return [_view(row) for row in self._execute(statement.order_by(_t.id).limit(limit))]

    def any_pending(self) -> bool:
        """Whether one waits."""
        statement = select(_t.id).where(_t.delivered_at.is_(None)).limit(1)
        return self._execute(statement).first() is not None

    def pending_count(self) -> int:
        """How many wait."""
        return self._number(select(func.count()).where(_t.delivered_at.is_(None)))

    def mark_delivered(self, ids: Sequence[int], *, at: datetime) -> None:
        """They reached every subscriber."""
        if ids:
            self._execute(
                update(tables.outbox).where(_t.id.in_(ids)).values(delivered_at=at, last_error="")
            )

    def mark_all_delivered(self, *, at: datetime, limit: int) -> int:
        """The oldest that wait, because nobody subscribes; return how many."""
        oldest = select(_t.id).where(_t.delivered_at.is_(None)).order_by(_t.id).limit(limit)
        return self._execute(
            update(tables.outbox).where(_t.id.in_(oldest)).values(delivered_at=at, last_error="")
        ).rowcount

    def mark_failed(self, event_id: int, *, error: str) -> None:
        """A subscriber raised; the event stays pending."""
        self._execute(
            update(tables.outbox)
            .where(_t.id == event_id)
            .values(attempts=_t.attempts + 1, last_error=error)
        )

    def delete_delivered(self, *, before: datetime) -> int:
        """Remove what was delivered before a time; return how many."""
        return self._execute(delete(tables.outbox).where(_t.delivered_at < before)).rowcount


def event_payload(event: Event) -> dict[str, Any]:
    """An event's fields as JSON values; times become ISO 8601 text."""
    return {field.name: _plain(getattr(event, field.name)) for field in dataclasses.fields(event)}


def event_from(row: OutboxRow, kind: type[Event]) -> Event:
    """The event again. Fields that the stored version lacks take their defaults."""
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(
        **{name: _typed(value, hints[name]) for name, value in row.payload.items() if name in known}
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple | frozenset | set) else value


def _typed(value: Any, hint: Any) -> Any:
    options = (hint,)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
    for option in options:
        container = typing.get_origin(option) or option
        if isinstance(value, str) and container is datetime:
            return datetime.fromisoformat(value)
        if isinstance(value, list) and container in (tuple, frozenset, set):
            return container(value)
    return value


def _view(row: Row[Any]) -> OutboxRow:
    return OutboxRow(**row._mapping)
