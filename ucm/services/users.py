"""Accounts: people who sign in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from ucm.api.events import UserChanged
from ucm.api.services import Clock, Ids, Target
from ucm.domain.passwords import PasswordHasher, PasswordRules
from ucm.domain.rbac import ADMIN, Roles
from ucm.store.paging import Page
from ucm.store.uow import StoreTransaction, UnitOfWork
from ucm.store.users import NewUser, UserView

USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,79}")
_USERNAME_RULE = (
    "A user name has 1 to 80 letters, digits, dots, hyphens, underscores or @, "
    "and starts with a letter or digit."
)
_LAST_ADMIN = "This is the last active administrator."
_LAST_ADMIN_HINT = "Give another active account the role admin first."


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountRequest:
    """A new account."""

    username: str
    email: str = ""
    password: str = field(repr=False)
    role: str = "viewer"
    full_name: str = ""
    active: bool = True
    force_password_change: bool = False


class UserService:
    """Creates, changes and deletes accounts; at least one active administrator always remains."""

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        clock: Clock,
        ids: Ids,
        hasher: PasswordHasher,
        roles: Callable[[], Roles],
        rules: Callable[[], PasswordRules],
    ) -> None:
        self._uow = uow
        self._clock = clock
        self._ids = ids
        self._hasher = hasher
        self._roles = roles
        self._rules = rules

    # --- reading ----------------------------------------------------------------------------------

    def get(self, user_id: int) -> UserView:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            return reader.users.get(user_id)

    def list(
        self,
        *,
        roles: tuple[str, ...] = (),
        active: bool | None = None,
        search: str = "",
        page: int = 1,
        per_page: int = 50,
    ) -> Page[UserView]:
        """Accounts by name; all filters that are given must match."""
        with self._uow.read() as reader:
            return reader.users.page(
                roles=roles, active=active, search=search, page=page, per_page=per_page
            )

    def count_by_role(self) -> dict[str, int]:
        """How many accounts have each role."""
        with self._uow.read() as reader:
            return {
                role: reader.users.page(roles=(role,), per_page=1).total
                for role in self._roles().names()
            }

    def by_username(self, username: str) -> UserView:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            return _existing(reader.users.by_username(username))

    def password_rules(self) -> PasswordRules:
        """The rules in force for new passwords."""
        return self._rules()

    # --- changing ---------------------------------------------------------------------------------

    def create(self, request: AccountRequest, *, actor: Actor) -> UserView:
        """A new local account. Raises ``Invalid``, ``Conflict`` for a taken name or address,
        ``Forbidden`` for a role beyond the actor's reach.
        """
        self._check_username(request.username)
        self._check_role(request.role)
        self._check_reach(request.role, actor=actor)
        self._check_password(request.password, username=request.username, pointer="/password")
        password_hash = self._hasher.hash(request.password)
        with self._uow.begin(actor) as tx:
            user_id = tx.users.add(
                NewUser(
                    username=request.username,
                    email=request.email,
                    full_name=request.full_name,
                    password_hash=password_hash,
                    role=request.role,
                    active=request.active,
                    force_password_change=request.force_password_change,
                )
            )
            user = tx.users.get(user_id)
            self._record(tx, user, action="user_create", change="created", role=user.role)
        return user

    def first_admin(self, password: str | None) -> str | None:
        """Make the account ``admin`` when there is no account at all.

        Returns the random password that was made for it, ``None`` when one was given or an account
        exists. The owner of a random password must change it at the first sign-in.
        """
        with self._uow.read() as reader:
            if reader.users.count() > 0:
                return None
        # The head makes every class of characters present; the strength is in the 120 random bits.
        made = None if password else f"Ua1-{self._ids.token(15)}"
        try:
            self.create(
                AccountRequest(
                    username="admin",
                    password=password or made or "",
                    role=ADMIN,
                    full_name="Administrator",
                    force_password_change=made is not None,
                ),
                actor=Actor.system("first start"),
            )
        except Conflict:
            return None  # another process was quicker
        return made

    def update(self, user_id: int, *, changes: dict[str, Any], actor: Actor) -> UserView:
        """Change ``email``, ``full_name``, ``role``, ``active``, ``force_password_change`` or
        ``password``; only given keys change.

        Raises ``NotFound``, ``Invalid``, ``Forbidden``, and ``Conflict`` when no active
        administrator would remain or an administrator would lock himself out.
        """
        changes = dict(changes)
        password = changes.pop("password", None)
        if "role" in changes:
            self._check_role(changes["role"])
        with self._uow.read() as reader:
            before = reader.users.get(user_id)
        self._check_reach(before.role, actor=actor)
        if password is not None:
            self._check_password(password, username=before.username, pointer="/password")
            changes["password_hash"] = self._hasher.hash(password)
        self._check_reach(changes.get("role", before.role), actor=actor)
        with self._uow.begin(actor) as tx:
            before = tx.users.get(user_id)
            self._check_admins(tx, before, changes=changes, actor=actor)
            after = tx.users.update(user_id, **changes)
            if password is not None or not after.active:
                tx.sessions.delete_of_user(user_id)
            self._audit_update(tx, before, after, changed=sorted(changes), password=password)
        return after

    def _audit_update(
        self,
        tx: StoreTransaction,
        before: UserView,
        after: UserView,
        *,
        changed: Sequence[str],
        password: str | None,
    ) -> None:
        target = Target("user", after.id, after.username)
        if before.role != after.role:
            tx.audit("role_change", target=target, was=before.role, now=after.role)
        if before.active != after.active:
            tx.audit("user_activate" if after.active else "user_deactivate", target=target)
        if password is not None:
            tx.audit("password_change", target=target, by="administrator")
        named = [name for name in changed if not name.startswith("password")]
        self._record(tx, after, action="user_update", change="updated", fields=named)

    def change_own_password(
        self, user_id: int, *, current: str, new: str, keep_session: int | None, actor: Actor
    ) -> None:
        """A new password for the actor's own account; all other sessions end.

        Raises ``Unauthenticated`` for a wrong current password, ``Invalid`` for a weak new one.
        """
        with self._uow.read() as reader:
            user = reader.users.get(user_id)
        stored = user.password_hash
        if stored is None or not self._hasher.verify(stored, password=current):
            with self._uow.begin(actor) as tx:
                tx.audit(
                    "password_change",
                    target=Target("user", user.id, user.username),
                    success=False,
                    reason="current password wrong",
                )
            raise Unauthenticated("The current password is wrong.", hint="Nothing was changed.")
        self._check_password(new, username=user.username, pointer="/new_password")
        if new == current:
            raise Invalid.field(
                "/new_password", "password-unchanged", "The new password is the current one."
            )
        password_hash = self._hasher.hash(new)
        with self._uow.begin(actor) as tx:
            tx.users.update(
                user_id,
                password_hash=password_hash,
                force_password_change=False,
            )
            tx.sessions.delete_of_user(user_id, keep=keep_session)
            tx.audit("password_change", target=Target("user", user.id, user.username), by="owner")

    def update_profile(self, user_id: int, *, changes: dict[str, Any], actor: Actor) -> UserView:
        """The actor's own ``full_name``, ``email`` or ``preferences``."""
        with self._uow.begin(actor) as tx:
            after = tx.users.update(user_id, **changes)
            self._record(tx, after, action="user_update", change="updated", fields=sorted(changes))
        return after

    def unlock(self, user_id: int, *, actor: Actor) -> UserView:
        """Lift a lockout. Raises ``NotFound``."""
        with self._uow.begin(actor) as tx:
            user = tx.users.update(user_id, locked_until=None, failed_logins=0)
            self._record(tx, user, action="user_unlock", change="unlocked")
        return user

    def delete(self, user_id: int, *, actor: Actor) -> None:
        """Delete an account with its sessions and API keys.

        Raises ``NotFound``, ``Forbidden`` for the own account or one out of reach, ``Conflict``
        for the last active administrator.
        """
        if actor.user_id == user_id:
            raise Forbidden("An account cannot delete itself.", hint="Ask another administrator.")
        with self._uow.begin(actor) as tx:
            user = tx.users.get(user_id)
            self._check_reach(user.role, actor=actor)
            self._check_admins(tx, user, changes={"active": False}, actor=actor)
            tx.users.delete(user_id)
            self._record(tx, user, action="user_delete", change="deleted")

    # --- rules ------------------------------------------------------------------------------------

    def _check_username(self, username: str) -> None:
        if not USERNAME.fullmatch(username):
            raise Invalid.field("/username", "username-form", _USERNAME_RULE)

    def _check_role(self, role: str) -> None:
        if role not in self._roles().names():
            known = ", ".join(self._roles().names())
            raise Invalid.field("/role", "unknown-role", f"A role is one of {known}.")

    def _check_reach(self, role: str, *, actor: Actor) -> None:
        """A key that may write users, but not everything, must not make itself an administrator."""
        if role == ADMIN and "*" not in actor.permissions:
            raise Forbidden(
                "Only a caller with all permissions may create or change administrators.",
                hint="Use a session of an administrator, or a key with the scope *.",
            )

    def _check_password(self, password: str, *, username: str, pointer: str) -> None:
        broken = self._rules().violations(password, username=username, pointer=pointer)
        if broken:
            raise Invalid(
                " ".join(field.detail for field in broken),
                hint="GET /api/v2/users/password-policy lists the rules.",
                fields=broken,
            )

    def _check_admins(
        self, tx: StoreTransaction, user: UserView, *, changes: dict[str, Any], actor: Actor
    ) -> None:
        role = changes.get("role", user.role)
        active = changes.get("active", user.active)
        loses = user.role == ADMIN and user.active and (role != ADMIN or not active)
        if not loses:
            return
        if tx.users.active_admins() <= 1:
            raise Conflict(_LAST_ADMIN, hint=_LAST_ADMIN_HINT)
        if actor.user_id == user.id:
            raise Conflict(
                "An administrator cannot demote or disable the own account.",
                hint="Ask another administrator.",
            )

    def _record(
        self, tx: StoreTransaction, user: UserView, *, action: str, change: str, **facts: Any
    ) -> None:
        tx.audit(action, target=Target("user", user.id, user.username), **facts)
        tx.emit(UserChanged(user_id=user.id, username=user.username, change=change))


def _existing(user: UserView | None) -> UserView:
    if user is None:
        raise NotFound("There is no such account.", hint="GET /api/v2/users lists them.")
    return user
