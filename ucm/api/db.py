"""Tables: one shared ``MetaData`` with a naming convention, one declarative base per owner."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, Dialect, LargeBinary, MetaData, Text, TypeDecorator
from sqlalchemy import DateTime as SqlDateTime
from sqlalchemy.orm import DeclarativeBase

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime, whole seconds kept as given; naive values are refused."""

    impl = SqlDateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime: use the injected clock, which is aware UTC")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Der(TypeDecorator[bytes]):
    """DER bytes."""

    impl = LargeBinary
    cache_ok = True


class Sealed(TypeDecorator[str]):
    """Text that only the sealer may have produced (``ENC:`` and a Fernet token).

    Key rotation and the encryption status find every secret of every owner by this type.
    """

    impl = Text
    cache_ok = True


class Json(TypeDecorator[Any]):
    """A JSON value, stored as compact text on SQLite and ``json`` on PostgreSQL."""

    impl = JSON
    cache_ok = True


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: the same value is always the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def plugin_base(prefix: str) -> type[DeclarativeBase]:
    """A ``DeclarativeBase`` of the owner's own on the shared metadata, for tables that start with
    ``prefix``.

    An own registry keeps one owner's broken mapper from failing the queries of the others. A table
    name outside the prefix raises ``TypeError`` when its class is made.
    """
    shared = metadata

    class Base(DeclarativeBase):
        __abstract__ = True
        metadata = shared
        table_prefix: ClassVar[str] = prefix

        def __init_subclass__(cls, **kwargs: Any) -> None:
            name = cls.__dict__.get("__tablename__")
            if name is not None and not name.startswith(prefix):
                raise TypeError(f"table {name!r} must start with {prefix!r}")
            super().__init_subclass__(**kwargs)

    return Base
