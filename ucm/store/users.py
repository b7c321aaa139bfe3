"""Accounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, insert, or_, select, update

from ucm.api.errors import Conflict, NotFound
from ucm.store import tables
from ucm.store.paging import Page
from ucm.store.scope import Repository

_t = tables.user.c
_UNIQUE = {
    "username_key": "Another account has this username.",
    "email_key": "Another local account has this email address.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewUser:
    """An account; ``password_hash`` in PHC format, ``None`` for accounts without a password."""

    username: str
    email: str
    role: str
    password_hash: str | None = field(default=None, repr=False)
    full_name: str = ""
    custom_role_id: int | None = None
    active: bool = True
    force_password_change: bool = False
    auth_source: str = "local"
    preferences: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class UserView:
    """A stored account."""

    id: int
    username: str
    email: str
    full_name: str
    password_hash: str | None = field(repr=False)
    role: str
    custom_role_id: int | None
    active: bool
    force_password_change: bool
    auth_source: str
    preferences: Mapping[str, Any]
    created_at: datetime
    last_login: datetime | None
    login_count: int
    failed_logins: int
    locked_until: datetime | None
    password_changed_at: datetime | None
    version: int


_CHANGEABLE = frozenset(
    {
        *(name for name in NewUser.__slots__ if name not in {"username", "auth_source"}),
        "password_changed_at",
        "failed_logins",
        "locked_until",
        "username",
    }
)


class UserRepository(Repository):
    """Accounts. Usernames, and emails of local accounts, are unique in any case."""

    def add(self, new: NewUser) -> int:
        """Store an account; return its id. Raises ``Conflict``."""
        values = {name: getattr(new, name) for name in NewUser.__slots__}
        now = self._scope.clock.now()
        values |= {
            "username_key": new.username.casefold(),
            "email_key": _email_key(new.email, new.auth_source),
            "preferences": dict(new.preferences),
            "created_at": now,
            "password_changed_at": now if new.password_hash else None,
        }
        return self._insert(insert(tables.user), values, unique=_UNIQUE)

    def get(self, user_id: int) -> UserView:
        """Raises ``NotFound``."""
        found = self._first(_t.id == user_id)
        if found is None:
            raise NotFound(f"There is no user with the id {user_id}.")
        return found

    def by_username(self, username: str) -> UserView | None:
        """In any case."""
        return self._first(_t.username_key == username.casefold())

    def page(
        self,
        *,
        roles: tuple[str, ...] = (),
        active: bool | None = None,
        search: str = "",
        page: int = 1,
        per_page: int = 20,
    ) -> Page[UserView]:
        """By username."""
        conditions: list[ColumnElement[bool]] = []
        if roles:
            conditions.append(_t.role.in_(roles))
        if active is not None:
            conditions.append(_t.active.is_(active))
        for word in search.split():
            conditions.append(
                or_(
                    *(
                        c.icontains(word, autoescape=True)
                        for c in (_t.username, _t.email, _t.full_name)
                    )
                )
            )
        total = self._number(select(func.count()).select_from(tables.user).where(*conditions))
        rows = self._execute(
            _SELECT.where(*conditions)
            .order_by(_t.username_key)
            .limit(per_page)
            .offset((page - 1) * per_page)
        )
        return Page(tuple(_view(row) for row in rows), total, page, per_page)

    def count(self) -> int:
        """Number of accounts."""
        return self._number(select(func.count()).select_from(tables.user))

    def active_admins(self) -> int:
        """Number of active administrators, who stay so until the unit ends: two units that would
        each take the right from one of the last two cannot both count two.
        """
        statement = select(_t.id).where(_t.role == "admin", _t.active).with_for_update()
        return len(self._execute(statement).all())

    def update(self, user_id: int, *, version: int | None = None, **changes: Any) -> UserView:
        """Change fields.

        Raises ``NotFound``, and ``Conflict`` for a name in use or a ``version`` no longer current.
        """
        unknown = changes.keys() - _CHANGEABLE
        if unknown:
            raise TypeError(f"not changeable: {', '.join(sorted(unknown))}")
        before = self.get(user_id)
        values = dict(changes)
        if "username" in values:
            values["username_key"] = values["username"].casefold()
        if "email" in values:
            values["email_key"] = _email_key(values["email"], before.auth_source)
        if values.get("password_hash"):
            values.setdefault("password_changed_at", self._scope.clock.now())
        statement = update(tables.user).where(_t.id == user_id)
        if version is not None:
            statement = statement.where(_t.version == version)
        result = self._guarded(
            statement.values(**values, version=_t.version + 1), None, unique=_UNIQUE
        )
        if result.rowcount == 0:
            raise Conflict(
                "The account was changed meanwhile.", hint="Read it again and repeat the change."
            )
        return self.get(user_id)

    def record_login(self, user_id: int, *, at: datetime) -> None:
        """A sign-in succeeded: count it and forget failures."""
        self._execute(
            update(tables.user)
            .where(_t.id == user_id)
            .values(
                last_login=at,
                login_count=_t.login_count + 1,
                failed_logins=0,
                locked_until=None,
            )
        )

    def record_failure(self, user_id: int, *, limit: int, locked_until: datetime) -> bool:
        """A sign-in failed: count it, lock at the limit; return whether that locked it."""
        self._execute(
            update(tables.user).where(_t.id == user_id).values(failed_logins=_t.failed_logins + 1)
        )
        result = self._execute(
            update(tables.user)
            .where(_t.id == user_id, _t.failed_logins >= limit)
            .values(locked_until=locked_until, failed_logins=0)
        )
        return bool(result.rowcount)

    def delete(self, user_id: int) -> None:
        """Delete the account with its sessions, API keys and memberships. Raises ``NotFound``."""
        if self._execute(delete(tables.user).where(_t.id == user_id)).rowcount == 0:
            raise NotFound(f"There is no user with the id {user_id}.")

    def _first(self, condition: ColumnElement[bool]) -> UserView | None:
        row = self._execute(_SELECT.where(condition)).first()
        return None if row is None else _view(row)


_SELECT = select(*(c for c in tables.user.columns if c.name not in {"username_key", "email_key"}))


def _email_key(email: str, auth_source: str) -> str | None:
    return email.casefold() if email and auth_source == "local" else None


def _view(row: Row[Any]) -> UserView:
    return UserView(**row._mapping)
