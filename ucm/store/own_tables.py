"""A session for an owner's own tables, which refuses statements that name tables of the core.

It keeps a plugin from reading or writing by mistake what only the core may: keys, accounts, the
audit trail. It is no wall against code that means harm, which shares the process and its memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

from sqlalchemy import ColumnClause, Connection, TableClause, TextClause, event, inspect
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql import visitors

from ucm.api.db import metadata
from ucm.api.errors import Forbidden

_PREFIX = "core_"
_IN_TEXT = re.compile(r"\bcore_[a-z0-9_]+", re.IGNORECASE)


class OwnTablesSession(Session):
    """Raises ``Forbidden`` for statements on tables of the core, for DDL, and for
    ``connection()``. Foreign keys to the core's tables are no such statements.
    """

    def connection(self, *args: Any, **options: Any) -> NoReturn:
        """Raises ``Forbidden``: statements are executed by the session itself."""
        raise Forbidden(
            "A plugin's session gives no connection away.",
            hint="Execute statements with session.execute().",
        )


@event.listens_for(OwnTablesSession, "do_orm_execute")
def _check_statement(state: ORMExecuteState) -> None:
    if isinstance(state.statement, ExecutableDDLElement):
        raise Forbidden(
            "A plugin's tables are made and changed by its migrations only.",
            hint="Offer them with ucm_migrations.",
        )
    for name in _names(state.statement):
        _refuse(name)


@event.listens_for(OwnTablesSession, "before_flush")
def _check_objects(session: Session, context: object, instances: object) -> None:
    for changed in (*session.new, *session.dirty, *session.deleted):
        for table in inspect(changed).mapper.tables:
            if table.description.startswith(_PREFIX):
                _refuse(table.description)


def _names(statement: Any) -> Iterator[str]:
    """Names of the core's tables in a statement, in SQL written as text too."""
    for element in visitors.iterate(statement):
        if isinstance(element, TableClause):
            if element.name.startswith(_PREFIX):
                yield element.name
        elif isinstance(element, TextClause):
            yield from _in_text(element.text)
        elif isinstance(element, ColumnClause):
            if element.is_literal:
                yield from _in_text(element.name)
            elif isinstance(element.table, TableClause) and element.table.name.startswith(_PREFIX):
                yield element.table.name


def _in_text(sql: str) -> list[str]:
    """Tables of the core, but not columns that are named after one (``core_key_id``)."""
    return [word for word in _IN_TEXT.findall(sql) if word.lower() in metadata.tables]


def _refuse(table: str) -> NoReturn:
    raise Forbidden(
        f"The table {table} is the core's; a plugin's session is for the plugin's own tables.",
        hint="Ask ctx.certificates, ctx.cas, ctx.keys or ctx.issuance for what the core knows.",
    )


def own_tables_session(connection: Connection) -> OwnTablesSession:
    """A session within the unit of that connection."""
    return OwnTablesSession(connection, join_transaction_mode="create_savepoint")
