"""Alembic's environment: one owner per run, on a connection that the caller made.

``config.attributes`` carries ``connection``, ``prefix`` (of the owner's tables) and ``metadata``.
Each owner has a version table of its own, so that one that is removed takes nothing with it.
"""

from __future__ import annotations

from typing import Any

from alembic import context

_attributes = context.config.attributes
_prefix: str = _attributes["prefix"]
_version_table = f"{_prefix}alembic_version"


def _include_name(name: str | None, kind: str, parents: Any) -> bool:
    """Of the database, look at the owner's tables only: others would seem superfluous."""
    if kind == "table":
        return name is not None and name.startswith(_prefix) and name != _version_table
    return True


def _include_object(
    item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any
) -> bool:
    """Of the shared metadata, look at the owner's tables only."""
    return kind != "table" or bool(name and name.startswith(_prefix))


context.configure(
    connection=_attributes["connection"],
    target_metadata=_attributes["metadata"],
    version_table=_version_table,
    include_name=_include_name,
    include_object=_include_object,
    compare_type=True,
    compare_server_default=False,
    transaction_per_migration=False,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
