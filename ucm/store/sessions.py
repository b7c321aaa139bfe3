"""Server-side sessions; only a hash of the cookie's token is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, or_, select, update

from ucm.store import tables
from ucm.store.scope import Repository

_t = tables.session.c


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionView:
    """A signed-in browser. ``absolute_expires_at`` ends it whatever its activity."""

    id: int
    token_hash: str = field(repr=False)
    user_id: int
    auth_method: str
    ip_address: str | None
    user_agent: str | None
    created_at: datetime
    last_activity: datetime
    expires_at: datetime
    absolute_expires_at: datetime


class SessionRepository(Repository):
    """Sessions."""

    def add(  # noqa: PLR0913 one argument a column
        self,
        *,
        token_hash: str,
        user_id: int,
        auth_method: str,
        expires_at: datetime,
        absolute_expires_at: datetime,
        ip_address: str | None = None,
        user_agent: str | None = None,
    ) -> int:
        """Open a session; return its id."""
        now = self._scope.clock.now()
        values = {
            "token_hash": token_hash,
            "user_id": user_id,
            "auth_method": auth_method,
            "ip_address": ip_address,
            "user_agent": user_agent,
            "created_at": now,
            "last_activity": now,
            "expires_at": expires_at,
            "absolute_expires_at": absolute_expires_at,
        }
        return self._insert(
            insert(tables.session), values, unique={"token_hash": "The token is already used."}
        )

    def by_token_hash(self, token_hash: str) -> SessionView | None:
        """The session, also when it has expired."""
        row = self._execute(select(tables.session).where(_t.token_hash == token_hash)).first()
        return None if row is None else _view(row)

    def of_user(self, user_id: int) -> list[SessionView]:
        """A user's sessions, newest first."""
        rows = self._execute(
            select(tables.session).where(_t.user_id == user_id).order_by(_t.id.desc())
        )
        return [_view(row) for row in rows]

    def touch(self, session_id: int, *, at: datetime, expires_at: datetime) -> None:
        """Note activity and move the idle end."""
        self._execute(
            update(tables.session)
            .where(_t.id == session_id)
            .values(last_activity=at, expires_at=expires_at)
        )

    def delete(self, session_id: int) -> bool:
        """End a session; return whether there was one."""
        return bool(self._execute(delete(tables.session).where(_t.id == session_id)).rowcount)

    def delete_of_user(self, user_id: int, *, keep: int | None = None) -> int:
        """End a user's sessions but one; return how many ended."""
        statement = delete(tables.session).where(_t.user_id == user_id)
        if keep is not None:
            statement = statement.where(_t.id != keep)
        return self._execute(statement).rowcount

    def delete_expired(self, *, now: datetime) -> int:
        """Remove what has ended; return how many."""
        over = or_(_t.expires_at < now, _t.absolute_expires_at < now)
        return self._execute(delete(tables.session).where(over)).rowcount


def _view(row: Row[Any]) -> SessionView:
    return SessionView(**row._mapping)
