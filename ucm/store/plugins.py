"""States of plugins, as the last start left them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select

from ucm.store import tables
from ucm.store.scope import Repository
from ucm.store.upsert import upsert

_t = tables.plugin.c


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginRow:
    """A plugin's last state; ``step`` and ``reason`` say where and why it failed."""

    name: str
    version: str
    state: str
    step: str
    reason: str
    settings_revision: int
    updated_at: datetime


class PluginRepository(Repository):
    """Plugin states."""

    def record(
        self,
        name: str,
        *,
        version: str,
        state: str,
        step: str = "",
        reason: str = "",
        settings_revision: int = 0,
    ) -> None:
        """Store the state."""
        values = {
            "version": version,
            "state": state,
            "step": step,
            "reason": reason,
            "settings_revision": settings_revision,
            "updated_at": self._scope.clock.now(),
        }
        upsert(self._connection, tables.plugin, key={"name": name}, values=values)

    def get(self, name: str) -> PluginRow | None:
        """The last state of one plugin."""
        row = self._execute(select(tables.plugin).where(_t.name == name)).first()
        return None if row is None else PluginRow(**row._mapping)

    def all(self) -> list[PluginRow]:
        """Every plugin that was ever selected, by name."""
        rows = self._execute(select(tables.plugin).order_by(_t.name))
        return [PluginRow(**row._mapping) for row in rows]

    def forget(self, name: str) -> None:
        """Remove the row."""
        self._execute(delete(tables.plugin).where(_t.name == name))
