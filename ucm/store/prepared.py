"""Statements of the hot path, compiled once per database.

SQLAlchemy caches compiled statements, too, but spends several times the database's own work on
finding the cached one, binding its parameters and wrapping its result. On SQLite these statements
go straight to the driver, unless somebody listens to the engine's statements: then SQLAlchemy runs
them, so that listeners see them like any other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Dialect, Select, Table, insert
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from ucm.api.db import UtcDateTime
from ucm.store.engine import wrapped
from ucm.store.scope import Scope

Row = Mapping[str, Any]
Record = tuple[Any, ...]


class _Compiled:
    """A statement for one kind of database."""

    def __init__(
        self, statement: ClauseElement, columns: Sequence[str] | None, dialect: Dialect
    ) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 DML and SELECT compile to SQL
        self.sql = compiled.string
        self.bind = _binder(compiled, dialect)
        self.read = _reader(statement, dialect)


class Prepared:
    """A statement with named parameters."""

    def __init__(self, statement: ClauseElement, *, columns: Iterable[str] | None = None) -> None:
        self._statement = statement
        self._columns = None if columns is None else list(columns)
        self._compiled: dict[str, _Compiled] = {}

    def first(self, scope: Scope, values: Row) -> Record | None:
        """Run it once; the first row, converted as the columns' types say."""
        compiled = self._for(scope.connection.dialect)
        parameters = compiled.bind(values)
        driver = scope.driver
        if driver is None:
            found = scope.connection.exec_driver_sql(compiled.sql, parameters).first()
            row = None if found is None else tuple(found)
        else:
            try:
                row = driver.execute(compiled.sql, parameters).fetchone()
            except sqlite3.Error as error:
                raise wrapped(error, compiled.sql, scope.connection) from error
        return row if row is None or compiled.read is None else compiled.read(row)

    def all(self, scope: Scope, values: Row) -> list[Record]:
        """Run it once; every row, converted as the columns' types say."""
        compiled = self._for(scope.connection.dialect)
        parameters = compiled.bind(values)
        driver = scope.driver
        if driver is None:
            found = scope.connection.exec_driver_sql(compiled.sql, parameters)
            rows = [tuple(row) for row in found]
        else:
            try:
                rows = driver.execute(compiled.sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise wrapped(error, compiled.sql, scope.connection) from error
        return rows if compiled.read is None else [compiled.read(row) for row in rows]

    def execute_many(self, scope: Scope, rows: Iterable[Row]) -> None:
        """Run it for each row, as one statement of the driver."""
        compiled = self._for(scope.connection.dialect)
        parameters = [compiled.bind(row) for row in rows]
        driver = scope.driver
        if driver is None:
            scope.connection.exec_driver_sql(compiled.sql, parameters)
            return
        try:
            driver.executemany(compiled.sql, parameters)
        except sqlite3.Error as error:
            raise wrapped(error, compiled.sql, scope.connection) from error

    def _for(self, dialect: Dialect) -> _Compiled:
        found = self._compiled.get(dialect.name)
        if found is None:
            found = _Compiled(self._statement, self._columns, dialect)
            self._compiled[dialect.name] = found
        return found


def prepared_insert(table: Table, *, returning_id: bool = False) -> Prepared:
    """An insert of every column but a generated ``id``; all of them must be given."""
    names = [column.name for column in table.columns if column.name != "id"]
    statement: Any = insert(table)
    if returning_id:
        statement = statement.returning(table.c.id)
    return Prepared(statement, columns=names)


def _binder(compiled: SQLCompiler, dialect: Dialect) -> Callable[[Row], Any]:
    """From values by name to what the driver takes, converted as the columns' types say."""
    names = list(compiled.positiontup or compiled.binds)
    convert = [(name, _bind_processor(compiled.binds[name].type, dialect)) for name in names]
    if compiled.positional:
        processed = [(i, process) for i, (_, process) in enumerate(convert) if process is not None]

        def bind(row: Row) -> Record:
            values = [row[name] for name in names]
            for index, process in processed:
                values[index] = process(values[index])
            return tuple(values)

        return bind
    return lambda row: {
        name: row[name] if process is None else process(row[name]) for name, process in convert
    }


def _reader(statement: ClauseElement, dialect: Dialect) -> Callable[[Sequence[Any]], Record] | None:
    """From a row of the driver to values; ``None`` when nothing is to be converted."""
    if not isinstance(statement, Select):
        return None
    processed = []
    for index, column in enumerate(statement.selected_columns):
        process = column.type.dialect_impl(dialect).result_processor(dialect, None)
        if process is not None:
            processed.append((index, process))
    if not processed:
        return None

    def read(row: Sequence[Any]) -> Record:
        values = list(row)
        for index, process in processed:
            values[index] = process(values[index])
        return tuple(values)

    return read


def _bind_processor(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    if isinstance(kind, UtcDateTime) and dialect.name == "sqlite":
        return _sqlite_moment
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _sqlite_moment(value: datetime | None) -> str | None:
    """What ``UtcDateTime`` and SQLAlchemy's ``DATETIME`` make of it, in one step."""
    if value is None:
        return None
    if value.tzinfo is not UTC:
        if value.tzinfo is None:
            raise ValueError("naive datetime: use the injected clock, which is aware UTC")
        value = value.astimezone(UTC)
    return value.isoformat(" ", "microseconds")[:26]
