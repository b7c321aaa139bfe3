"""Database engines: durable SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import sqlite3
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, FromClause, event, make_url
from sqlalchemy import create_engine as sqlalchemy_engine
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from ucm.api.errors import Invalid

BUSY_TIMEOUT = 10.0
"""Seconds a writer waits for another process before ``Busy`` is raised."""

READ_ONLY = "ucm_read_only"
"""Execution option: the connection's transactions refuse writes."""

_BEGINS_ITSELF = "ucm_begins_itself"

_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}


def create_engine(url: str, *, pool_size: int = 8, busy_timeout: float = BUSY_TIMEOUT) -> Engine:
    """The engine of a database URL (``sqlite:////path/ucm.db`` or ``postgresql://...``).

    SQLite: WAL, foreign keys, ``synchronous=FULL`` (a commit is on the disk when it returns),
    transactions that begin explicitly. Raises ``Invalid`` for other databases and for databases in
    memory, which processes and threads cannot share.
    """
    parsed = _accepted(url)
    if parsed.get_backend_name() == "postgresql":
        return sqlalchemy_engine(
            parsed, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True
        )
    engine = sqlalchemy_engine(
        parsed,
        pool_size=pool_size,
        max_overflow=4 * pool_size,
        connect_args={"timeout": busy_timeout, "check_same_thread": False},
    )
    engine.dialect.statement_compiler = _HintingCompiler
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def is_sqlite(engine: Engine | Connection) -> bool:
    """Whether this is SQLite."""
    return engine.dialect.name == "sqlite"


class _HintingCompiler(SQLiteCompiler):
    """Lets ``Select.with_hint`` say ``INDEXED BY``, which SQLAlchemy leaves out for SQLite."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        return text


def _accepted(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Invalid(
            "The database URL is not a URL.",
            hint="Write sqlite:////absolute/path/ucm.db or postgresql://user@host/database.",
        ) from None
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise Invalid(
            f"The database {backend!r} is not supported.", hint="Use sqlite or postgresql."
        )
    if backend == "sqlite" and (not parsed.database or ":memory:" in parsed.database):
        raise Invalid(
            "A SQLite database in memory cannot be shared.", hint="Name a file: sqlite:////path."
        )
    return parsed.set(drivername=_DRIVERS[backend])


def _prepare_sqlite(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver must not begin or commit by itself
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "cache_size=-16384",
        "temp_store=MEMORY",
        "wal_autocheckpoint=4000",  # pages: hot ones are then copied once for many commits
        "journal_size_limit=67108864",
    ):
        connection.execute(f"PRAGMA {pragma}")


def begins_itself() -> dict[str, bool]:
    """Execution options of a connection whose owner begins and ends SQLite's transactions."""
    return {_BEGINS_ITSELF: True}


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the write lock at once: a lock upgraded later could only fail."""
    options = connection.get_execution_options()
    read_only = bool(options.get(READ_ONLY))
    fairy = connection.connection
    driver: Any = fairy.driver_connection
    if fairy.info.get(READ_ONLY, False) is not read_only:
        driver.execute(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
        fairy.info[READ_ONLY] = read_only
    if not options.get(_BEGINS_ITSELF):
        run(connection, "BEGIN" if read_only else "BEGIN IMMEDIATE")


def driver_of(connection: Connection) -> sqlite3.Connection | None:
    """SQLite's own connection, ``None`` when SQLAlchemy must run the statements: on another
    database, and when somebody listens to the statements of the engine.
    """
    if connection.dialect.name != "sqlite" or connection.dispatch.before_cursor_execute:
        return None
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def run(connection: Connection, statement: str) -> None:
    """A statement without parameters and result, past SQLAlchemy where that is possible."""
    driver = driver_of(connection)
    if driver is None:
        connection.exec_driver_sql(statement)
        return
    try:
        driver.execute(statement)
    except sqlite3.Error as error:
        raise wrapped(error, statement, connection) from error


def wrapped(error: sqlite3.Error, statement: str, connection: Connection) -> BaseException:
    """The error as SQLAlchemy would raise it; parameters may be secrets and are left out."""
    return DBAPIError.instance(
        statement,
        None,
        error,
        sqlite3.Error,
        hide_parameters=True,
        connection_invalidated=False,
        dialect=connection.dialect,
    )
