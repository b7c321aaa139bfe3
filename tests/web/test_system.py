"""Probes, plugins, jobs, dashboard, search, documents."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from ucm.api.actor import Actor
from ucm.web.app import rules_of


@pytest.mark.parametrize("prefix", ["/health", "/api/health", "/api/v2/health"])
def test_probes_need_no_credentials(installation, prefix):
    api = installation.api()
    status = api.get(prefix)
    assert status.json["status"] == "ok"
    assert status.json["service"] == "ucm"
    assert "safe_mode" not in status.json
    assert api.get(f"{prefix}/live").json == {"status": "alive"}
    ready = api.get(f"{prefix}/ready")
    assert ready.status_code == 200
    assert ready.json["checks"]["database"]["ok"] is True


def test_a_stopping_server_is_not_ready_but_alive(installation):
    installation.app.shutting_down.set()
    api = installation.api()
    ready = api.get("/api/health/ready")
    assert (ready.status_code, ready.json["stopping"]) == (503, True)
    assert api.get("/api/health/live").status_code == 200


def test_a_database_without_answers_takes_the_node_out_and_is_no_riddle(installation, admin):
    engine = installation.container.engine
    with engine.begin() as connection:
        for table in ("core_setting", "core_counter"):
            connection.execute(text(f"ALTER TABLE {table} RENAME TO {table}_gone"))
        connection.execute(text("ALTER TABLE core_session RENAME TO core_session_gone"))
    installation.clock.advance(timedelta(seconds=5))
    assert admin.get("/health").status_code == 200
    answer = admin.get("/api/v2/users")
    assert answer.status_code == 500
    assert answer.json["type"] == "urn:ucm:error:internal"
    assert "core_session" not in answer.get_data(as_text=True)
    assert "strict-transport-security" in answer.headers


def test_plugins_are_listed_with_their_states(admin):
    plugins = {one["name"]: one for one in admin.get("/api/v2/plugins").json["data"]}
    assert plugins["softkeys"]["state"] == "running"
    assert plugins["softkeys"]["enabled"] is True


def test_settings_of_a_plugin_that_has_none(admin):
    assert admin.get("/api/v2/plugins/nothing/settings").status_code == 404
    assert admin.get("/api/v2/plugins/Not%20A%20Name/settings").status_code == 400
    assert admin.patch("/api/v2/plugins/nothing/settings", {"a": 1}).status_code == 404


def test_jobs_are_listed_and_can_be_asked_for(installation, admin):
    with installation.container.uow.begin(Actor.system("tests")) as tx:
        tx.jobs.ensure("core.demo", owner="core", title="Demo", schedule="every 1:00:00")
    scheduler = "/api/v2/system/scheduler"
    [job] = [one for one in admin.get(scheduler).json["data"] if one["id"] == "core.demo"]
    assert (job["label"], job["interval"], job["requested_at"]) == ("Demo", "every 1:00:00", None)
    asked = admin.post(f"{scheduler}/core.demo/run")
    assert asked.status_code == 202
    assert asked.json["data"]["requested_at"] is not None
    assert installation.audit("scheduler_task_run")[0].resource_id == "core.demo"
    assert admin.get(f"{scheduler}/core.demo/runs").json["data"] == []
    assert admin.post(f"{scheduler}/core.other/run").status_code == 404
    assert admin.get(f"{scheduler}/core.other/runs").status_code == 404
    operator = installation.signed_in("operator")
    assert operator.get(scheduler).status_code == 200
    assert operator.post(f"{scheduler}/core.demo/run").status_code == 403


def test_dashboard_and_service_status(admin):
    stats = admin.get("/api/v2/dashboard/stats").json["data"]
    assert stats["total_certificates"] == stats["total_cas"] == 0
    assert admin.get("/api/v2/dashboard/recent-cas").json["data"] == []
    assert admin.get("/api/v2/dashboard/expiring-certs?limit=5").json["data"] == []
    assert admin.get("/api/v2/dashboard/expiring-certs?limit=0").status_code == 400
    assert admin.get("/api/v2/system/service/status").json["data"]["uptime_seconds"] >= 0


def test_search_shows_what_the_caller_may_read(installation, admin):
    found = admin.get("/api/v2/search?q=oper").json["data"]
    assert [user["username"] for user in found["users"]] == ["operator"]
    assert admin.get("/api/v2/search?q=o").status_code == 400
    assert admin.get("/api/v2/search").status_code == 400
    viewer = installation.signed_in("viewer").get("/api/v2/search?q=oper").json["data"]
    assert "users" not in viewer
    assert "certificates" in viewer
    key = installation.with_key("admin", "read:users")
    assert key.get("/api/v2/search?q=server").json["data"]["templates"] == []


def test_the_index_of_the_api_needs_no_foreign_assets(installation):
    page = installation.api().get("/api/docs")
    assert page.content_type.startswith("text/html")
    text = page.get_data(as_text=True)
    assert "/api/v2/auth/login" in text
    assert "<script" not in text
    assert "http://" not in text.replace("https://", "")


def test_unknown_paths_answer_with_a_problem(installation):
    for path in ("/acme/directory", "/api/v2/nothing", "/ui/x"):
        answer = installation.api().get(path)
        assert answer.status_code == 404
        assert answer.content_type == "application/problem+json"


def test_other_methods_are_refused_with_those_that_work(installation):
    answer = installation.api().delete("/api/v2/auth/login")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert installation.api().call("OPTIONS", "/api/v2/auth/login").status_code == 405


@pytest.mark.parametrize("path", ["/api/v2/users?search=%00", "/api/v2/search?q=a%00b"])
def test_nul_in_a_url_is_refused(admin, path):
    assert admin.get(path).status_code == 400


def test_oversize_ids_are_refused(admin):
    for number in (0, 2**63, 10**40):
        assert admin.get(f"/api/v2/users/{number}").status_code == 400


def test_every_core_route_lies_below_a_prefix_that_plugins_may_not_take(installation):
    from ucm.runtime.routes import CORE_PREFIXES, within

    for _, rule, _ in rules_of(installation.app):
        if rule == "/":  # no url prefix of a plugin can be the root itself
            continue
        assert any(within(rule.rstrip("/"), prefix) for prefix in CORE_PREFIXES), rule
