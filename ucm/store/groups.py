"""Groups of accounts that add permissions to their members."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from ucm.api.errors import NotFound
from ucm.store import tables
from ucm.store.scope import Repository

_t = tables.group.c
_m = tables.group_member.c
_UNIQUE = {"name_key": "Another group has this name."}


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupView:
    """A stored group."""

    id: int
    name: str
    description: str
    permissions: tuple[str, ...]
    member_count: int
    created_at: datetime
    updated_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupMember:
    """A membership; ``role`` is ``member`` or ``admin`` of the group."""

    group_id: int
    user_id: int
    username: str
    email: str
    full_name: str
    role: str
    joined_at: datetime


class GroupRepository(Repository):
    """Groups."""

    def add(self, *, name: str, permissions: tuple[str, ...], description: str = "") -> int:
        """Store a group; return its id. Raises ``Conflict`` for a name in use."""
        values = {
            "name": name,
            "name_key": name.casefold(),
            "description": description,
            "permissions": permissions,
            "created_at": self._scope.clock.now(),
        }
        return self._insert(insert(tables.group), values, unique=_UNIQUE)

    def get(self, group_id: int) -> GroupView:
        """Raises ``NotFound``."""
        row = self._execute(_SELECT.where(_t.id == group_id)).first()
        if row is None:
            raise NotFound(f"There is no group with the id {group_id}.")
        return _view(row)

    def all(self) -> list[GroupView]:
        """Groups by name."""
        return [_view(row) for row in self._execute(_SELECT.order_by(_t.name_key))]

    def update(self, group_id: int, **changes: Any) -> GroupView:
        """Change name, description or permissions.

        Raises ``NotFound``, and ``Conflict`` for a name in use.
        """
        unknown = changes.keys() - {"name", "description", "permissions"}
        if unknown:
            raise TypeError(f"not changeable: {', '.join(sorted(unknown))}")
        if "name" in changes:
            changes["name_key"] = changes["name"].casefold()
        changes["updated_at"] = self._scope.clock.now()
        self._guarded(
            update(tables.group).where(_t.id == group_id).values(**changes), None, unique=_UNIQUE
        )
        return self.get(group_id)

    def delete(self, group_id: int) -> None:
        """Delete a group with its memberships. Raises ``NotFound``."""
        if self._execute(delete(tables.group).where(_t.id == group_id)).rowcount == 0:
            raise NotFound(f"There is no group with the id {group_id}.")

    def members(self, group_id: int) -> list[GroupMember]:
        """Members by username."""
        u = tables.user.c
        rows = self._execute(
            select(tables.group_member, u.username, u.email, u.full_name)
            .join_from(tables.group_member, tables.user)
            .where(_m.group_id == group_id)
            .order_by(u.username_key)
        )
        return [GroupMember(**row._mapping) for row in rows]

    def add_member(self, group_id: int, *, user_id: int, role: str = "member") -> None:
        """Raises ``Conflict`` for a member, or an account or group that does not exist."""
        self._guarded(
            insert(tables.group_member),
            {
                "group_id": group_id,
                "user_id": user_id,
                "role": role,
                "joined_at": self._scope.clock.now(),
            },
            unique={"": "The account is already a member, or the account or group is gone."},
        )

    def remove_member(self, group_id: int, *, user_id: int) -> None:
        """Raises ``NotFound``."""
        result = self._execute(
            delete(tables.group_member).where(_m.group_id == group_id, _m.user_id == user_id)
        )
        if result.rowcount == 0:
            raise NotFound("The account is not a member of the group.")

    def permissions_of(self, user_id: int) -> frozenset[str]:
        """What all groups of an account add."""
        rows = self._execute(
            select(_t.permissions)
            .join_from(tables.group, tables.group_member)
            .where(_m.user_id == user_id)
        ).scalars()
        return frozenset(permission for permissions in rows for permission in permissions)


_member_count = (
    select(func.count())
    .where(_m.group_id == _t.id)
    .correlate(tables.group)
    .scalar_subquery()
    .label("member_count")
)
_SELECT = select(*(c for c in tables.group.columns if c.name != "name_key"), _member_count)


def _view(row: Row[Any]) -> GroupView:
    return GroupView(**row._mapping)
