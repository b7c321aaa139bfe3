"""A running server with plugins that break, and with the example plugin installed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ucm.testing.server import RunningServer

DEMO = Path(__file__).resolve().parents[2] / "examples" / "ucm-plugin-demo"
HEAD = """
from collections.abc import Iterable
from flask import Blueprint
from ucm.api import *
from ucm.api.issuance import Denial, Hold, IssuanceRequest, Operation
from ucm.api.web import public


class Plugin:
    manifest = PluginManifest(
        name="{name}", title="{name}", summary="Breaks.", api=">=1.0,<2", docs="README.md",
        table_prefix="{name}_", url_prefixes={prefixes}, guards={guards},
    )

{body}


plugin = Plugin()
"""
AT_REGISTRATION = """
    @hookimpl
    def ucm_permissions(self) -> Iterable[Permission] | None:
        raise RuntimeError("broken at registration")
"""
AT_START = """
    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        raise RuntimeError("broken at start")
"""
IN_A_REQUEST = """
    @hookimpl
    def ucm_routes(self, ctx: PluginContext) -> Iterable[Routes] | None:
        routes = Blueprint("routes", "breaks")

        @routes.get("/boom")
        @public("it only breaks")
        def boom():
            raise RuntimeError("broken in a request, with an inner secret")

        @routes.get("/fine")
        @public("it works")
        def fine():
            return {"data": "fine"}

        return [Routes(blueprint=routes, prefix="/api/v2/breaks")]
"""
IN_A_JOB = """
    @hookimpl
    def ucm_jobs(self, ctx: PluginContext) -> Iterable[Job] | None:
        return [
            Job(id="injob.tick", title="Tick", run=self._run, cron="15 3 * * *",
                max_failures=1)
        ]

    def _run(self, ctx, run):
        raise RuntimeError("broken in a job")
"""
GUARD = """
    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        raise RuntimeError("the policy server does not answer")

    @hookimpl
    def ucm_before_issue(self, request: IssuanceRequest) -> Iterable[Denial | Hold] | None:
        return None
"""


def source(name: str, body: str, *, prefixes: str = "()", guards: str = "frozenset()") -> str:
    """The module of a plugin."""
    return HEAD.format(name=name, body=body, prefixes=prefixes, guards=guards)


def plugins(server: RunningServer) -> dict[str, dict[str, Any]]:
    """What the server shows of its plugins, by name."""
    return {row["name"]: row for row in server.call("GET", "/api/v2/plugins")["data"]}


def wait_for(condition: Callable[[], bool]) -> None:
    """Within 30 seconds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def run_job(server: RunningServer, job: str) -> dict[str, Any]:
    """Run a job out of turn; its finished run."""
    path = f"/api/v2/system/scheduler/{job}"
    wait_for(lambda: server.request("POST", f"{path}/run").status_code == 202)

    def newest() -> dict[str, Any]:
        runs = server.call("GET", f"{path}/runs")["data"]
        return runs[0] if runs else {"status": "running"}

    wait_for(lambda: newest()["status"] != "running")
    return newest()


def unwell(server: RunningServer) -> list[str]:
    """The checks that do not pass."""
    answer = server.request("GET", "/api/health/ready")
    assert "/" not in answer.text, "no path for strangers"
    return [name for name, check in answer.json()["checks"].items() if not check["ok"]]


def issue(server: RunningServer, ca_id: int, name: str) -> Any:
    """Try to issue a certificate."""
    body = {"ca_id": ca_id, "cn": name, "key_type": "EC-P256"}
    return server.request("POST", "/api/v2/certificates", json=body)


@pytest.mark.timeout(180)
def test_broken_plugins_are_contained_and_shown(start_server, site) -> None:
    site.install("atimport", "raise RuntimeError('broken at import')\n")
    site.install("atreg", source("atreg", AT_REGISTRATION))
    site.install("atstart", source("atstart", AT_START))
    site.install("breaks", source("breaks", IN_A_REQUEST, prefixes="('/api/v2/breaks',)"))
    site.install("injob", source("injob", IN_A_JOB))
    server: RunningServer = start_server(
        PYTHONPATH=site.python_path,
        UCM_PLUGINS="default,atimport,atreg,atstart,breaks,injob",
        UCM_WORKERS="1",
    )
    seen = plugins(server)
    for name, step, reason in (
        ("atimport", "load", "broken at import"),
        ("atreg", "contribute", "broken at registration"),
        ("atstart", "start", "broken at start"),
    ):
        assert (seen[name]["state"], seen[name]["step"]) == ("failed", step)
        assert reason in seen[name]["reason"]
    for name in ("softkeys", "breaks", "injob"):
        assert seen[name]["state"] == "running", seen[name]

    broken = server.request("GET", "/api/v2/breaks/boom")
    assert broken.status_code == 500
    assert broken.headers["Content-Type"] == "application/problem+json"
    assert "secret" not in broken.text
    assert server.call("GET", "/api/v2/breaks/fine") == {"data": "fine"}
    assert plugins(server)["breaks"]["state"] == "degraded"
    assert "broken in a request" in server.log

    assert run_job(server, "injob.tick")["status"] == "failed"
    wait_for(lambda: plugins(server)["injob"]["state"] == "degraded")
    assert "injob.tick" in plugins(server)["injob"]["reason"]

    ca_id = server.create_root()
    assert issue(server, ca_id, "a.example").status_code == 201
    ready = f"{server.https}/api/health/ready"
    assert server.session.get(ready, verify=str(server.certificate), timeout=30).status_code == 200


@pytest.mark.timeout(180)
def test_a_guard_that_does_not_run_stops_issuance_until_it_is_disabled(start_server, site) -> None:
    site.install("policy", source("policy", GUARD, guards="frozenset({Operation.ISSUE})"))
    server: RunningServer = start_server(PYTHONPATH=site.python_path, UCM_PLUGINS="default")
    ca_id = server.create_root()
    assert issue(server, ca_id, "before.example").status_code == 201
    assert server.stop() == 0

    server.environment["UCM_PLUGINS"] = "default,policy"
    server.start()
    state = plugins(server)["policy"]
    assert (state["state"], state["step"]) == ("failed", "start")
    assert "the policy server does not answer" in state["reason"]
    assert state["guards"] == ["issue"]
    refused = issue(server, ca_id, "while.example")
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:ucm:error:plugin-unavailable"
    assert "policy" in refused.json()["detail"]
    found = server.call("GET", "/api/v2/certificates")["data"]
    assert [row["common_name"] for row in found] == ["before.example"]
    [audited] = server.call("GET", "/api/v2/audit/logs?action=certificate_refused")["data"]
    assert audited["success"] is False
    assert server.stop() == 0

    server.environment["UCM_PLUGINS"] = "default,-policy"
    server.start()
    assert plugins(server)["policy"]["state"] == "disabled"
    assert issue(server, ca_id, "after.example").status_code == 201


@pytest.mark.timeout(180)
def test_the_example_plugin_works_in_a_running_server(start_server, site, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(site.path)]
    subprocess.run([*pip, *offline, str(DEMO)], check=True, timeout=120)
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    server: RunningServer = start_server(
        PYTHONPATH=site.python_path, UCM_PLUGINS="default,demo!", UCM_WORKERS="1"
    )
    assert plugins(server)["demo"]["state"] == "running"

    # settings: the key backend is off until its directory is set
    body = {"common_name": "Demo Root", "type": "root", "key_type": "EC-P256"}
    body["key_backend"] = "demo-files"
    off = server.request("POST", "/api/v2/cas", json=body)
    assert off.status_code == 503
    assert "demo.key_directory" in off.text
    settings = "/api/v2/plugins/demo/settings"
    wrong = server.request("PATCH", settings, json={"key_directory": "relative"})
    assert wrong.status_code == 400
    server.call("PATCH", settings, json={"key_directory": str(keys)})

    # key backend
    ca_id = server.call("POST", "/api/v2/cas", json=body)["data"]["id"]
    assert [path.suffix for path in keys.iterdir()] == [".key"]
    assert issue(server, ca_id, "good.example").status_code == 201

    # route, table and guard
    names = "/api/v2/demo/denied-names"
    entry = {"domain": "evil.example", "reason": "test", "expires_at": "2020-01-01T00:00:00+00:00"}
    denied = {"domain": "bad.example", "reason": "not ours"}
    server.call("POST", names, json=entry)
    server.call("POST", names, json=denied)
    refused = issue(server, ca_id, "www.bad.example")
    assert refused.status_code == 400, refused.text
    assert "not ours" in refused.text
    assert len(server.call("GET", names)["data"]) == 2

    # job
    assert run_job(server, "demo.expire")["status"] == "succeeded"
    assert [row["domain"] for row in server.call("GET", names)["data"]] == ["bad.example"]
    actions = [row["action"] for row in server.call("GET", "/api/v2/audit/logs")["data"]]
    assert actions.count("demo_name_denied") == 2
    assert "demo_names_expired" in actions

    # health: everybody sees that something is wrong, and not where
    moved = keys.rename(tmp_path / "moved")
    wait_for(lambda: "demo.key-directory" in unwell(server))
    moved.rename(keys)
    wait_for(lambda: not unwell(server))

    # all of it outlives a restart
    assert server.stop() == 0
    server.start()
    assert issue(server, ca_id, "www.bad.example").status_code == 400
    assert issue(server, ca_id, "still.example").status_code == 201
    environment = {**server.environment, "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "ucm.cli.main", "demo", "denied-names"]
    shown = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "bad.example" in shown.stdout, shown.stderr
