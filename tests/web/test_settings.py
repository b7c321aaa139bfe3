"""General settings: who may change what, bounds, secrets, and their effect."""

import pytest

GENERAL = "/api/v2/settings/general"


def test_values_are_read_changed_and_in_force(installation, admin):
    assert admin.get(GENERAL).json["data"]["session_timeout"] == 28800
    changed = admin.patch(GENERAL, {"session_timeout": 600, "site_name": "Ours"})
    assert changed.json["data"]["session_timeout"] == 600
    verify = admin.get("/api/v2/auth/verify").json["data"]
    assert verify["session_timeout"] == 600
    row = installation.audit("settings_update")[0]
    assert sorted(row.details["keys"]) == ["general.session_timeout", "general.site_name"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"session_timeout": 1}, "/session_timeout"),
        ({"session_timeout": "600"}, "/session_timeout"),
        ({"session_timeout": True}, "/session_timeout"),
        ({"base_url": "ftp://x"}, "/base_url"),
        ({"site_name": ""}, "/site_name"),
        ({"sesion_timeout": 600}, "/sesion_timeout"),
    ],
)
def test_wrong_values_are_named_and_nothing_is_written(admin, body, pointer):
    before = admin.get(GENERAL).json["data"]
    answer = admin.patch(GENERAL, {"timezone": "Europe/Berlin", **body})
    assert answer.status_code == 400
    assert pointer in [field["pointer"] for field in answer.json["errors"]]
    assert admin.get(GENERAL).json["data"] == before


def test_values_that_contradict_each_other(admin):
    answer = admin.patch(GENERAL, {"session_timeout": 5000, "session_max_lifetime": 4000})
    assert answer.status_code == 400
    assert "must not exceed" in answer.json["detail"]


def test_an_empty_change_is_refused(admin):
    assert admin.patch(GENERAL, {}).status_code == 400
    assert admin.patch(GENERAL, {"site_name": None}).status_code == 400


def test_operators_change_what_is_not_about_security(installation):
    operator = installation.signed_in("operator")
    assert operator.patch(GENERAL, {"site_name": "Ours"}).status_code == 200
    refused = operator.patch(GENERAL, {"site_name": "Theirs", "max_login_attempts": 100})
    assert refused.status_code == 403
    assert "max_login_attempts" in refused.json["detail"]
    assert operator.get(GENERAL).json["data"]["site_name"] == "Ours"
    assert installation.signed_in("auditor").get(GENERAL).status_code == 403


def test_the_metrics_token_is_never_shown_and_guards_the_scrape(installation, admin):
    scraper = installation.api()
    assert scraper.get("/metrics").status_code == 404
    shown = admin.patch(GENERAL, {"metrics_token": "s3cret-token"})
    assert shown.json["data"]["metrics_token_set"] is True
    assert "s3cret-token" not in shown.get_data(as_text=True)
    assert "s3cret-token" not in str(installation.audit("settings_update"))
    assert scraper.get("/metrics").status_code == 401
    wrong = scraper.get("/metrics", headers={"Authorization": "Bearer other"})
    assert wrong.status_code == 401
    for path in ("/metrics", "/api/v2/metrics"):
        scraped = scraper.get(path, headers={"Authorization": "Bearer s3cret-token"})
        assert scraped.status_code == 200
        assert 'ucm_certificates{status="valid"} 0.0' in scraped.get_data(as_text=True)
        assert "ucm_build_info" in scraped.get_data(as_text=True)
    admin.patch(GENERAL, {"metrics_token": "", "site_name": "Ours"})
    assert admin.get(GENERAL).json["data"]["metrics_token_set"] is True
    admin.patch(GENERAL, {"metrics_token": "__disable__"})
    assert scraper.get("/metrics").status_code == 404


def test_hsts_follows_the_settings(installation, admin):
    admin.patch(GENERAL, {"hsts_include_subdomains": False, "hsts_max_age": 60})
    assert admin.get("/health").headers["Strict-Transport-Security"] == "max-age=60"
    plain = installation.app.test_client().get("/health", base_url="http://localhost")
    assert "Strict-Transport-Security" not in plain.headers
    admin.patch(GENERAL, {"hsts_enabled": False})
    assert "Strict-Transport-Security" not in admin.get("/health").headers
