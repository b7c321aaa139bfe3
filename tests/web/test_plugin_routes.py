"""Routes of plugins: the same door, faults contained and counted, protocols on the plain port."""

from collections.abc import Iterable

import pytest
from flask import Blueprint, Response

from ucm.api import Auth, ErrorRenderer, Permission, PluginContext, Routes, hookimpl
from ucm.api.errors import Conflict
from ucm.api.web import current_actor, public, requires
from ucm.testing.app import make_app
from ucm.testing.hosting import a_manifest


class Probe:
    """A plugin with a route for users and one for a protocol."""

    manifest = a_manifest("probe", url_prefixes=("/api/v2/probe", "/probe"))

    @hookimpl
    def ucm_permissions(self) -> Iterable[Permission] | None:
        return [Permission("read:probe", "Read", frozenset({"viewer"}))]

    @hookimpl
    def ucm_routes(self, ctx: PluginContext) -> Iterable[Routes] | None:
        api = Blueprint("api", "probe")

        @api.get("/who")
        @requires("read:probe")
        def who():
            return {"data": current_actor().name}

        @api.post("/who")
        @requires("read:probe")
        def change():
            return {"data": "changed"}

        @api.get("/broken")
        @requires("read:probe")
        def broken():
            raise ZeroDivisionError("a secret of the plugin")

        protocol = Blueprint("protocol", "probe")

        @protocol.post("/enrol")
        @public("the protocol signs its messages")
        def enrol():
            raise Conflict("no")

        return [
            Routes(blueprint=api, prefix="/api/v2/probe"),
            Routes(blueprint=protocol, prefix="/probe", auth=Auth.PROTOCOL, plain_http=True),
        ]

    @hookimpl
    def ucm_error_renderers(self, ctx: PluginContext) -> Iterable[ErrorRenderer] | None:
        return [ErrorRenderer("/probe", lambda error: Response(error.code, status=418))]


@pytest.fixture
def probe(ucm_installation):
    container = ucm_installation.start(plugins={"probe": Probe()}, strict=True)
    return container, make_app(container)


@pytest.fixture
def client_of(probe):
    from ucm.testing.app import api_client

    container, app = probe
    return lambda role: api_client(app, container, role=role)


def test_permissions_and_roles_of_a_plugin_count(probe, client_of):
    _, app = probe
    assert app.test_client().get("/api/v2/probe/who").status_code == 401
    assert client_of("viewer").get("/api/v2/probe/who").json == {"data": "test-viewer"}
    refused = client_of("operator").get("/api/v2/probe/who")
    assert refused.status_code == 403
    assert client_of("admin").get("/api/v2/probe/who").status_code == 200


def test_a_fault_is_contained_and_counted(probe, client_of):
    container, _ = probe
    client = client_of("viewer")
    answer = client.get("/api/v2/probe/broken")
    assert answer.status_code == 500
    assert "secret" not in answer.get_data(as_text=True)
    assert client.get("/api/v2/probe/who").status_code == 200
    [state] = [one for one in container.host.states() if one.name == "probe"]
    assert state.faults == {"request": 1}
    assert state.state == "degraded"


def test_sessions_need_a_csrf_token_on_plugin_routes_too(probe, client_of):
    _, app = probe
    client_of("viewer")
    browser = app.test_client()
    base = {"base_url": "https://localhost"}
    signed_in = browser.post(
        "/api/v2/auth/login",
        json={"username": "test-viewer", "password": "Correct-Horse-7"},
        **base,
    )
    token = signed_in.json["data"]["csrf_token"]
    assert browser.post("/api/v2/probe/who", **base).status_code == 403
    headers = {"X-CSRF-Token": token}
    assert browser.post("/api/v2/probe/who", headers=headers, **base).status_code == 200


def test_a_protocol_answers_in_its_own_way_and_is_on_the_plain_port(probe):
    _, app = probe
    answer = app.test_client().post("/probe/enrol")
    assert (answer.status_code, answer.get_data(as_text=True)) == (418, "conflict")
    assert app.test_client().get("/probe/nothing").get_data(as_text=True) == "not-found"
    assert app.protocol_prefixes == ("/probe",)
