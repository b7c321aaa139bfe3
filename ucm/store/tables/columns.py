"""Column kinds that the core's tables share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Integer,
    Text,
    TypeDecorator,
    false,
    true,
)

from ucm.api.db import UtcDateTime

TABLE_PREFIX = "core_"

Id = BigInteger().with_variant(Integer(), "sqlite")
"""Only INTEGER is SQLite's row id."""

Sorted = Text().with_variant(Text(collation="C"), "postgresql")
"""Text in code point order on both databases: prefix ranges and keysets can use its index."""


class TextList(TypeDecorator[tuple[str, ...]]):
    """A tuple of texts, stored as a JSON array in a text; the empty one costs nothing."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Iterable[str] | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return json.dumps(list(value), ensure_ascii=False) if value else "[]"

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...] | None:
        if value is None:
            return None
        return () if value == "[]" else tuple(json.loads(value))


def text_list(name: str) -> Column[tuple[str, ...]]:
    """A list of texts that is always there."""
    return Column(name, TextList, nullable=False, server_default="[]")


def primary_key() -> Column[int]:
    """The row's id. Never given twice where the table sets ``sqlite_autoincrement``, for audit rows
    and plugins keep ids of rows that are gone.
    """
    return Column("id", Id, primary_key=True)


def reference(column: str, target: str, *, nullable: bool = True, **options: Any) -> Column[Any]:
    """A foreign key to the id of another table; ``options`` go to ``ForeignKey``."""
    return Column(column, Id, ForeignKey(f"{target}.id", **options), nullable=nullable)


def text(name: str, *, default: str | None = None, unique: bool = False) -> Column[str]:
    """A text that is always there."""
    return Column(name, Text, nullable=False, server_default=default, unique=unique)


def optional_text(name: str, *, unique: bool = False) -> Column[str | None]:
    """A text that may be missing."""
    return Column(name, Text, nullable=True, unique=unique)


def flag(name: str, *, default: bool) -> Column[bool]:
    """Yes or no."""
    return Column(name, Boolean, nullable=False, server_default=true() if default else false())


def number(name: str, *, default: int) -> Column[int]:
    """A whole number that is always there."""
    return Column(name, Integer, nullable=False, server_default=str(default))


def moment(name: str, *, nullable: bool = False) -> Column[Any]:
    """An aware UTC time."""
    return Column(name, UtcDateTime, nullable=nullable)
