"""Signing in and out, sessions, lockout, CSRF, forced password changes."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from ucm.api.actor import Actor
from ucm.domain.passwords import PasswordHasher

PASSWORD = "Str0ng-enough"
LOGIN = "/api/v2/auth/login"


def test_signing_in_answers_with_the_account_and_sets_a_guarded_cookie(installation):
    api = installation.api()
    answer = api.sign_in("operator")
    data = answer.json["data"]
    assert data["user"]["username"] == "operator"
    assert data["role"] == "operator"
    assert "write:certificates" in data["permissions"]
    assert data["csrf_token"].count(":") == 2
    [cookie] = answer.headers.getlist("Set-Cookie")
    for part in ("session=", "Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert part in cookie
    assert "password" not in str(data["user"]).replace("force_password_change", "")
    assert api.get("/api/v2/auth/verify").json["data"]["authenticated"] is True
    [row] = installation.audit("login_success")
    assert (row.username, row.ip_address, row.success) == ("operator", "127.0.0.1", True)


@pytest.mark.parametrize("path", [LOGIN, "/api/v2/auth/login/password"])
def test_both_paths_sign_in(installation, path):
    answer = installation.api().post(path, {"username": "VIEWER", "password": PASSWORD})
    assert answer.status_code == 200


def test_the_database_keeps_neither_token_nor_password(installation):
    api = installation.api()
    cookie = api.sign_in("viewer").headers["Set-Cookie"]
    token = cookie.partition("session=")[2].partition(";")[0]
    assert len(token) >= 43
    with installation.container.engine.connect() as connection:
        for table in ("core_session", "core_user", "core_audit"):
            rows = connection.execute(text(f"SELECT * FROM {table}")).all()
            assert token not in str(rows)
            assert PASSWORD not in str(rows)


@pytest.mark.parametrize(
    ("username", "password", "reason"),
    [
        ("operator", "Wr0ng-password", "password"),
        ("nobody", PASSWORD, "unknown"),
        ("operator", "x" * 60_000, "password"),
    ],
)
def test_refusals_do_not_tell_what_was_wrong(installation, username, password, reason):
    answer = installation.api().post(LOGIN, {"username": username, "password": password})
    assert answer.status_code == 401
    assert answer.json["detail"] == "The user name or the password is wrong."
    assert "Set-Cookie" not in answer.headers
    [row] = installation.audit("login_failure")
    assert (row.username, row.success, row.details["reason"]) == (username, False, reason)
    assert password not in str(row)


def test_a_disabled_account_is_refused_like_a_wrong_password(installation, admin):
    viewer = installation.container.users.by_username("viewer")
    session = installation.signed_in("viewer")
    assert admin.put(f"/api/v2/users/{viewer.id}", {"active": False}).status_code == 200
    assert session.get("/api/v2/account/profile").status_code == 401
    assert installation.api().sign_in("viewer").status_code == 401


def test_an_account_is_locked_after_wrong_passwords_and_opens_by_itself(installation):
    api = installation.api()
    for _ in range(5):
        assert api.sign_in("viewer", "Wr0ng-password").status_code == 401
    locked = api.sign_in("viewer")
    assert locked.status_code == 429
    assert 0 < int(locked.headers["Retry-After"]) <= 301
    assert locked.json["type"] == "urn:ucm:error:rate-limited"
    assert installation.api().sign_in("operator").status_code == 200
    installation.clock.advance(timedelta(seconds=301))
    assert api.sign_in("viewer").status_code == 200


def test_an_administrator_lifts_a_lockout(installation, admin):
    api = installation.api()
    for _ in range(5):
        api.sign_in("viewer", "Wr0ng-password")
    viewer = installation.container.users.by_username("viewer")
    assert admin.post(f"/api/v2/users/{viewer.id}/unlock").status_code == 200
    assert api.sign_in("viewer").status_code == 200


def test_signing_out_ends_the_session_at_once(installation):
    api = installation.signed_in("viewer")
    cookie = api.client.get_cookie("session")
    assert api.post("/api/v2/auth/logout").status_code == 200
    thief = installation.api()
    thief.client.set_cookie("session", cookie.value)
    assert thief.get("/api/v2/account/profile").status_code == 401
    assert installation.audit("logout")[0].username == "viewer"


def test_a_session_ends_when_idle_and_at_its_age_in_any_case(installation):
    idle = installation.signed_in("viewer")
    installation.clock.advance(timedelta(seconds=28_801))
    assert idle.get("/api/v2/account/profile").status_code == 401
    busy = installation.signed_in("viewer")
    for _ in range(12):
        installation.clock.advance(timedelta(hours=2) - timedelta(seconds=1))
        assert busy.get("/api/v2/account/profile").status_code == 200
    installation.clock.advance(timedelta(seconds=30))
    assert busy.get("/api/v2/account/profile").status_code == 401


def test_signing_in_again_replaces_the_session_that_the_browser_brought(installation):
    api = installation.signed_in("viewer")
    old = api.client.get_cookie("session").value
    api.sign_in("operator")
    thief = installation.api()
    thief.client.set_cookie("session", old)
    assert thief.get("/api/v2/account/profile").status_code == 401


def test_verify_says_no_without_a_session(installation):
    answer = installation.api().get("/api/v2/auth/verify")
    assert answer.json == {"data": {"authenticated": False}}


def test_a_change_needs_the_csrf_token(installation):
    api = installation.signed_in("admin")
    token = api.headers.pop("X-CSRF-Token")
    body = {"site_name": "Ours"}
    path = "/api/v2/settings/general"
    refused = api.patch(path, body)
    assert refused.status_code == 403
    assert refused.json["type"] == "urn:ucm:error:csrf-failed"
    assert installation.audit("csrf_failure")[0].success is False
    assert api.patch(path, body, headers={"X-CSRF-Token": "1:2:3"}).status_code == 403
    other = installation.signed_in("viewer").headers["X-CSRF-Token"]
    assert api.patch(path, body, headers={"X-CSRF-Token": other}).status_code == 403
    assert api.get(path).json["data"]["site_name"] == "UCM"
    assert api.patch(path, body, headers={"X-CSRF-Token": token}).status_code == 200
    assert api.patch(path, {**body, "_csrf_token": token}).status_code == 200
    fresh = api.get("/api/v2/auth/verify").json["data"]["csrf_token"]
    assert api.patch(path, body, headers={"X-CSRF-Token": fresh}).status_code == 200


def test_a_wrong_api_key_does_not_fall_back_to_the_session(installation):
    api = installation.signed_in("admin")
    answer = api.patch(
        "/api/v2/settings/general",
        {"site_name": "Ours"},
        headers={"X-API-Key": "ucm_ak_" + "x" * 43, "X-CSRF-Token": None},
    )
    assert answer.status_code == 401


def test_a_random_first_password_must_be_changed_before_anything_else(tmp_path, installation):
    container = installation.container
    assert container.users.first_admin("Any-passw0rd") is None, "there are accounts already"
    viewer = container.users.by_username("viewer")
    admin = installation.signed_in("admin")
    path = f"/api/v2/users/{viewer.id}/reset-password"
    assert admin.post(path, {"new_password": "Reset-passw0rd"}).status_code == 200
    api = installation.api()
    answer = api.sign_in("viewer", "Reset-passw0rd")
    assert answer.json["data"]["force_password_change"] is True
    refused = api.get("/api/v2/dashboard/stats")
    assert refused.status_code == 403
    assert refused.json["type"] == "urn:ucm:error:password-change-required"
    assert api.get("/api/v2/account/profile").status_code == 200
    change = {"current_password": "Reset-passw0rd", "new_password": "My-own-passw0rd"}
    assert api.post("/api/v2/account/password", change).status_code == 200
    assert api.get("/api/v2/dashboard/stats").status_code == 200


def test_a_password_change_ends_the_other_sessions(installation):
    mine, other = installation.signed_in("viewer"), installation.signed_in("viewer")
    change = {"current_password": PASSWORD, "new_password": "An0ther-password"}
    assert mine.post("/api/v2/account/password", change).status_code == 200
    assert mine.get("/api/v2/account/profile").status_code == 200
    assert other.get("/api/v2/account/profile").status_code == 401
    assert installation.api().sign_in("viewer").status_code == 401


def test_a_password_change_needs_the_current_one_and_a_good_new_one(installation):
    api = installation.signed_in("viewer")
    wrong = {"current_password": "Wr0ng-password", "new_password": "An0ther-password"}
    assert api.post("/api/v2/account/password", wrong).status_code == 401
    weak = {"current_password": PASSWORD, "new_password": "weak"}
    answer = api.post("/api/v2/account/password", weak)
    assert answer.status_code == 400
    assert {field["pointer"] for field in answer.json["errors"]} == {"/new_password"}
    same = {"current_password": PASSWORD, "new_password": PASSWORD}
    assert api.post("/api/v2/account/password", same).status_code == 400
    assert api.sign_in("viewer").status_code == 200


def test_sessions_are_listed_and_ended_by_their_owner_only(installation):
    mine, other = installation.signed_in("viewer"), installation.signed_in("viewer")
    listed = mine.get("/api/v2/account/sessions").json["data"]
    assert [one["is_current"] for one in listed] == [False, True]
    assert "token" not in str(listed)
    stranger = installation.signed_in("operator")
    target = f"/api/v2/account/sessions/{listed[0]['id']}"
    assert stranger.delete(target).status_code == 404
    assert mine.delete(target).status_code == 204
    assert other.get("/api/v2/account/profile").status_code == 401


def test_security_headers_are_on_every_answer(installation):
    for path in ("/api/v2/auth/verify", "/nowhere", "/health"):
        headers = installation.api().get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
        assert "Referrer-Policy" in headers
    assert installation.api().get("/api/v2/auth/verify").headers["Cache-Control"] == "no-store"


def test_a_hash_of_old_costs_is_replaced_at_the_next_sign_in(installation):
    container = installation.container
    viewer = container.users.by_username("viewer")
    old = PasswordHasher(memory_kib=2048, passes=1).hash(PASSWORD)
    with container.uow.begin(Actor.system("tests")) as tx:
        tx.users.update(
            viewer.id, password_hash=old, password_changed_at=viewer.password_changed_at
        )
    assert installation.api().sign_in("viewer").status_code == 200
    after = container.users.by_username("viewer")
    assert after.password_hash != old
    assert after.password_changed_at == viewer.password_changed_at
    assert installation.api().sign_in("viewer").status_code == 200
