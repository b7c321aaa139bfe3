"""Insert or update in one statement, on both databases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from ucm.store.engine import is_sqlite


def upsert(
    connection: Connection, table: Table, *, key: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    """Give the row with this primary key these values, whether it exists or not."""
    row = {**key, **values}
    if is_sqlite(connection):
        connection.execute(
            sqlite.insert(table)
            .values(row)
            .on_conflict_do_update(index_elements=list(key), set_=values)
        )
    else:
        connection.execute(
            postgresql.insert(table)
            .values(row)
            .on_conflict_do_update(index_elements=list(key), set_=values)
        )
