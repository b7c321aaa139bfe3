"""API keys: random secrets of which the database keeps a hash, limited to scopes of their owner."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ucm.api.actor import Actor, ActorKind
from ucm.api.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, Unauthenticated
from ucm.api.services import Clock, Ids, Target
from ucm.domain.rbac import Roles, covers, intersection
from ucm.services.auth import Client, token_hash
from ucm.store.api_keys import ApiKeyView
from ucm.store.uow import UnitOfWork
from ucm.store.users import UserView

PREFIX = "ucm_ak_"
MAXIMUM_ACTIVE = 10
"""Active keys that one account may have."""
_SHOWN = 12
_LENGTH = len(PREFIX) + 43
_CACHE_SECONDS = 1.0
_CACHE_SIZE = 1024
_TOUCH_EVERY = timedelta(minutes=1)
_WRONG = "The API key is unknown, expired or revoked."
_WRONG_HINT = "Create another one with POST /api/v2/account/apikeys."


@dataclass(frozen=True, kw_only=True, slots=True)
class CreatedKey:
    """A new key. ``secret`` is shown once and never again."""

    key: ApiKeyView
    secret: str = field(repr=False)


@dataclass(slots=True)
class _Cached:
    key: ApiKeyView
    owner: UserView
    permissions: frozenset[str]
    read_at: float


class ApiKeyService:
    """Keys of accounts, and who a key speaks for.

    A key that was used within the last second is not read from the database again: revoking it
    works at once in the process that did it, and within a second in the others.
    """

    def __init__(
        self, *, uow: UnitOfWork, clock: Clock, ids: Ids, roles: Callable[[], Roles]
    ) -> None:
        self._uow = uow
        self._clock = clock
        self._ids = ids
        self._roles = roles
        self._cache: dict[str, _Cached] = {}
        self._lock = threading.Lock()

    def identify(self, secret: str, *, client: Client) -> Actor:
        """The actor of a key: its scopes, as far as the owner holds them today.

        Raises ``Unauthenticated`` for a key that is unknown, expired, revoked or of a disabled
        account.
        """
        if len(secret) != _LENGTH or not secret.startswith(PREFIX) or not secret.isascii():
            raise Unauthenticated(_WRONG, hint=_WRONG_HINT)
        found = self._look_up(token_hash(secret))
        now = self._clock.now()
        if found is None or not found.key.is_active or not found.owner.active:
            raise Unauthenticated(_WRONG, hint=_WRONG_HINT)
        if found.key.expires_at is not None and found.key.expires_at <= now:
            raise Unauthenticated(_WRONG, hint=_WRONG_HINT)
        owner = found.owner
        actor = Actor(
            kind=ActorKind.API_KEY,
            name=owner.username,
            user_id=owner.id,
            role=owner.role,
            permissions=found.permissions,
            ip_address=client.ip_address,
            user_agent=client.user_agent,
        )
        if found.key.last_used_at is None or now - found.key.last_used_at >= _TOUCH_EVERY:
            self._touch(found, now=now, actor=actor)
        return actor

    def _look_up(self, key_hash: str) -> _Cached | None:
        moment = self._clock.monotonic()
        cached = self._cache.get(key_hash)
        if cached is not None and 0 <= moment - cached.read_at < _CACHE_SECONDS:
            return cached
        with self._uow.read() as reader:
            key = reader.api_keys.by_hash(key_hash)
            if key is None:
                return None
            owner = reader.users.get(key.user_id)
        held = self._roles().permissions(owner.role)
        permissions = intersection(key.permissions, held)
        entry = _Cached(key=key, owner=owner, permissions=permissions, read_at=moment)
        with self._lock:
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[key_hash] = entry
        return entry

    def _touch(self, found: _Cached, *, now: datetime, actor: Actor) -> None:
        # The cached copy too, or every request of the next second would write again.
        found.key = replace(found.key, last_used_at=now)
        with self._uow.begin(actor) as tx:
            tx.api_keys.touch(found.key.id, at=now, ip_address=actor.ip_address)

    def _forget(self) -> None:
        with self._lock:
            self._cache.clear()

    def list(self, user_id: int) -> Sequence[ApiKeyView]:
        """The account's keys, newest first."""
        with self._uow.read() as reader:
            return tuple(reader.api_keys.of_user(user_id))

    def get(self, key_id: int, *, user_id: int) -> ApiKeyView:
        """One key of the account. Raises ``NotFound``, for another account's key too."""
        with self._uow.read() as reader:
            return _owned(reader.api_keys.get(key_id), user_id=user_id)

    def create(
        self,
        name: str,
        *,
        permissions: Sequence[str],
        expires_days: int | None,
        actor: Actor,
    ) -> CreatedKey:
        """A new key of the actor's account; ``expires_days`` ``None`` is never.

        Raises ``Invalid`` for unknown scopes, ``Forbidden`` for scopes beyond the actor's own and
        for an actor that is itself a key, ``Conflict`` at the limit of active keys.
        """
        user_id = _account_of(actor)
        self._check_scopes(permissions, actor=actor)
        now = self._clock.now()
        secret = self._new_secret()
        with self._uow.begin(actor) as tx:
            active = sum(1 for key in tx.api_keys.of_user(user_id) if _is_live(key, now=now))
            if active >= MAXIMUM_ACTIVE:
                raise Conflict(
                    f"An account has at most {MAXIMUM_ACTIVE} active API keys.",
                    hint="Revoke one that is no longer used.",
                )
            key_id = tx.api_keys.add(
                user_id=user_id,
                name=name,
                key_hash=token_hash(secret),
                key_prefix=secret[:_SHOWN],
                permissions=tuple(dict.fromkeys(permissions)),
                expires_at=None if not expires_days else now + timedelta(days=expires_days),
            )
            key = tx.api_keys.get(key_id)
            tx.audit(
                "apikey_create",
                target=Target("api_key", key.id, name),
                permissions=list(key.permissions),
            )
        return CreatedKey(key=key, secret=secret)

    def rename(self, key_id: int, *, name: str, actor: Actor) -> ApiKeyView:
        """Another name. Raises ``NotFound``, and ``Forbidden`` for an actor that is a key."""
        with self._uow.begin(actor) as tx:
            old = _owned(tx.api_keys.get(key_id), user_id=_account_of(actor))
            renamed = tx.api_keys.update(key_id, name=name)
            tx.audit("apikey_update", target=Target("api_key", key_id, name), was=old.name)
        self._forget()
        return renamed

    def regenerate(self, key_id: int, *, actor: Actor) -> CreatedKey:
        """The same key with a new secret; the old secret ends at once. Raises ``NotFound``,
        ``Conflict`` for a revoked key, ``Forbidden`` for an actor that is a key itself.
        """
        secret = self._new_secret()
        with self._uow.begin(actor) as tx:
            old = _owned(tx.api_keys.get(key_id), user_id=_account_of(actor))
            if not old.is_active:
                raise Conflict("The API key is revoked.", hint="Create a new one.")
            self._check_scopes(old.permissions, actor=actor)
            key = tx.api_keys.update(
                key_id, key_hash=token_hash(secret), key_prefix=secret[:_SHOWN]
            )
            tx.audit("apikey_regenerate", target=Target("api_key", key_id, old.name))
        self._forget()
        return CreatedKey(key=key, secret=secret)

    def remove(self, key_id: int, *, actor: Actor) -> bool:
        """Revoke an active key, delete a revoked one; returns whether it was deleted.

        Raises ``NotFound``, and ``Forbidden`` for an actor that is a key.
        """
        with self._uow.begin(actor) as tx:
            key = _owned(tx.api_keys.get(key_id), user_id=_account_of(actor))
            target = Target("api_key", key_id, key.name)
            if key.is_active:
                tx.api_keys.update(key_id, is_active=False)
                tx.audit("apikey_revoke", target=target)
            else:
                tx.api_keys.delete(key_id)
                tx.audit("apikey_delete", target=target)
        self._forget()
        return not key.is_active

    def _new_secret(self) -> str:
        return PREFIX + self._ids.token(32)

    def _check_scopes(self, permissions: Sequence[str], *, actor: Actor) -> None:
        unknown = set(self._roles().unknown(permissions))
        if unknown:
            raise Invalid(
                f"There is no permission {', '.join(sorted(unknown))}.",
                hint="GET /api/v2/rbac/permissions lists them.",
                fields=[
                    FieldError(f"/permissions/{index}", "unknown-permission", "No such permission.")
                    for index, name in enumerate(permissions)
                    if name in unknown
                ],
            )
        beyond = [name for name in permissions if not covers(actor.permissions, name)]
        if beyond:
            raise Forbidden(
                f"A key cannot have {', '.join(beyond)}, because you do not have it yourself.",
                hint="Ask for fewer permissions.",
            )


def refuse_keys(actor: Actor) -> None:
    """Raises ``Forbidden`` for an API key: a stolen one could outlive its own end, or take over its
    owner's account.
    """
    if actor.kind is ActorKind.API_KEY:
        raise Forbidden(
            "An API key cannot change the account that it belongs to, nor any API key.",
            hint="Sign in with a password to do that.",
        )


def _account_of(actor: Actor) -> int:
    refuse_keys(actor)
    if actor.user_id is None:
        raise Forbidden("Only accounts have API keys.")
    return actor.user_id


def _owned(key: ApiKeyView, *, user_id: int) -> ApiKeyView:
    if key.user_id != user_id:
        raise NotFound("There is no such API key.", hint="GET /api/v2/account/apikeys lists yours.")
    return key


def _is_live(key: ApiKeyView, *, now: datetime) -> bool:
    return key.is_active and (key.expires_at is None or key.expires_at > now)
