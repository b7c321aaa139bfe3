"""How many certificates began, were revoked and expired on each day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Text,
    cast,
    func,
    literal,
    literal_column,
    select,
    union_all,
)

from ucm.store import tables

_t = tables.certificate.c
_ISSUED, _REVOKED, _EXPIRED = range(3)


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day. ``issued`` goes by the beginning of validity; certificates of authorities do
    not count."""

    date: date
    issued: int
    revoked: int
    expired: int


def days(connection: Connection, *, now: datetime, count: int) -> Sequence[Day]:
    """The last ``count`` days up to today, oldest first; one statement, each part a range of an
    index."""
    last = now.astimezone(UTC).date()
    first = last - timedelta(days=count - 1)
    start = datetime.combine(first, time(), UTC)
    found = dict.fromkeys(((kind, n) for kind in range(3) for n in range(count)), 0)
    bad = _t.revocation > literal_column("0")
    statement = union_all(
        _numbers(_ISSUED, _t.not_before, start, now, hint="not_before"),
        _numbers(_REVOKED, _t.revoked_at, start, now, bad, hint="revoked"),
        _numbers(_EXPIRED, _t.not_after, start, now, _t.revocation == 0, hint="not_after"),
    )
    for kind, day, number in connection.execute(statement):
        found[kind, (date.fromisoformat(day) - first).days] = int(number)
    return [
        Day(first + timedelta(days=n), *(found[kind, n] for kind in range(3))) for n in range(count)
    ]


def _numbers(
    kind: int,
    column: Column[Any],
    start: datetime,
    now: datetime,
    *conditions: ColumnElement[bool],
    hint: str,
) -> Any:
    # Both databases write a time as text that begins with its date. Numbers stand in the statement:
    # a partial index and GROUP BY must see them.
    day = func.substr(cast(column, Text), literal_column("1"), literal_column("10"))
    name = f"ix_core_certificate_{hint}" if kind == _REVOKED else f"ix_core_certificate_by_{hint}"
    return (
        select(literal(kind), day, func.count())
        .where(_t.is_ca.is_(False), column >= start, column <= now, *conditions)
        .group_by(day)
        .with_hint(tables.certificate, f"INDEXED BY {name}", "sqlite")
    )
