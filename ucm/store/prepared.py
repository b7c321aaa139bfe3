"""Statements of the hot path, compiled once per database.

SQLAlchemy caches compiled statements, too, but spends several times the database's own work on
finding the cached one and binding its parameters. Issuance runs five statements per certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, Table, insert
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

Row = Mapping[str, Any]


class Prepared:
    """A statement with named parameters. Event listeners of the engine see it like any other."""

    def __init__(self, statement: ClauseElement, *, columns: Iterable[str] | None = None) -> None:
        self._statement = statement
        self._columns = None if columns is None else list(columns)
        self._compiled: dict[str, tuple[str, Callable[[Row], Any]]] = {}

    def execute(self, connection: Connection, values: Row) -> CursorResult[Any]:
        """Run it once."""
        sql, bind = self._for(connection.dialect)
        return connection.exec_driver_sql(sql, bind(values))

    def execute_many(self, connection: Connection, rows: Iterable[Row]) -> None:
        """Run it for each row, as one statement of the driver."""
        sql, bind = self._for(connection.dialect)
        connection.exec_driver_sql(sql, [bind(row) for row in rows])

    def _for(self, dialect: Dialect) -> tuple[str, Callable[[Row], Any]]:
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled = self._statement.compile(dialect=dialect, column_keys=self._columns)
            assert isinstance(compiled, SQLCompiler)  # noqa: S101 DML and SELECT compile to SQL
            found = compiled.string, _binder(compiled, dialect)
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
    convert = [
        (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
        for name in names
    ]
    if compiled.positional:
        return lambda row: tuple(
            row[name] if process is None else process(row[name]) for name, process in convert
        )
    return lambda row: {
        name: row[name] if process is None else process(row[name]) for name, process in convert
    }
