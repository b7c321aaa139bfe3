"""Read connections of SQLite, kept between reads.

Taking a connection from SQLAlchemy's pool and beginning a transaction on it costs more than the
statements of a short read. Here each connection stays checked out, in a transaction that SQLAlchemy
believes to last, while the driver begins and ends one snapshot per read.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from ucm.api.errors import StorageFailed
from ucm.store.engine import READ_ONLY, begins_itself

_KEPT = 16
_CACHE_KIB = 12288
"""Pages that each keeps: enough for the index that a count of 100,000 rows reads."""
_FAILED = "The database cannot be read."
_FAILED_HINT = "Look at the database file and the health of its disk."


class Snapshots:
    """Gives out read-only connections; each is used by one read at a time, whatever the thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(**{READ_ONLY: True}, **begins_itself())
        self._idle: deque[tuple[Connection, sqlite3.Connection]] = deque()

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """A connection within one snapshot. Raises ``StorageFailed`` when there is none."""
        try:
            connection, driver = self._idle.pop()
        except IndexError:
            connection, driver = self._connect()
        try:
            driver.execute("BEGIN")
        except sqlite3.Error as error:
            _drop(connection)
            raise StorageFailed(_FAILED, hint=_FAILED_HINT) from error
        try:
            yield connection
        finally:
            self._take_back(connection, driver)

    def close(self) -> None:
        """Close what is idle; reads that are open close theirs at their end."""
        while self._idle:
            _drop(self._idle.pop()[0])

    def _connect(self) -> tuple[Connection, sqlite3.Connection]:
        try:
            connection = self._engine.connect()
            connection.begin()
        except DBAPIError as error:
            raise StorageFailed(
                "The database cannot be reached.",
                hint="Check UCM_DATABASE_URL and that the data directory is readable.",
            ) from error
        driver = cast("sqlite3.Connection", connection.connection.driver_connection)
        driver.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        return connection, driver

    def _take_back(self, connection: Connection, driver: sqlite3.Connection) -> None:
        sound = not connection.invalidated and not connection.in_nested_transaction()
        if sound and len(self._idle) < _KEPT:
            try:
                driver.rollback()
            except sqlite3.Error:
                sound = False
            else:
                self._idle.append((connection, driver))
                return
        _drop(connection)


def _drop(connection: Connection) -> None:
    connection.invalidate()
    connection.close()
