"""API keys: shown once, limited to their owner, ended at once."""

from datetime import timedelta

import pytest
from sqlalchemy import text

KEYS = "/api/v2/account/apikeys"


def test_a_key_is_shown_once_and_stored_as_a_hash(installation, admin):
    answer = admin.post(KEYS, {"name": "ci", "permissions": ["read:cas"]})
    assert answer.status_code == 201
    made = answer.json["data"]
    assert made["key"].startswith("ucm_ak_")
    assert len(made["key"]) == 50
    assert made["key_prefix"] == made["key"][:12]
    for path in (KEYS, answer.headers["Location"]):
        assert made["key"] not in admin.get(path).get_data(as_text=True)
    with installation.container.engine.connect() as connection:
        for table in ("core_api_key", "core_audit"):
            assert made["key"] not in str(connection.execute(text(f"SELECT * FROM {table}")).all())


def test_a_key_acts_for_its_owner_within_its_scopes(installation):
    key = installation.with_key("admin", "read:users")
    assert key.get("/api/v2/users").status_code == 200
    refused = key.get("/api/v2/audit")
    assert refused.status_code == 403
    assert refused.json["missing_permissions"] == ["read:audit"]
    row = installation.audit("permission_denied")[0]
    assert (row.username, row.actor_kind, row.success) == ("admin", "api_key", False)
    assert row.resource_name == "GET /api/v2/audit"


def test_a_demoted_owner_takes_the_rights_of_his_keys_along(installation, admin):
    key = installation.with_key("operator", "read:settings")
    assert key.get("/api/v2/settings/general").status_code == 200
    operator = installation.container.users.by_username("operator")
    assert admin.put(f"/api/v2/users/{operator.id}", {"role": "viewer"}).status_code == 200
    installation.clock.advance(timedelta(seconds=2))
    assert key.get("/api/v2/settings/general").status_code == 403
    assert admin.put(f"/api/v2/users/{operator.id}", {"active": False}).status_code == 200
    installation.clock.advance(timedelta(seconds=2))
    assert key.get("/api/v2/account/profile").status_code == 401


def test_scopes_are_known_and_within_the_callers_own(installation):
    api = installation.signed_in("operator")
    unknown = api.post(KEYS, {"name": "x", "permissions": ["read:cas", "read:cars"]})
    assert unknown.status_code == 400
    assert unknown.json["errors"][0]["pointer"] == "/permissions/1"
    for beyond in ("read:users", "*", "read:*", "*:cas"):
        refused = api.post(KEYS, {"name": "x", "permissions": [beyond]})
        assert refused.status_code == 403, beyond
    assert api.get(KEYS).json["data"] == []


def test_a_key_cannot_make_another_one_or_renew_a_wider_one(installation, admin):
    wide = admin.post(KEYS, {"name": "wide", "permissions": ["*"]}).json["data"]
    key = installation.with_key("admin", "read:cas")
    assert key.post(KEYS, {"name": "x", "permissions": ["read:cas"]}).status_code == 403
    assert key.post(f"{KEYS}/{wide['id']}/regenerate").status_code == 403
    [own] = [one for one in key.get(KEYS).json["data"] if one["name"] == "test"]
    refused = key.post(f"{KEYS}/{own['id']}/regenerate")
    assert refused.status_code == 403
    assert "API key cannot change" in refused.json["detail"]
    assert key.get(KEYS).status_code == 200, "nothing happened to it"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("patch", "/api/v2/account/profile", {"email": "thief@example.net"}),
        ("patch", "/api/v2/account/profile", {"timezone": "UTC"}),
        ("post", "/api/v2/account/password", {"current_password": "x", "new_password": "y"}),
        ("delete", "/api/v2/account/sessions/1", None),
        ("post", KEYS, {"name": "x", "permissions": ["read:cas"]}),
        ("patch", f"{KEYS}/1", {"name": "x"}),
        ("post", f"{KEYS}/1/regenerate", None),
        ("delete", f"{KEYS}/1", None),
    ],
)
def test_a_key_changes_nothing_of_its_account(installation, admin, method, path, body):
    key = installation.with_key("admin")
    before = admin.get("/api/v2/account/profile").json["data"], admin.get(KEYS).json["data"]
    call = getattr(key, method)
    refused = call(path) if body is None else call(path, body)
    assert refused.status_code == 403
    assert "API key cannot change" in refused.json["detail"]
    after = admin.get("/api/v2/account/profile").json["data"], admin.get(KEYS).json["data"]
    for state in (before, after):
        for item in state[1]:
            item.pop("last_used_at")
    assert after == before


def test_a_key_expires(installation, admin):
    made = admin.post(KEYS, {"name": "x", "permissions": ["*"], "expires_days": 1}).json["data"]
    key = installation.api(**{"X-API-Key": made["key"]})
    assert key.get("/api/v2/users").status_code == 200
    installation.clock.advance(timedelta(days=1))
    assert key.get("/api/v2/users").status_code == 401


@pytest.mark.parametrize(
    ("fields", "expires"),
    [({}, True), ({"expires_days": 0}, False), ({"expires_days": None}, False),
     ({"expires_in_days": 30}, True), ({"expires_in_days": 0}, False)],
)  # fmt: skip
def test_lifetimes(admin, fields, expires):
    made = admin.post(KEYS, {"name": "x", "permissions": ["*"], **fields}).json["data"]
    assert (made["expires_at"] is not None) == expires


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_days": 3651},
        {"expires_days": -1},
        {"expires_days": "30"},
        {"expires_days": 1, "expires_in_days": 1},
        {"permissions": []},
        {"permissions": "read:cas"},
        {"name": ""},
        {"extra": 1},
    ],
)
def test_bad_bodies(admin, fields):
    answer = admin.post(KEYS, {"name": "x", "permissions": ["read:cas"], **fields})
    assert answer.status_code == 400


def test_revoking_and_deleting(installation, admin):
    made = admin.post(KEYS, {"name": "x", "permissions": ["*"]}).json["data"]
    key = installation.api(**{"X-API-Key": made["key"]})
    path = f"{KEYS}/{made['id']}"
    assert key.get("/api/v2/users").status_code == 200
    assert admin.delete(path).json["message"] == "API key revoked"
    assert key.get("/api/v2/users").status_code == 401, "at once in the process that revoked it"
    assert admin.get(path).json["data"]["is_active"] is False
    assert admin.delete(path).json["message"] == "API key deleted"
    assert admin.get(path).status_code == 404
    actions = [row.action for row in installation.audit() if row.resource_type == "api_key"]
    assert actions == ["apikey_delete", "apikey_revoke", "apikey_create"]


def test_a_new_secret_ends_the_old_one(installation, admin):
    made = admin.post(KEYS, {"name": "x", "permissions": ["*"]}).json["data"]
    old = installation.api(**{"X-API-Key": made["key"]})
    assert old.get("/api/v2/users").status_code == 200
    again = admin.post(f"{KEYS}/{made['id']}/regenerate").json["data"]
    assert again["id"] == made["id"]
    assert old.get("/api/v2/users").status_code == 401
    assert installation.api(**{"X-API-Key": again["key"]}).get("/api/v2/users").status_code == 200
    admin.delete(f"{KEYS}/{made['id']}")
    assert admin.post(f"{KEYS}/{made['id']}/regenerate").status_code == 409


def test_keys_belong_to_their_owner(installation, admin):
    made = admin.post(KEYS, {"name": "x", "permissions": ["*"]}).json["data"]
    path = f"{KEYS}/{made['id']}"
    stranger = installation.signed_in("operator")
    assert stranger.get(path).status_code == 404
    assert stranger.patch(path, {"name": "y"}).status_code == 404
    assert stranger.post(f"{path}/regenerate").status_code == 404
    assert stranger.delete(path).status_code == 404
    assert admin.patch(path, {"name": "y"}).json["data"]["name"] == "y"


def test_an_account_has_at_most_ten_active_keys(admin):
    for number in range(10):
        assert admin.post(KEYS, {"name": f"k{number}", "permissions": ["*"]}).status_code == 201
    assert admin.post(KEYS, {"name": "k", "permissions": ["*"]}).status_code == 409
    first = admin.get(KEYS).json["data"][-1]["id"]
    admin.delete(f"{KEYS}/{first}")
    assert admin.post(KEYS, {"name": "k", "permissions": ["*"]}).status_code == 201


def test_use_is_noted_at_most_once_a_minute(installation, admin):
    made = admin.post(KEYS, {"name": "x", "permissions": ["*"]}).json["data"]
    key = installation.api(**{"X-API-Key": made["key"]})

    def last_used():
        return admin.get(f"{KEYS}/{made['id']}").json["data"]["last_used_at"]

    key.get("/api/v2/users")
    first = last_used()
    assert first is not None
    installation.clock.advance(timedelta(seconds=30))
    key.get("/api/v2/users")
    assert last_used() == first
    installation.clock.advance(timedelta(seconds=31))
    key.get("/api/v2/users")
    assert last_used() != first


@pytest.mark.parametrize("secret", ["", "x", "ucm_ak_", "ucm_ak_" + "x" * 43, "ü" * 50])
def test_rubbish_keys(installation, secret):
    answer = installation.api().get(
        "/api/v2/users", headers={"X-API-Key": secret.encode().decode("latin-1")}
    )
    assert answer.status_code == 401


def test_a_key_needs_no_csrf_token(installation):
    key = installation.with_key("admin")
    answer = key.patch("/api/v2/settings/general", {"site_name": "Ours"})
    assert answer.status_code == 200
