"""The names of uvicorn and gunicorn that the server leans on and that no release promises.

A failure here after an update of either says what to look at; then raise the pin in pyproject.toml.
"""

from __future__ import annotations

import asyncio
import inspect

import uvicorn
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


async def _application(scope, receive, send) -> None:
    raise AssertionError("not called")


def protocol() -> HttpToolsProtocol:
    config = Config(_application, interface="asgi3", ws="none", lifespan="off", log_config=None)
    config.load()
    loop = asyncio.new_event_loop()
    try:
        return HttpToolsProtocol(config, ServerState(), {}, loop)
    finally:
        loop.close()


def test_the_minor_version_is_the_one_that_was_read():
    assert uvicorn.__version__.startswith("0.54.")


def test_the_protocol_is_made_and_called_as_expected():
    assert parameters(HttpToolsProtocol.__init__) == [
        "self",
        "config",
        "server_state",
        "app_state",
        "_loop",
    ]
    for name, expected in {
        "connection_made": ["self", "transport"],
        "data_received": ["self", "data"],
        "eof_received": ["self"],
        "pause_writing": ["self"],
        "resume_writing": ["self"],
        "on_message_begin": ["self"],
        "on_url": ["self", "url"],
        "on_header": ["self", "name", "value"],
        "on_headers_complete": ["self"],
        "_start_asgi_task": ["self", "cycle", "app"],
        "_unset_keepalive_if_required": ["self"],
    }.items():
        assert parameters(getattr(HttpToolsProtocol, name)) == expected, name


def test_the_protocol_has_the_attributes_that_are_read_and_set():
    made = protocol()
    for name in (
        "client",
        "connections",
        "cycle",
        "expect_100_continue",
        "headers",
        "loop",
        "parser",
        "pipeline",
        "scheme",
        "scope",
        "server_state",
        "transport",
    ):
        assert hasattr(made, name), name
    # Read through `self.url`, which exists from the first message on.
    made.on_message_begin()
    assert made.url == b""
    assert made.scope["headers"] is made.headers


def test_the_cycle_has_the_attributes_that_are_read_and_set():
    source = inspect.getsource(RequestResponseCycle)
    for name in (
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
    ):
        assert f"self.{name} = " in source, name


def test_the_state_shared_by_connections_is_as_expected():
    state = ServerState()
    assert state.connections == set()
    assert state.default_headers == []


def test_the_arbiter_is_as_expected():
    for name in (
        "signal",
        "handle_hup",
        "handle_usr2",
        "spawn_worker",
        "manage_workers",
        "reap_workers",
        "stop",
        "run",
    ):
        assert callable(getattr(Arbiter, name)), name
    assert parameters(Arbiter.stop) == ["self", "graceful"]
    assert parameters(Arbiter.signal) == ["self", "sig", "frame"]
    assert Arbiter.LISTENERS == []


def test_the_worker_is_as_expected():
    for name in ("init_signals", "load_wsgi", "run", "notify"):
        assert parameters(getattr(Worker, name)) == ["self"], name
    assert {"SIGNALS"} <= set(vars(Worker))
