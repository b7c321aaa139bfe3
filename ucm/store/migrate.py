"""Schema migrations: one owner per run, each with a version table of its own.

The core is one owner, each plugin another. An upgrade happens in one transaction: it is complete or
leaves nothing behind. Processes that start together migrate one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import InterfaceError, OperationalError

from ucm.api.errors import StorageFailed
from ucm.store.engine import READ_ONLY, is_sqlite
from ucm.store.revisions import in_order

CORE = "core"
CORE_PREFIX = "core_"
CORE_PACKAGE = "ucm.migrations.core"

_LOCK = 0x55434D  # any number, the same in every process


def upgrade_core(engine: Engine) -> None:
    """Bring the core's tables to this version's schema."""
    upgrade_owner(engine, owner=CORE, prefix=CORE_PREFIX, package=CORE_PACKAGE)


def upgrade_owner(engine: Engine, *, owner: str, prefix: str, package: str) -> None:
    """Bring an owner's tables to the newest revision of its package.

    Raises ``StorageFailed`` when the database holds a revision that the package does not know, and
    what ``revisions`` raises.
    """
    with _exclusive(engine) as connection:
        _missing(connection, prefix=prefix, package=package)  # raises for what cannot be upgraded
        _alembic().run(connection, "upgrade", f"{owner}@head", prefix=prefix, package=package)


def downgrade_owner(engine: Engine, *, owner: str, prefix: str, package: str) -> None:
    """Undo all revisions of an owner and forget its version table: its tables are gone then.

    Raises as ``upgrade_owner``.
    """
    with _exclusive(engine) as connection:
        _missing(connection, prefix=prefix, package=package)
        _alembic().run(connection, "downgrade", f"{owner}@base", prefix=prefix, package=package)
        connection.execute(text(f'DROP TABLE IF EXISTS "{_version_table(prefix)}"'))


def current(engine: Engine, *, prefix: str) -> str | None:
    """The revision that the owner's tables have, ``None`` when there are none."""
    with _reading(engine) as connection:
        return _current(connection, prefix)


def pending(engine: Engine, *, prefix: str, package: str) -> tuple[str, ...]:
    """Revisions that an upgrade would apply, oldest first.

    Raises ``StorageFailed`` when the database holds a revision that the package does not know, and
    what ``revisions`` raises.
    """
    with _reading(engine) as connection:
        return _missing(connection, prefix=prefix, package=package)


def revisions(package: str) -> tuple[str, ...]:
    """Every revision that a package holds, oldest first.

    Raises ``LookupError`` when there is no such package, ``Invalid`` when its revisions are not
    one line.
    """
    return in_order(package)


def differences(engine: Engine, *, prefix: str) -> list[Any]:
    """What database and models disagree about in the owner's tables, in Alembic's words."""
    with _reading(engine) as connection:
        found: list[Any] = _alembic().differences(
            connection, prefix=prefix, version_table=_version_table(prefix)
        )
        return found


def _missing(connection: Connection, *, prefix: str, package: str) -> tuple[str, ...]:
    have, known = _current(connection, prefix), in_order(package)
    if have is None:
        return known
    if have not in known:
        raise _unknown_revision(prefix, have)
    return known[known.index(have) + 1 :]


def _current(connection: Connection, prefix: str) -> str | None:
    table = _version_table(prefix)
    if not inspect(connection).has_table(table):
        return None
    found = connection.execute(text(f'SELECT version_num FROM "{table}"')).scalars().all()  # noqa: S608 a prefix of the manifest
    return ", ".join(found) or None


def _alembic() -> ModuleType:
    from ucm.store import alembic_run  # noqa: PLC0415 10 MB that a start without changes can spare

    return alembic_run


def _version_table(prefix: str) -> str:
    return f"{prefix}alembic_version"


def _unknown_revision(prefix: str, revision: str | None) -> StorageFailed:
    return StorageFailed(
        f"The tables {prefix}* have the revision {revision}, which this version does not know.",
        hint="The database was used by a newer version: install that, or restore a backup.",
    )


def _reading(engine: Engine) -> Connection:
    return engine.execution_options(**{READ_ONLY: True}).connect()


@contextmanager
def _exclusive(engine: Engine) -> Iterator[Connection]:
    """One transaction that no other process migrates beside."""
    try:
        connection = engine.connect()
    except (OperationalError, InterfaceError) as error:
        raise StorageFailed(
            "The database cannot be reached.",
            hint="Check UCM_DATABASE_URL, and that the database server runs or the folder exists.",
        ) from error
    with connection:
        if not is_sqlite(engine):
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
                yield connection
            return
        # A table that is rebuilt is dropped for a moment; its references are checked at the end.
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise StorageFailed(
                        f"The migration would leave dangling references in {broken[0][0]}."
                    )
        finally:
            driver.execute("PRAGMA foreign_keys=ON")
