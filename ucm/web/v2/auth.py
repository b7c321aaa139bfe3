"""``/auth``: signing in and out."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_openapi3 import Tag
from pydantic import Field

from ucm.api.web import public, requires
from ucm.services.auth import AuthService
from ucm.web.authn import (
    SESSION_COOKIE,
    Authenticator,
    clear_session_cookie,
    current_client,
    set_session_cookie,
)
from ucm.web.blueprints import APIBlueprint
from ucm.web.csrf import CsrfTokens
from ucm.web.envelope import ok
from ucm.web.requests import Body
from ucm.web.v2.core_schemas import Message, SignInItem, VerifyItem
from ucm.web.v2.identity import display_of, sign_in_document, user_document
from ucm.web.v2.schemas import Envelope

_TAG = Tag(name="auth", description="Signing in and out")


class LoginBody(Body):
    """Name and password."""

    username: str = Field(min_length=1, max_length=1024)
    password: str = Field(min_length=1, max_length=65_536, json_schema_extra={"format": "password"})


def blueprint(
    auth: AuthService, *, authenticator: Authenticator, csrf: CsrfTokens, session_timeout: Any
) -> APIBlueprint:
    """Routes below ``/api/v2/auth``. ``session_timeout`` gives the seconds in force."""
    api = APIBlueprint("auth", __name__, url_prefix="/api/v2/auth", abp_tags=[_TAG])

    def sign_in(body: LoginBody) -> Response:
        signed_in = auth.sign_in(body.username, password=body.password, client=current_client())
        brought = request.cookies.get(SESSION_COOKIE)
        if brought:
            auth.discard(brought)
        document = sign_in_document(signed_in, csrf_token=csrf.issue(signed_in.user.id))
        response = ok(document, message="Signed in")
        set_session_cookie(response, signed_in.token, lifetime=signed_in.lifetime)
        return response

    @api.post("/login", summary="Sign in with a password", responses={200: Envelope[SignInItem]})
    @public("this is how to sign in")
    def login(body: LoginBody) -> Response:
        return sign_in(body)

    @api.post(
        "/login/password",
        summary="Sign in with a password (same as /auth/login)",
        responses={200: Envelope[SignInItem]},
    )
    @public("this is how to sign in")
    def login_password(body: LoginBody) -> Response:
        return sign_in(body)

    @api.post("/logout", summary="Sign out", responses={200: Message})
    @requires()
    def logout() -> Response:
        identified = authenticator.signed_in()
        if identified is not None:
            auth.sign_out(identified)
        response = ok(message="Signed out")
        clear_session_cookie(response)
        return response

    @api.get(
        "/verify", summary="Who am I, and a fresh CSRF token", responses={200: Envelope[VerifyItem]}
    )
    @public("answers authenticated: false without a session")
    def verify() -> Response:
        identified = authenticator.signed_in()
        if identified is None:
            return ok({"authenticated": False})
        user = identified.user
        return ok(
            {
                "authenticated": True,
                "user": user_document(user),
                "role": user.role,
                "permissions": sorted(identified.actor.permissions),
                "force_password_change": user.force_password_change,
                "csrf_token": csrf.issue(user.id),
                "session_timeout": session_timeout(),
                "preferences": dict(user.preferences),
                **display_of(user),
            }
        )

    return api
