"""What repositories share within one unit of work."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError

from ucm.api.actor import Actor
from ucm.api.errors import Conflict
from ucm.api.services import Clock, Ids
from ucm.store.parsed import ParsedCertificates


@dataclass(frozen=True, slots=True)
class Scope:
    """One unit's connection with the sources of time and ids."""

    connection: Connection
    clock: Clock
    ids: Ids
    actor: Actor
    parsed: ParsedCertificates
    driver: sqlite3.Connection | None = None
    """Where prepared statements run; ``None``: SQLAlchemy runs them."""


class Repository:
    """Base of the repositories: reads return frozen views, writes are part of the open unit."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._connection = scope.connection

    def _execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return self._connection.execute(statement, parameters)

    def _number(self, statement: Executable, parameters: Any = None) -> int:
        """The one number a statement answers."""
        return int(self._connection.execute(statement, parameters).scalar_one())

    def _pairs(self, statement: Executable) -> Iterator[tuple[Any, int]]:
        """Rows of a value and a number."""
        for value, number in self._connection.execute(statement):
            yield value, int(number)

    def _insert(
        self, statement: Executable, values: Mapping[str, Any], *, unique: Mapping[str, str]
    ) -> int:
        """The new row's id. ``unique`` says for each unique column what its violation means.

        Raises ``Conflict``; the unit cannot go on then, unless the call was in ``tx.savepoint()``.
        """
        result = self._guarded(statement, values, unique=unique)
        (key,) = result.inserted_primary_key or (0,)
        return int(key)

    def _guarded(
        self, statement: Executable, values: Any, *, unique: Mapping[str, str]
    ) -> CursorResult[Any]:
        try:
            return self._connection.execute(statement, values)
        except IntegrityError as error:
            raise conflict_of(error, unique) from error


def conflict_of(error: IntegrityError, unique: Mapping[str, str]) -> Exception:
    """The ``Conflict`` that a violated constraint means, or the error itself.

    SQLite names the columns, PostgreSQL the constraint, which is named after the columns.
    """
    text = str(error.orig)
    for column, meaning in unique.items():
        if column in text:
            return Conflict(meaning)
    return error
