"""Schema migrations: one owner per run, each with a version table of its own.

The core is one owner, each plugin another. An upgrade happens in one transaction: it is complete or
leaves nothing behind. Processes that start together migrate one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import InterfaceError, OperationalError

import ucm.store.tables  # noqa: F401 registers the core's tables
from ucm.api.db import metadata
from ucm.api.errors import StorageFailed
from ucm.store.engine import READ_ONLY, is_sqlite

CORE = "core"
CORE_PREFIX = "core_"
CORE_PACKAGE = "ucm.migrations.core"

_LOCK = 0x55434D  # any number, the same in every process


def upgrade_core(engine: Engine) -> None:
    """Bring the core's tables to this version's schema."""
    upgrade_owner(engine, owner=CORE, prefix=CORE_PREFIX, package=CORE_PACKAGE)


def upgrade_owner(engine: Engine, *, owner: str, prefix: str, package: str) -> None:
    """Bring an owner's tables to the newest revision of its package.

    Raises ``StorageFailed`` when the database holds a revision that the package does not know.
    """
    with _exclusive(engine) as connection:
        _run(connection, "upgrade", f"{owner}@head", prefix=prefix, package=package, owner=owner)


def downgrade_owner(engine: Engine, *, owner: str, prefix: str, package: str) -> None:
    """Undo all revisions of an owner and forget its version table: its tables are gone then."""
    with _exclusive(engine) as connection:
        _run(connection, "downgrade", f"{owner}@base", prefix=prefix, package=package, owner=owner)
        connection.execute(text(f'DROP TABLE IF EXISTS "{_version_table(prefix)}"'))


def current(engine: Engine, *, prefix: str) -> str | None:
    """The revision that the owner's tables have, ``None`` when there are none."""
    with _reading(engine) as connection:
        return _current(connection, prefix)


def pending(engine: Engine, *, prefix: str, package: str) -> tuple[str, ...]:
    """Revisions that an upgrade would apply, oldest first.

    Raises ``StorageFailed`` when the database holds a revision that the package does not know.
    """
    with _reading(engine) as connection:
        have = _current(connection, prefix)
    script = ScriptDirectory.from_config(_config(package))
    try:
        todo = [step.revision for step in script.iterate_revisions("heads", have or "base")]
    except (CommandError, RevisionError) as error:
        raise _unknown_revision(prefix, have) from error
    return tuple(reversed(todo))


def revisions(package: str) -> frozenset[str]:
    """Every revision that a package of revisions holds."""
    script = ScriptDirectory.from_config(_config(package))
    return frozenset(step.revision for step in script.walk_revisions())


def differences(engine: Engine, *, prefix: str) -> list[Any]:
    """What database and models disagree about in the owner's tables, in Alembic's words."""
    with _reading(engine) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "version_table": _version_table(prefix),
                "include_name": lambda name, kind, _: (
                    kind != "table" or (name.startswith(prefix) and name != _version_table(prefix))
                ),
                "include_object": lambda _item, name, kind, _reflected, _other: (
                    kind != "table" or name.startswith(prefix)
                ),
            },
        )
        return list(compare_metadata(context, metadata))


def _current(connection: Connection, prefix: str) -> str | None:
    table = _version_table(prefix)
    if not inspect(connection).has_table(table):
        return None
    context = MigrationContext.configure(connection, opts={"version_table": table})
    return context.get_current_revision()


def _run(
    connection: Connection, what: str, target: str, *, prefix: str, package: str, owner: str
) -> None:
    config = _config(package)
    config.attributes.update(connection=connection, prefix=prefix, metadata=metadata)
    try:
        getattr(command, what)(config, target)
    except (CommandError, RevisionError) as error:
        raise _unknown_revision(prefix, _current(connection, prefix)) from error


def _config(package: str) -> Config:
    config = Config()
    for option, value in {
        "script_location": str(_folder("ucm.migrations")),
        "version_locations": str(_folder(package)),
        "path_separator": "newline",
    }.items():
        config.set_main_option(option, value.replace("%", "%%"))
    return config


def _folder(package: str) -> Path:
    spec = find_spec(package)
    locations = None if spec is None else spec.submodule_search_locations
    if not locations:
        raise LookupError(f"{package} is not a package with revisions")
    return Path(next(iter(locations)))


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
