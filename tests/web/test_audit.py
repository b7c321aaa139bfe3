"""Reading and exporting the audit log."""

import csv
import io
import json
from datetime import timedelta

import pytest

LOGS = "/api/v2/audit/logs"
PASSWORD = "Str0ng-enough"


@pytest.fixture
def auditor(installation):
    api = installation.signed_in("auditor")
    installation.api().sign_in("nobody", "Wr0ng-password")
    installation.clock.advance(timedelta(hours=7))
    installation.signed_in("operator").post("/api/v2/auth/logout")
    return api


def actions(answer):
    return [row["action"] for row in answer.json["data"]]


def test_newest_first_with_every_documented_field(auditor):
    answer = auditor.get(LOGS)
    assert actions(answer)[:3] == ["logout", "login_success", "login_failure"]
    assert set(answer.json["data"][0]) == {
        "id", "timestamp", "username", "action", "resource_type", "resource_id",
        "resource_name", "details", "ip_address", "user_agent", "success",
        "prev_hash", "entry_hash",
    }  # fmt: skip
    assert answer.json["data"][0]["timestamp"] == "2030-01-01T19:00:00Z"
    one = auditor.get(f"{LOGS}/{answer.json['data'][0]['id']}").json["data"]
    assert one == answer.json["data"][0]
    assert auditor.get(f"{LOGS}/999999").status_code == 404


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("username=operator", ["logout", "login_success"]),
        ("action=logout&action=login_failure", ["logout", "login_failure"]),
        ("success=false", ["login_failure"]),
        ("category=auth&success=false", ["login_failure"]),
        ("category=cas", []),
        ("category=auth&action=logout", ["logout"]),
        ("category=cas&action=logout", []),
        ("search=logo", ["logout"]),
        ("search=100%25", []),
        ("date_from=2030-01-01T18:00:00Z", ["logout", "login_success"]),
        ("date_from=2030-01-01T18:00:00", ["logout", "login_success"]),
        ("date_to=2030-01-01T18:00:00Z&success=false", ["login_failure"]),
        ("resource_type=user&username=operator", ["logout", "login_success"]),
    ],
)
def test_filters(auditor, query, expected):
    assert actions(auditor.get(f"{LOGS}?{query}")) == expected


@pytest.mark.parametrize(
    "query",
    [
        "date_from=yesterday",
        "date_from=1893456000",
        "date_to=0.5",
        "success=maybe",
        "per_page=101",
        "page=0",
        "usr=x",
        "cursor=x",
    ],
)
def test_bad_filters_are_named(auditor, query):
    answer = auditor.get(f"{LOGS}?{query}")
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"


def test_pages_and_cursors_walk_the_same_list(auditor):
    everything = [row["id"] for row in auditor.get(LOGS).json["data"]]
    walked, cursor = [], None
    while True:
        query = f"?per_page=2{f'&cursor={cursor}' if cursor else ''}"
        page = auditor.get(LOGS + query).json
        walked += [row["id"] for row in page["data"]]
        cursor = page["meta"].get("next_cursor")
        if cursor is None:
            break
    assert walked == everything
    second = auditor.get(f"{LOGS}?per_page=2&page=2").json["data"]
    assert [row["id"] for row in second] == everything[2:4]


def test_export_as_json_and_csv(installation, auditor):
    exported = auditor.get("/api/v2/audit/export")
    assert exported.headers["Content-Disposition"] == 'attachment; filename="audit.json"'
    rows = json.loads(exported.get_data(as_text=True))
    assert rows[0]["action"] == "audit_exported"
    table = auditor.get("/api/v2/audit/export?format=csv&limit=2")
    lines = list(csv.DictReader(io.StringIO(table.get_data(as_text=True))))
    assert len(lines) == 2
    assert auditor.get("/api/v2/audit/export?limit=50001").status_code == 400
    assert auditor.get("/api/v2/audit/export?format=xml").status_code == 400


def test_a_spreadsheet_runs_nothing_of_an_export(installation, auditor):
    installation.api().sign_in("=HYPERLINK(1)", "Wr0ng-password")
    table = auditor.get("/api/v2/audit/export?format=csv").get_data(as_text=True)
    names = [line["username"] for line in csv.DictReader(io.StringIO(table))]
    assert "'=HYPERLINK(1)" in names
    assert not any(name.startswith("=") for name in names)


def test_actions_and_stats(auditor):
    listed = auditor.get("/api/v2/audit/actions").json["data"]
    assert {"name": "logout", "title": "Signed out", "category": "auth"} in listed["actions"]
    assert "security" in listed["categories"]
    stats = auditor.get("/api/v2/audit/stats?days=7").json["data"]
    assert stats["failure_count"] == 1
    assert stats["success_count"] + stats["failure_count"] == stats["total_logs"]
    assert stats["recent_failures"][0]["action"] == "login_failure"
    assert auditor.get("/api/v2/audit/stats?days=366").status_code == 400


def test_a_refused_request_is_itself_on_record(installation):
    viewer = installation.signed_in("viewer")
    assert viewer.get(LOGS).status_code == 403
    [row] = installation.audit("permission_denied")
    assert row.username == "viewer"
    assert row.details["missing"] == ["read:audit"]
