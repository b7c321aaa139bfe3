"""``/account``: the caller's own profile, password, sessions and API keys."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import Tag
from pydantic import Field, model_validator

from ucm.api.errors import Forbidden, Invalid
from ucm.api.services import Clock
from ucm.api.web import current_actor, requires
from ucm.services.apikeys import ApiKeyService, CreatedKey, refuse_keys
from ucm.services.auth import AuthService
from ucm.services.users import UserService
from ucm.web.authn import Authenticator
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import created, no_content, ok
from ucm.web.requests import Body, IdPath
from ucm.web.v2.core_schemas import ApiKeyItem, ApiKeyMade, Message, ProfileItem, SessionItem
from ucm.web.v2.identity import api_key_document, session_document, user_document
from ucm.web.v2.schemas import Envelope, ListEnvelope

_TAG = Tag(name="account", description="The caller's own account")
_LINE = r"^[^\x00-\x1f\x7f]*$"
_EMAIL = r"^$|^[^@\s]{1,64}@[^@\s]{1,255}$"
_DEFAULT_DAYS = 365
_MAXIMUM_DAYS = 3650


class ProfileBody(Body):
    """What changes; left-out fields stay."""

    full_name: str | None = Field(default=None, max_length=255, pattern=_LINE)
    email: str | None = Field(default=None, max_length=254, pattern=_EMAIL)
    timezone: str | None = Field(
        default=None, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$"
    )


class PasswordBody(Body):
    """The current password proves who asks."""

    current_password: str = Field(
        min_length=1, max_length=4096, json_schema_extra={"format": "password"}
    )
    new_password: str = Field(
        min_length=1, max_length=4096, json_schema_extra={"format": "password"}
    )


class ApiKeyBody(Body):
    """A new key. Scopes are permissions, at most the caller's own."""

    name: str = Field(min_length=1, max_length=100, pattern=_LINE)
    permissions: list[str] = Field(min_length=1, max_length=200)
    expires_days: int | None = Field(
        default=_DEFAULT_DAYS, ge=0, le=_MAXIMUM_DAYS, description="0 or null: never"
    )
    expires_in_days: int | None = Field(
        default=None, ge=0, le=_MAXIMUM_DAYS, description="Other name of expires_days"
    )

    @model_validator(mode="after")
    def _one_lifetime(self) -> ApiKeyBody:
        given = self.model_fields_set
        if {"expires_days", "expires_in_days"} <= given:
            raise ValueError("give expires_days or expires_in_days, not both")
        return self

    @property
    def days(self) -> int | None:
        """Days until it expires; ``None`` for never."""
        given = "expires_in_days" in self.model_fields_set
        return (self.expires_in_days if given else self.expires_days) or None


class ApiKeyNameBody(Body):
    """Another name."""

    name: str = Field(min_length=1, max_length=100, pattern=_LINE)


def _account() -> int:
    user_id = current_actor().user_id
    if user_id is None:
        raise Forbidden("Only accounts have a profile.")
    return user_id


def _own_account() -> int:
    """The account that the caller may change."""
    refuse_keys(current_actor())
    return _account()


def blueprint(
    *,
    users: UserService,
    auth: AuthService,
    apikeys: ApiKeyService,
    authenticator: Authenticator,
    clock: Clock,
) -> APIBlueprint:
    """Routes below ``/api/v2/account``."""
    api = APIBlueprint("account", __name__, url_prefix="/api/v2/account", abp_tags=[_TAG])
    _profile_routes(api, users=users, auth=auth, authenticator=authenticator)
    _key_routes(api, apikeys=apikeys, clock=clock)
    return api


def _profile_routes(
    api: APIBlueprint, *, users: UserService, auth: AuthService, authenticator: Authenticator
) -> None:
    @api.get("/profile", summary="The own profile", responses={200: Envelope[ProfileItem]})
    @requires()
    def profile() -> Response:
        user = users.get(_account())
        return ok({**user_document(user), "timezone": user.preferences.get("timezone", "UTC")})

    @api.patch("/profile", summary="Change the own profile", responses={200: Envelope[ProfileItem]})
    @requires()
    def update_profile(body: ProfileBody) -> Response:
        changes = {name: value for name, value in body.model_dump().items() if value is not None}
        if not changes:
            raise Invalid("Nothing to change: every field is missing or null.")
        timezone = changes.pop("timezone", None)
        if timezone is not None:
            known = users.get(_own_account()).preferences
            changes["preferences"] = {**known, "timezone": timezone}
        user = users.update_profile(_own_account(), changes=changes, actor=current_actor())
        return ok({**user_document(user), "timezone": user.preferences.get("timezone", "UTC")})

    @api.post("/password", summary="Change the own password", responses={200: Message})
    @requires()
    def change_password(body: PasswordBody) -> Response:
        identified = authenticator.signed_in()
        users.change_own_password(
            _own_account(),
            current=body.current_password,
            new=body.new_password,
            keep_session=identified.session.id if identified is not None else None,
            actor=current_actor(),
        )
        return ok(message="Password changed; all other sessions have ended")

    @api.get("/sessions", summary="The own sessions", responses={200: ListEnvelope[SessionItem]})
    @requires()
    def list_sessions() -> Response:
        identified = authenticator.signed_in()
        current = identified.session.id if identified is not None else None
        sessions = auth.sessions(_account())
        return ok([session_document(one, current=one.id == current) for one in sessions])

    @api.delete("/sessions/<int:id>", summary="End a session", responses={"204": None})
    @requires()
    def end_session(path: IdPath) -> Response:
        auth.end_session(path.id, user_id=_own_account(), actor=current_actor())
        return no_content()


def _key_routes(api: APIBlueprint, *, apikeys: ApiKeyService, clock: Clock) -> None:
    def shown_once(made: CreatedKey) -> dict[str, object]:
        return {**api_key_document(made.key, now=clock.now()), "key": made.secret}

    @api.get("/apikeys", summary="The own API keys", responses={200: ListEnvelope[ApiKeyItem]})
    @requires()
    def list_keys() -> Response:
        now = clock.now()
        return ok([api_key_document(key, now=now) for key in apikeys.list(_account())])

    @api.post("/apikeys", summary="Create an API key", responses={201: Envelope[ApiKeyMade]})
    @requires()
    def create_key(body: ApiKeyBody) -> Response:
        made = apikeys.create(
            body.name,
            permissions=body.permissions,
            expires_days=body.days,
            actor=current_actor(),
        )
        return created(
            shown_once(made),
            location=f"/api/v2/account/apikeys/{made.key.id}",
            message="Store the key now: it is not shown again",
        )

    @api.get("/apikeys/<int:id>", summary="One own API key", responses={200: Envelope[ApiKeyItem]})
    @requires()
    def get_key(path: IdPath) -> Response:
        key = apikeys.get(path.id, user_id=_account())
        return ok(api_key_document(key, now=clock.now()))

    @api.patch(
        "/apikeys/<int:id>", summary="Rename an API key", responses={200: Envelope[ApiKeyItem]}
    )
    @requires()
    def rename_key(path: IdPath, body: ApiKeyNameBody) -> Response:
        key = apikeys.rename(path.id, name=body.name, actor=current_actor())
        return ok(api_key_document(key, now=clock.now()))

    @api.post(
        "/apikeys/<int:id>/regenerate",
        summary="Replace the secret of an API key",
        responses={200: Envelope[ApiKeyMade]},
    )
    @requires()
    def regenerate_key(path: IdPath) -> Response:
        return ok(shown_once(apikeys.regenerate(path.id, actor=current_actor())))

    @api.delete(
        "/apikeys/<int:id>",
        summary="Revoke an active key, delete a revoked one",
        responses={200: Message},
    )
    @requires()
    def remove_key(path: IdPath) -> Response:
        deleted = apikeys.remove(path.id, actor=current_actor())
        return ok(message="API key deleted" if deleted else "API key revoked")
