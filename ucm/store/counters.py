"""Named revisions that processes compare to see whether a snapshot of theirs is stale."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, insert, select, update

from ucm.store import tables

_t = tables.counter.c
_CURRENT = select(_t.value).where(_t.name == bindparam("name"))


def current(connection: Connection, name: str) -> int:
    """The counter's value, 0 before the first change."""
    return int(connection.execute(_CURRENT, {"name": name}).scalar_one_or_none() or 0)


def bump(connection: Connection, name: str) -> int:
    """Count on; the row's lock orders concurrent units."""
    raised = connection.execute(
        update(tables.counter).where(_t.name == name).values(value=_t.value + 1).returning(_t.value)
    ).scalar_one_or_none()
    if raised is not None:
        return int(raised)
    connection.execute(insert(tables.counter), {"name": name, "value": 1})
    return 1
