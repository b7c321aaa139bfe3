"""API keys; only a hash of a key is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from ucm.api.errors import NotFound
from ucm.store import tables
from ucm.store.scope import Repository

_t = tables.api_key.c
_CHANGEABLE = frozenset(
    {"name", "permissions", "expires_at", "is_active", "key_hash", "key_prefix"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKeyView:
    """A stored API key; ``permissions`` narrow what its owner may do."""

    id: int
    user_id: int
    name: str
    key_hash: str = field(repr=False)
    key_prefix: str
    permissions: tuple[str, ...]
    is_active: bool
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    last_used_ip: str | None


class ApiKeyRepository(Repository):
    """API keys."""

    def add(
        self,
        *,
        user_id: int,
        name: str,
        key_hash: str,
        key_prefix: str,
        permissions: tuple[str, ...],
        expires_at: datetime | None = None,
    ) -> int:
        """Store a key; return its id. Raises ``Conflict`` for a hash in use."""
        values = {
            "user_id": user_id,
            "name": name,
            "key_hash": key_hash,
            "key_prefix": key_prefix,
            "permissions": permissions,
            "expires_at": expires_at,
            "created_at": self._scope.clock.now(),
        }
        return self._insert(
            insert(tables.api_key), values, unique={"key_hash": "This key already exists."}
        )

    def get(self, key_id: int) -> ApiKeyView:
        """Raises ``NotFound``."""
        row = self._execute(select(tables.api_key).where(_t.id == key_id)).first()
        if row is None:
            raise NotFound(f"There is no API key with the id {key_id}.")
        return _view(row)

    def by_hash(self, key_hash: str) -> ApiKeyView | None:
        """The key, also when it is expired or revoked."""
        row = self._execute(select(tables.api_key).where(_t.key_hash == key_hash)).first()
        return None if row is None else _view(row)

    def of_user(self, user_id: int) -> list[ApiKeyView]:
        """A user's keys, newest first."""
        rows = self._execute(
            select(tables.api_key).where(_t.user_id == user_id).order_by(_t.id.desc())
        )
        return [_view(row) for row in rows]

    def touch(self, key_id: int, *, at: datetime, ip_address: str | None) -> None:
        """Note a use."""
        self._execute(
            update(tables.api_key)
            .where(_t.id == key_id)
            .values(last_used_at=at, last_used_ip=ip_address)
        )

    def update(self, key_id: int, **changes: Any) -> ApiKeyView:
        """Change name, permissions, expires_at, is_active, or the hash and prefix of the secret.

        Raises ``NotFound``.
        """
        unknown = changes.keys() - _CHANGEABLE
        if unknown:
            raise TypeError(f"not changeable: {', '.join(sorted(unknown))}")
        self._execute(update(tables.api_key).where(_t.id == key_id).values(**changes))
        return self.get(key_id)

    def delete(self, key_id: int) -> None:
        """Raises ``NotFound``."""
        if self._execute(delete(tables.api_key).where(_t.id == key_id)).rowcount == 0:
            raise NotFound(f"There is no API key with the id {key_id}.")


def _view(row: Row[Any]) -> ApiKeyView:
    return ApiKeyView(**row._mapping)
