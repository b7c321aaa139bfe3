"""Every sealed secret of every owner, wherever it lies: what rotation and the encryption status
walk over.

Secrets are found by their column's type (``ucm.api.db.Sealed``). Tables of plugins that are not
loaded now have no types: of those, text columns that hold sealed texts are taken, so that a
rotation never leaves a disabled plugin with secrets under a key that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    MetaData,
    Table,
    Text,
    and_,
    func,
    inspect,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.types import String

from ucm.api.db import Sealed, metadata
from ucm.store.engine import is_sqlite

_MARK = "ENC:%"


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column that holds sealed texts, in a table with a primary key."""

    table: Table = field(repr=False)
    column: Column[Any] = field(repr=False)

    @property
    def name(self) -> str:
        """``table.column``."""
        return f"{self.table.name}.{self.column.name}"


@dataclass(frozen=True, slots=True)
class SealedValue:
    """One stored text and the primary key of its row."""

    key: tuple[Any, ...]
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedCount:
    """How many texts of a column carry the mark of sealing, and how many do not."""

    sealed: int
    plain: int


def sealed_columns(session: Session) -> tuple[SealedColumn, ...]:
    """Every column of this database that holds secrets, by name."""
    present = set(inspect(session.connection()).get_table_names())
    found = [
        SealedColumn(table, column)
        for table in metadata.tables.values()
        if table.name in present
        for column in table.columns
        if isinstance(column.type, Sealed)
    ]
    for name in present - set(metadata.tables):
        found.extend(_untyped_columns(session, name))
    return tuple(sorted(found, key=lambda column: column.name))


def _untyped_columns(session: Session, name: str) -> Iterator[SealedColumn]:
    table = Table(name, MetaData(), autoload_with=session.connection())
    if not table.primary_key.columns:
        return
    for column in table.columns:
        if isinstance(column.type, (String, Text)):
            holds_secrets = select(column).where(column.like(_MARK)).limit(1)
            if session.execute(holds_secrets).first() is not None:
                yield SealedColumn(table, column)


def any_sealed(session: Session) -> str | None:
    """Some sealed text of this database, or ``None`` when there is none."""
    for column in sealed_columns(session):
        query = select(column.column).where(column.column.like(_MARK)).limit(1)
        found = session.execute(query).scalar()
        if found is not None:
            return str(found)
    return None


def count(session: Session, column: SealedColumn) -> SealedCount:
    """The numbers of sealed and of plain texts in a column."""
    total, sealed = session.execute(
        select(
            func.count(column.column),
            func.count(column.column).filter(column.column.like(_MARK)),
        )
    ).one()
    return SealedCount(sealed=sealed, plain=total - sealed)


def batch(
    session: Session, column: SealedColumn, *, after: tuple[Any, ...] | None, size: int
) -> Sequence[SealedValue]:
    """The next texts of a column, plain ones too, in the order of the primary key."""
    keys = list(column.table.primary_key.columns)
    query = select(*keys, column.column).where(column.column.is_not(None)).order_by(*keys)
    if after is not None:
        query = query.where(_beyond(keys, after))
    return [
        SealedValue(key=tuple(row[:-1]), text=row[-1]) for row in session.execute(query.limit(size))
    ]


def _beyond(keys: list[Column[Any]], after: tuple[Any, ...]) -> ColumnElement[bool]:
    return keys[0] > after[0] if len(keys) == 1 else tuple_(*keys) > tuple_(*after)


def wipe_replaced_texts(session: Session) -> None:
    """From here to the end of the unit, SQLite overwrites what it frees in the database file.

    Text that is replaced would otherwise stay readable in the file. PostgreSQL has no such switch:
    there the old version of a row is gone after the next VACUUM.
    """
    if is_sqlite(session.connection()):
        session.execute(text("PRAGMA secure_delete = ON"))


def replace(session: Session, column: SealedColumn, value: SealedValue, *, new: str) -> bool:
    """Store another text, unless the row was changed or deleted meanwhile (then ``False``)."""
    row = and_(
        *(
            key == part
            for key, part in zip(column.table.primary_key.columns, value.key, strict=True)
        ),
        column.column == value.text,
    )
    changed = session.execute(update(column.table).where(row).values({column.column: new}))
    return bool(changed.rowcount)  # type: ignore[attr-defined]
