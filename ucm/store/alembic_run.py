"""What Alembic does for UCM: run the revisions of one owner, compare tables with models.

Imported when a schema is changed or compared, not at every start: see ``ucm.store.revisions``.
"""

from __future__ import annotations

from typing import Any, Literal

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

import ucm.store.tables  # noqa: F401 registers the core's tables
from ucm.api.db import metadata
from ucm.store.revisions import folder


def run(
    connection: Connection,
    what: Literal["upgrade", "downgrade"],
    target: str,
    *,
    prefix: str,
    package: str,
) -> None:
    """Apply or undo revisions up to ``target`` within the transaction of ``connection``."""
    config = Config()
    for option, value in {
        "script_location": str(folder("ucm.migrations")),
        "version_locations": str(folder(package)),
        "path_separator": "newline",
    }.items():
        config.set_main_option(option, value.replace("%", "%%"))
    config.attributes.update(connection=connection, prefix=prefix, metadata=metadata)
    action = command.upgrade if what == "upgrade" else command.downgrade
    action(config, target)


def differences(connection: Connection, *, prefix: str, version_table: str) -> list[Any]:
    """What database and models disagree about in the owner's tables, in Alembic's words."""
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "version_table": version_table,
            "include_name": lambda name, kind, _: (
                kind != "table" or (name.startswith(prefix) and name != version_table)
            ),
            "include_object": lambda _item, name, kind, _reflected, _other: (
                kind != "table" or name.startswith(prefix)
            ),
        },
    )
    return list(compare_metadata(context, metadata))
