"""Signing in with a password, and sessions: rows of which the browser has a token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from ucm.api.actor import Actor, ActorKind
from ucm.api.errors import NotFound, RateLimited, Unauthenticated
from ucm.api.services import Clock, Ids, Target
from ucm.domain.passwords import MAXIMUM_INPUT, PasswordHasher
from ucm.domain.rbac import Roles
from ucm.store.sessions import SessionView
from ucm.store.uow import UnitOfWork
from ucm.store.users import UserView

_TOUCH_EVERY = timedelta(minutes=1)
"""``last_activity`` may lag by this: one write per session and minute, not one per request."""
_MAXIMUM_NAME = 255
_REFUSED = "The user name or the password is wrong."
_REFUSED_HINT = "Check both. After several wrong passwords an account is locked for some minutes."


class SignInSettings(Protocol):
    """What signing in needs of the settings; times in seconds."""

    @property
    def session_timeout(self) -> int: ...
    @property
    def session_max_lifetime(self) -> int: ...
    @property
    def max_login_attempts(self) -> int: ...
    @property
    def lockout_duration(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request comes from."""

    ip_address: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedIn:
    """A new session. ``token`` is known to the browser alone; the database keeps its hash."""

    user: UserView
    actor: Actor
    token: str = field(repr=False)
    lifetime: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Identified:
    """A request's session, valid now."""

    user: UserView
    actor: Actor
    session: SessionView

    @property
    def must_change_password(self) -> bool:
        """Whether the account may do nothing but set a new password."""
        return self.user.force_password_change


def token_hash(token: str) -> str:
    """What the database keeps of a token. Tokens are random, so a fast hash does (no salt)."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def anonymous(client: Client, *, name: str = "anonymous") -> Actor:
    """The actor of a request that nobody signed."""
    return Actor(
        kind=ActorKind.ANONYMOUS,
        name=name,
        ip_address=client.ip_address,
        user_agent=client.user_agent,
    )


class AuthService:
    """Passwords and sessions of accounts."""

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        clock: Clock,
        ids: Ids,
        hasher: PasswordHasher,
        roles: Callable[[], Roles],
        settings: Callable[[], SignInSettings],
    ) -> None:
        self._uow = uow
        self._clock = clock
        self._ids = ids
        self._hasher = hasher
        self._roles = roles
        self._settings = settings

    def sign_in(self, username: str, *, password: str, client: Client) -> SignedIn:
        """A new session. Raises ``Unauthenticated`` with the same words for an unknown account, a
        wrong password and a disabled account; ``RateLimited`` while the account is locked.
        """
        username = username[:_MAXIMUM_NAME]
        now = self._clock.now()
        with self._uow.read() as reader:
            user = reader.users.by_username(username)
        stored = user.password_hash if user is not None else None
        if user is not None and user.locked_until is not None and user.locked_until > now:
            self._refuse(user, username, client=client, reason="locked")
            raise self._locked(user.locked_until, now=now)
        if stored is None or len(password) > MAXIMUM_INPUT:
            self._hasher.verify_nobody(password[:MAXIMUM_INPUT])
            matches = False
        else:
            matches = self._hasher.verify(stored, password=password)
        if user is None or not matches or not user.active:
            reason = "unknown" if user is None else "password" if not matches else "inactive"
            self._refuse(user, username, client=client, reason=reason)
            raise Unauthenticated(_REFUSED, hint=_REFUSED_HINT)
        rehashed = (
            self._hasher.hash(password)
            if stored is not None and self._hasher.needs_rehash(stored)
            else None
        )
        return self._open_session(user, client=client, rehashed=rehashed)

    def _locked(self, until: datetime, *, now: datetime) -> RateLimited:
        seconds = max(1, int((until - now).total_seconds()) + 1)
        return RateLimited(
            f"Too many wrong passwords: the account is locked for {seconds} more seconds.",
            retry_after=seconds,
            hint="Wait, or ask an administrator to unlock the account.",
        )

    def _refuse(self, user: UserView | None, username: str, *, client: Client, reason: str) -> None:
        """Record the failure; count wrong passwords and lock the account at the limit."""
        settings = self._settings()
        shown = user.username if user is not None else username
        with self._uow.begin(anonymous(client, name=shown)) as tx:
            facts: dict[str, object] = {"reason": reason}
            if user is not None and reason == "password":
                until = self._clock.now() + timedelta(seconds=settings.lockout_duration)
                facts["locked"] = tx.users.record_failure(
                    user.id, limit=settings.max_login_attempts, locked_until=until
                )
            tx.audit(
                "login_failure",
                target=Target("user", user.id if user is not None else None, shown),
                success=False,
                **facts,
            )

    def _open_session(self, user: UserView, *, client: Client, rehashed: str | None) -> SignedIn:
        settings = self._settings()
        now = self._clock.now()
        token = self._ids.token(32)
        ends = now + timedelta(seconds=settings.session_max_lifetime)
        actor = self._actor(user, client=client)
        with self._uow.begin(actor) as tx:
            tx.users.record_login(user.id, at=now)
            if rehashed is not None:
                tx.users.update(
                    user.id,
                    password_hash=rehashed,
                    password_changed_at=user.password_changed_at,
                )
            tx.sessions.add(
                token_hash=token_hash(token),
                user_id=user.id,
                auth_method="password",
                ip_address=client.ip_address,
                user_agent=client.user_agent,
                expires_at=min(ends, now + timedelta(seconds=settings.session_timeout)),
                absolute_expires_at=ends,
            )
            tx.audit("login_success", target=Target("user", user.id, user.username))
        return SignedIn(user=user, actor=actor, token=token, lifetime=settings.session_max_lifetime)

    def _actor(self, user: UserView, *, client: Client) -> Actor:
        return Actor(
            kind=ActorKind.USER,
            name=user.username,
            user_id=user.id,
            role=user.role,
            permissions=self._roles().permissions(user.role),
            ip_address=client.ip_address,
            user_agent=client.user_agent,
        )

    def identify(self, token: str, *, client: Client) -> Identified | None:
        """The session of a token while it is valid and its account active; else ``None``."""
        now = self._clock.now()
        with self._uow.read() as reader:
            session = reader.sessions.by_token_hash(token_hash(token))
            if session is None:
                return None
            user = reader.users.get(session.user_id)
        if session.expires_at <= now or session.absolute_expires_at <= now or not user.active:
            return None
        actor = self._actor(user, client=client)
        if now - session.last_activity >= _TOUCH_EVERY:
            timeout = timedelta(seconds=self._settings().session_timeout)
            with self._uow.begin(actor) as tx:
                tx.sessions.touch(
                    session.id,
                    at=now,
                    expires_at=min(now + timeout, session.absolute_expires_at),
                )
        return Identified(user=user, actor=actor, session=session)

    def sign_out(self, identified: Identified) -> None:
        """End the session everywhere at once."""
        with self._uow.begin(identified.actor) as tx:
            tx.sessions.delete(identified.session.id)
            tx.audit("logout", target=Target("user", identified.user.id, identified.user.username))

    def discard(self, token: str) -> None:
        """Drop the session that a browser brings to a sign-in: nothing of it is carried over."""
        with self._uow.begin(Actor.system("sign-in")) as tx:
            session = tx.sessions.by_token_hash(token_hash(token))
            if session is not None:
                tx.sessions.delete(session.id)

    def sessions(self, user_id: int) -> list[SessionView]:
        """The account's sessions, newest first."""
        with self._uow.read() as reader:
            return list(reader.sessions.of_user(user_id))

    def end_session(self, session_id: int, *, user_id: int, actor: Actor) -> None:
        """End one session of the account. Raises ``NotFound``, for another account's too."""
        with self._uow.begin(actor) as tx:
            if not any(session.id == session_id for session in tx.sessions.of_user(user_id)):
                raise NotFound("There is no such session.", hint="GET /api/v2/account/sessions")
            tx.sessions.delete(session_id)
            tx.audit("session_revoke", target=Target("session", session_id))
