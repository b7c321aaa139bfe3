"""Roles: named sets of permissions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from ucm.api.errors import NotFound
from ucm.store import tables
from ucm.store.scope import Repository

_t = tables.role.c
_UNIQUE = {"name_key": "Another role has this name."}


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleView:
    """A stored role."""

    id: int
    name: str
    description: str
    permissions: tuple[str, ...]
    inherits_from: int | None
    is_system: bool
    created_at: datetime
    updated_at: datetime | None


class RoleRepository(Repository):
    """Roles."""

    def add(
        self,
        *,
        name: str,
        permissions: tuple[str, ...],
        description: str = "",
        inherits_from: int | None = None,
        is_system: bool = False,
    ) -> int:
        """Store a role; return its id. Raises ``Conflict`` for a name in use."""
        values = {
            "name": name,
            "name_key": name.casefold(),
            "description": description,
            "permissions": permissions,
            "inherits_from": inherits_from,
            "is_system": is_system,
            "created_at": self._scope.clock.now(),
        }
        return self._insert(insert(tables.role), values, unique=_UNIQUE)

    def get(self, role_id: int) -> RoleView:
        """Raises ``NotFound``."""
        row = self._execute(_SELECT.where(_t.id == role_id)).first()
        if row is None:
            raise NotFound(f"There is no role with the id {role_id}.")
        return _view(row)

    def by_name(self, name: str) -> RoleView | None:
        """In any case."""
        row = self._execute(_SELECT.where(_t.name_key == name.casefold())).first()
        return None if row is None else _view(row)

    def all(self) -> list[RoleView]:
        """Roles by name."""
        return [_view(row) for row in self._execute(_SELECT.order_by(_t.name_key))]

    def user_counts(self) -> dict[int, int]:
        """Number of accounts per custom role."""
        role_id = tables.user.c.custom_role_id
        statement = select(role_id, func.count()).where(role_id.is_not(None)).group_by(role_id)
        return dict(self._pairs(statement))

    def update(self, role_id: int, **changes: Any) -> RoleView:
        """Change name, description, permissions or inherits_from.

        Raises ``NotFound``, and ``Conflict`` for a name in use.
        """
        unknown = changes.keys() - {"name", "description", "permissions", "inherits_from"}
        if unknown:
            raise TypeError(f"not changeable: {', '.join(sorted(unknown))}")
        if "name" in changes:
            changes["name_key"] = changes["name"].casefold()
        changes["updated_at"] = self._scope.clock.now()
        self._guarded(
            update(tables.role).where(_t.id == role_id).values(**changes), None, unique=_UNIQUE
        )
        return self.get(role_id)

    def delete(self, role_id: int) -> None:
        """Raises ``NotFound``, and ``Conflict`` while accounts or roles use it."""
        result = self._guarded(
            delete(tables.role).where(_t.id == role_id),
            None,
            unique={"": "The role is still assigned to accounts or inherited by another role."},
        )
        if result.rowcount == 0:
            raise NotFound(f"There is no role with the id {role_id}.")


_SELECT = select(*(column for column in tables.role.columns if column.name != "name_key"))


def _view(row: Row[Any]) -> RoleView:
    return RoleView(**row._mapping)
