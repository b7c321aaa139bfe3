"""Default deny: every route against every role, by what its view declares."""

import re

import pytest
from flask import Flask

from ucm.api.actor import Actor, ActorKind
from ucm.api.web import access_of, public, requires
from ucm.web.app import rules_of
from ucm.web.authn import Authenticator, UnmarkedRoute
from ucm.web.csrf import CsrfTokens

ROLES = ("admin", "operator", "auditor", "viewer")
PUBLIC = {
    "GET /",
    "GET /api/docs",
    "GET /api/docs/style.css",
    "GET /api/docs/openapi.json",
    "GET /api/v2/auth/verify",
    "POST /api/v2/auth/login",
    "POST /api/v2/auth/login/password",
    "GET /api/v2/system/updates/version",
    "GET /api/v2/users/password-policy",
    *(
        f"GET {prefix}{probe}"
        for prefix in ("/health", "/api/health", "/api/v2/health")
        for probe in ("", "/live", "/ready")
    ),
    "GET /metrics",
    "GET /api/v2/metrics",
}
"""Everything that needs no credentials. Whoever adds a route here says why in ``public(...)``."""


@pytest.fixture(scope="module")
def keys(shared):
    """One API key per role with all the role's permissions, and nobody's client."""
    container = shared.container
    made = {
        role: shared.with_key(role, *sorted(container.roles().permissions(role))) for role in ROLES
    }
    return {**made, "nobody": shared.api()}


def concrete(rule):
    """A path of the rule that names no object that exists."""
    path = re.sub(r"<int:[^>]+>", "987654321", rule)
    return re.sub(r"<(?:[a-z]+:)?[^>]+>", "absent", path)


def routes(app):
    for method, rule, endpoint in rules_of(app):
        yield method, rule, access_of(app.view_functions[endpoint])


def test_every_route_declares_its_access(shared):
    for method, rule, access in routes(shared.app):
        assert access is not None, f"{method} {rule}"
        assert access.public_reason is None or len(access.public_reason) > 10


def test_the_public_routes_are_these(shared):
    found = {
        f"{method} {rule}" for method, rule, access in routes(shared.app) if access.public_reason
    }
    assert found == PUBLIC


def test_every_permission_is_known_and_admin_holds_it(shared):
    roles = shared.container.roles()
    for method, rule, access in routes(shared.app):
        assert roles.unknown(access.permissions) == [], f"{method} {rule}"


def test_every_route_lets_in_exactly_those_who_may(shared, keys):
    wrong = []
    for method, rule, access in routes(shared.app):
        path = concrete(rule)
        for role, api in keys.items():
            answer = api.call(method, path)
            expected = verdict(shared, access, role)
            if seen(answer, access) != expected:
                wrong.append(f"{role}: {method} {rule} {answer.status_code}, not {expected}")
    assert wrong == []


def verdict(installation, access, role):
    if access.public_reason is not None:
        return "in"
    if role == "nobody":
        return "401"
    held = installation.container.roles().permissions(role)
    actor = Actor(kind=ActorKind.USER, name=role, permissions=held)
    return "in" if all(actor.may(name) for name in access.permissions) else "403"


def seen(answer, access):
    if answer.status_code == 500:
        return "500"
    if access.public_reason is not None:
        return "in"
    if answer.status_code == 401:
        return "401"
    if answer.status_code == 403 and "missing_permissions" in (answer.get_json(force=True) or {}):
        return "403"
    return "in"


def test_a_refusal_of_a_route_is_audited(shared, keys):
    assert keys["viewer"].post("/api/v2/users", {}).status_code == 403
    row = shared.audit("permission_denied")[0]
    assert (row.username, row.resource_name) == ("viewer", "POST /api/v2/users")


def an_authenticator(installation):
    container = installation.container
    return Authenticator(
        auth=container.auth,
        apikeys=container.apikeys,
        audit=container.audit,
        csrf=CsrfTokens(b"x", clock=container.clock, ids=container.ids),
        trusted_proxies=tuple,
    )


def test_an_application_with_an_unmarked_route_does_not_start(shared):
    app = Flask("unmarked", static_folder=None)
    app.add_url_rule("/open", "open", public("for this test only")(lambda: "open"))
    app.add_url_rule("/closed", "closed", requires("read:cas")(lambda: "closed"))
    app.add_url_rule("/forgotten", "forgotten", lambda: "forgotten")
    with pytest.raises(UnmarkedRoute, match="/forgotten"):
        an_authenticator(shared).register(app)


def test_a_route_added_after_the_start_is_not_served(shared):
    app = Flask("late", static_folder=None)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.add_url_rule("/open", "open", public("for this test only")(lambda: "open"))
    an_authenticator(shared).register(app)
    app.add_url_rule("/late", "late", lambda: "late")
    client = app.test_client()
    assert client.get("/open").get_data() == b"open"
    assert client.get("/late").status_code == 500
