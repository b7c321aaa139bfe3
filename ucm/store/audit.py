"""The audit trail. ``tx.audit`` writes it; here it is read and cleaned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, or_, select

from ucm.api.errors import NotFound
from ucm.store import tables
from ucm.store.paging import Page, decode_cursor, encode_cursor
from ucm.store.scope import Repository

_t = tables.audit.c


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRow:
    """One entry. ``prev_hash`` and ``entry_hash`` are empty until entries are chained."""

    id: int
    timestamp: datetime
    actor_kind: str
    username: str
    user_id: int | None
    action: str
    resource_type: str
    resource_id: str | None
    resource_name: str
    details: Mapping[str, Any]
    ip_address: str | None
    user_agent: str | None
    success: bool
    prev_hash: str | None
    entry_hash: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditQuery:
    """Filters all apply, values within one are alternatives; newest first.

    ``search`` looks into names, actions and resources. ``after`` is a cursor and replaces ``page``.
    """

    usernames: tuple[str, ...] = ()
    user_id: int | None = None
    actions: tuple[str, ...] = ()
    resource_types: tuple[str, ...] = ()
    resource_id: str | None = None
    success: bool | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    search: str = ""
    page: int = 1
    per_page: int = 50
    after: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditStats:
    """Numbers of a period."""

    total: int
    failures: int
    top_actions: Mapping[str, int] = field(default_factory=dict)
    top_users: Mapping[str, int] = field(default_factory=dict)


class AuditRepository(Repository):
    """Audit entries."""

    def get(self, entry_id: int) -> AuditRow:
        """Raises ``NotFound``."""
        row = self._execute(select(tables.audit).where(_t.id == entry_id)).first()
        if row is None:
            raise NotFound(f"There is no audit entry with the id {entry_id}.")
        return _view(row)

    def page(self, query: AuditQuery) -> Page[AuditRow]:
        """One page, newest first. Raises ``Invalid`` for a foreign cursor."""
        conditions = _conditions(query)
        total = self._number(select(func.count()).select_from(tables.audit).where(*conditions))
        offset = (query.page - 1) * query.per_page
        if query.after is not None:
            offset = 0
            (last,) = decode_cursor(query.after, order="audit-", kinds=(int,))
            conditions.append(_t.id < last)
        rows = self._execute(
            select(tables.audit)
            .where(*conditions)
            .order_by(_t.id.desc())
            .limit(query.per_page + 1)
            .offset(offset)
        ).all()
        items = tuple(_view(row) for row in rows[: query.per_page])
        more = len(rows) > query.per_page
        cursor = encode_cursor("audit-", (items[-1].id,)) if more else None
        return Page(items, total, query.page, query.per_page, next_cursor=cursor)

    def stream(self, query: AuditQuery, *, limit: int, batch: int = 500) -> Iterator[AuditRow]:
        """Up to ``limit`` entries, newest first, a batch at a time."""
        conditions = _conditions(query)
        last: int | None = None
        while limit > 0:
            behind = [] if last is None else [_t.id < last]
            rows = self._execute(
                select(tables.audit)
                .where(*conditions, *behind)
                .order_by(_t.id.desc())
                .limit(min(batch, limit))
            ).all()
            for row in rows:
                yield _view(row)
            if len(rows) < min(batch, limit):
                return
            limit -= len(rows)
            last = rows[-1].id

    def stats(self, *, since: datetime, top: int = 10) -> AuditStats:
        """Numbers since a time."""
        period = _t.timestamp >= since
        total = self._number(select(func.count()).where(period))
        failures = self._number(select(func.count()).where(period, ~_t.success))
        return AuditStats(
            total=total,
            failures=failures,
            top_actions=self._top(_t.action, period, top),
            top_users=self._top(_t.username, period, top),
        )

    def newest(self) -> datetime | None:
        """The latest timestamp of all entries."""
        found: datetime | None = self._execute(select(func.max(_t.timestamp))).scalar()
        return found

    def count_before(self, moment: datetime) -> int:
        """How many entries are older."""
        return self._number(select(func.count()).where(_t.timestamp < moment))

    def delete_before(self, moment: datetime) -> int:
        """Remove older entries; return how many."""
        return self._execute(delete(tables.audit).where(_t.timestamp < moment)).rowcount

    def _top(
        self, column: ColumnElement[str], period: ColumnElement[bool], top: int
    ) -> Mapping[str, int]:
        number = func.count()
        rows = self._connection.execute(
            select(column, number)
            .where(period)
            .group_by(column)
            .order_by(number.desc(), column)
            .limit(top)
        )
        return {value: occurrences for value, occurrences in rows}


def _conditions(query: AuditQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.usernames:
        conditions.append(_t.username.in_(query.usernames))
    if query.user_id is not None:
        conditions.append(_t.user_id == query.user_id)
    if query.actions:
        conditions.append(_t.action.in_(query.actions))
    if query.resource_types:
        conditions.append(_t.resource_type.in_(query.resource_types))
    if query.resource_id is not None:
        conditions.append(_t.resource_id == query.resource_id)
    if query.success is not None:
        conditions.append(_t.success.is_(query.success))
    if query.date_from is not None:
        conditions.append(_t.timestamp >= query.date_from)
    if query.date_to is not None:
        conditions.append(_t.timestamp <= query.date_to)
    searched = (_t.username, _t.action, _t.resource_type, _t.resource_id, _t.resource_name)
    for word in query.search.split():
        conditions.append(or_(*(column.icontains(word, autoescape=True) for column in searched)))
    return conditions


def _view(row: Row[Any]) -> AuditRow:
    return AuditRow(**row._mapping)
