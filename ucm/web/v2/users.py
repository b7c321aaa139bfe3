"""``/users``: accounts; ``/rbac``: roles and permissions."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response
from flask_openapi3 import Tag
from pydantic import Field

from ucm.api.errors import Forbidden, Invalid
from ucm.api.web import current_actor, public, requires
from ucm.domain.rbac import ADMIN
from ucm.services.users import AccountRequest, UserService
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import created, no_content, ok, page_meta
from ucm.web.requests import Body, IdPath, PageQuery
from ucm.web.v2.core_schemas import Message, PasswordPolicyItem, UserItem
from ucm.web.v2.identity import user_document
from ucm.web.v2.schemas import Envelope, ListEnvelope

_TAG = Tag(name="users", description="Accounts")
Role = Literal["admin", "operator", "auditor", "viewer"]
_EMAIL = r"^$|^[^@\s]{1,64}@[^@\s]{1,255}$"
_LINE = r"^[^\x00-\x1f\x7f]*$"


class UsersQuery(PageQuery):
    """Filters of the list; all that are given must match."""

    role: list[Role] = Field(default=[], description="Any of these roles")
    active: bool | None = Field(default=None)
    search: str | None = Field(default=None, max_length=255, description="Part of name or address")


class UserCreateBody(Body):
    """A new account."""

    username: str = Field(min_length=1, max_length=80)
    email: str = Field(default="", max_length=254, pattern=_EMAIL)
    password: str = Field(min_length=1, max_length=4096, json_schema_extra={"format": "password"})
    role: Role = "viewer"
    full_name: str = Field(default="", max_length=255, pattern=_LINE)
    active: bool = True
    force_password_change: bool = False


class UserUpdateBody(Body):
    """What changes; left-out fields stay."""

    email: str | None = Field(default=None, max_length=254, pattern=_EMAIL)
    full_name: str | None = Field(default=None, max_length=255, pattern=_LINE)
    role: Role | None = None
    active: bool | None = None
    force_password_change: bool | None = None
    password: str | None = Field(
        default=None, min_length=1, max_length=4096, json_schema_extra={"format": "password"}
    )
    current_password: str | None = Field(
        default=None,
        max_length=4096,
        description="Needed to change the own password",
        json_schema_extra={"format": "password"},
    )


class ResetPasswordBody(Body):
    """A new password that its owner must change at the next sign-in."""

    new_password: str = Field(
        min_length=1, max_length=4096, json_schema_extra={"format": "password"}
    )


def _require_admin() -> None:
    if current_actor().role != ADMIN:
        raise Forbidden("Only administrators may do this.", hint="Ask an administrator.")


def blueprint(users: UserService) -> APIBlueprint:
    """Routes below ``/api/v2/users``."""
    api = APIBlueprint("users", __name__, url_prefix="/api/v2/users", abp_tags=[_TAG])

    @api.get("", summary="List accounts", responses={200: ListEnvelope[UserItem]})
    @requires("read:users")
    def list_users(query: UsersQuery) -> Response:
        page = users.list(
            roles=tuple(query.role),
            active=query.active,
            search=query.search or "",
            page=query.page,
            per_page=query.per_page,
        )
        return ok([user_document(user) for user in page.items], meta=page_meta(page))

    @api.get(
        "/password-policy",
        summary="Rules of new passwords",
        responses={200: Envelope[PasswordPolicyItem]},
    )
    @public("shown before anybody signed in")
    def password_policy() -> Response:
        rules = users.password_rules()
        return ok(
            {
                "min_length": rules.minimum_length,
                "max_length": rules.maximum_length,
                "rules": rules.sentences(),
            }
        )

    @api.get("/<int:id>", summary="One account", responses={200: Envelope[UserItem]})
    @requires("read:users")
    def get_user(path: IdPath) -> Response:
        return ok(user_document(users.get(path.id)))

    @api.post("", summary="Create an account", responses={201: Envelope[UserItem]})
    @requires("write:users")
    def create_user(body: UserCreateBody) -> Response:
        _require_admin()
        user = users.create(AccountRequest(**body.model_dump()), actor=current_actor())
        return created(user_document(user), location=f"/api/v2/users/{user.id}")

    @api.put("/<int:id>", summary="Change an account", responses={200: Envelope[UserItem]})
    @requires("write:users")
    def update_user(path: IdPath, body: UserUpdateBody) -> Response:
        _require_admin()
        return ok(user_document(_update(users, path.id, body)), message="User updated")

    @api.patch(
        "/<int:id>/toggle",
        summary="Enable or disable an account",
        responses={200: Envelope[UserItem]},
    )
    @requires("write:users")
    def toggle_user(path: IdPath) -> Response:
        _require_admin()
        active = not users.get(path.id).active
        user = users.update(path.id, changes={"active": active}, actor=current_actor())
        return ok(user_document(user))

    @api.post("/<int:id>/unlock", summary="Lift a lockout", responses={200: Envelope[UserItem]})
    @requires("write:users")
    def unlock_user(path: IdPath) -> Response:
        _require_admin()
        return ok(user_document(users.unlock(path.id, actor=current_actor())))

    @api.post(
        "/<int:id>/reset-password",
        summary="Set another account's password",
        responses={200: Message},
    )
    @requires("write:users")
    def reset_password(path: IdPath, body: ResetPasswordBody) -> Response:
        _require_admin()
        if path.id == current_actor().user_id:
            raise Invalid(
                "The own password is changed with the current one.",
                hint="POST /api/v2/account/password",
            )
        changes = {"password": body.new_password, "force_password_change": True}
        users.update(path.id, changes=changes, actor=current_actor())
        return ok(message="Password reset; it must be changed at the next sign-in")

    @api.delete("/<int:id>", summary="Delete an account", responses={"204": None})
    @requires("delete:users")
    def delete_user(path: IdPath) -> Response:
        _require_admin()
        users.delete(path.id, actor=current_actor())
        return no_content()

    return api


def _update(users: UserService, user_id: int, body: UserUpdateBody) -> Any:
    actor = current_actor()
    changes = {
        name: value
        for name, value in body.model_dump(exclude={"current_password"}).items()
        if value is not None
    }
    if not changes:
        raise Invalid("Nothing to change: every field is missing or null.")
    own_password = actor.user_id == user_id and "password" in changes
    if own_password:
        password = changes.pop("password")
        if body.current_password is None:
            raise Invalid.field(
                "/current_password",
                "missing",
                "To change the own password the current one is needed.",
            )
        users.change_own_password(
            user_id,
            current=body.current_password,
            new=password,
            keep_session=None,
            actor=actor,
        )
    return users.update(user_id, changes=changes, actor=actor) if changes else users.get(user_id)
