"""Without the right master key what needs keys answers 503, the rest goes on, health says why."""

import pytest

from ucm.runtime.container import Substitutes, build_container
from ucm.testing.app import boot_settings
from ucm.web.app import create_app

OTHER_KEY = "b3RoZXItbWFzdGVyLWtleS1vZi10aGUtdGVzdHMhISE="


@pytest.fixture
def safe(installation, admin, tmp_path):
    """The same database, started again with another master key, and a client with the old key."""
    made = admin.post("/api/v2/cas", {"common_name": "Root", "key_type": "EC-P256"})
    assert made.status_code == 201
    client = installation.with_key("admin")
    boot = installation.container.boot
    again = boot_settings(
        tmp_path / "again",
        database_url=boot.database,
        key_encryption_key=OTHER_KEY,
    )
    container = build_container(
        again,
        clock=installation.clock,
        strict=True,
        substitutes=Substitutes(hasher=None, environ={}),
    )
    container.start(role="web")
    client.client = create_app(container).test_client()
    yield client, made.json["data"]["id"]
    container.close()


def test_health_says_so(safe):
    client, _ = safe
    for path in ("/health", "/api/v2/health"):
        document = client.get(path).json
        assert document["safe_mode"] is True
        assert "master key" in document["safe_mode_reason"].lower()
        assert "/" not in document["safe_mode_reason"], "no path of this machine for strangers"
    assert client.get("/health/ready").json["safe_mode"] is True


def test_what_needs_keys_answers_503(safe):
    client, ca_id = safe
    issue = client.post("/api/v2/certificates", {"ca_id": ca_id, "cn": "a.example.org"})
    secret = client.patch("/api/v2/settings/general", {"metrics_token": "new-token"})
    for answer in (issue, secret):
        assert answer.status_code == 503
        assert answer.json["safe_mode"] is True
        assert answer.json["type"] == "urn:ucm:error:safe-mode"
        assert answer.headers["Retry-After"] == "30"
    assert client.get("/api/v2/certificates").json["meta"]["total"] == 0


def test_reading_goes_on(safe):
    client, ca_id = safe
    assert client.get(f"/api/v2/cas/{ca_id}").status_code == 200
    assert client.get("/api/v2/audit/logs").status_code == 200
    assert client.patch("/api/v2/settings/general", {"site_name": "Ours"}).status_code == 200
