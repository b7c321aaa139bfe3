"""What happened lately, and how the parts of the server are."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ucm.api.actor import Actor
from ucm.api.issuance import RevocationReason
from ucm.testing.bulk import a_certificate, load_certificates
from ucm.web.v2.dashboard import ActivityItem, OverviewItem, TrendDay

PATH = "/api/v2/dashboard"


@pytest.fixture
def viewer(installation):
    return installation.signed_in("viewer")


def store(installation, *certificates):
    with installation.container.uow.begin(Actor.system("tests")) as tx:
        for certificate in certificates:
            tx.certificates.add(certificate)


def test_the_trend_counts_each_day_by_what_happened_on_it(installation, viewer):
    now = installation.clock.now()
    day = timedelta(days=1)
    far = now + 100 * day
    store(
        installation,
        a_certificate(41, now=now, not_before=now - 2 * day, not_after=far, revoked_at=None),
        a_certificate(42, now=now, not_before=now - 2 * day, not_after=now - day),
        a_certificate(
            43,
            now=now,
            not_before=now,
            not_after=far,
            revoked_at=now - day,
            revocation_reason=RevocationReason.SUPERSEDED,
        ),
        a_certificate(44, now=now, not_before=now - 40 * day, not_after=far),
        a_certificate(45, now=now, not_before=now, not_after=far, is_ca=True),
    )
    rows = viewer.get(f"{PATH}/certificate-trend?days=3").json["data"]
    for row in rows:
        TrendDay.model_validate(row, strict=True, extra="forbid")
    assert [row["date"] for row in rows] == [(now - n * day).date().isoformat() for n in (2, 1, 0)]
    assert [(row["issued"], row["revoked"], row["expired"]) for row in rows] == [
        (2, 0, 0),
        (0, 1, 1),
        (1, 0, 0),
    ]
    assert rows[0]["name"] == (now - 2 * day).strftime("%a")
    assert len(viewer.get(f"{PATH}/certificate-trend").json["data"]) == 7
    for wrong in (0, 91):
        assert viewer.get(f"{PATH}/certificate-trend?days={wrong}").status_code == 400


def test_the_overview_agrees_with_the_counters(installation, viewer):
    load_certificates(installation.container.engine, 200, now=installation.clock.now())
    found = viewer.get(f"{PATH}/stats/overview").json["data"]
    OverviewItem.model_validate(found, strict=True, extra="forbid")
    counters = viewer.get(f"{PATH}/stats").json["data"]
    assert {name: found[name] for name in counters} == counters
    assert found["total_certificates"] == 200
    assert found["valid_percent"] == found["valid_certificates"] / 2


def test_activity_shows_others_only_to_those_who_may_read_the_log(installation, admin, viewer):
    admin.post("/api/v2/cas", {"common_name": "Root", "key_type": "EC-P256"})
    rows = admin.get(f"{PATH}/activity?limit=5").json["data"]
    for row in rows:
        ActivityItem.model_validate(row, strict=True, extra="forbid")
    assert any(row["action"] == "ca_created" for row in rows)
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert len(admin.get(f"{PATH}/activity?limit=1").json["data"]) == 1
    own = viewer.get(f"{PATH}/activity").json["data"]
    assert own
    assert {row["username"] for row in own} == {"viewer"}
    assert viewer.get(f"{PATH}/activity?limit=101").status_code == 400


def test_the_parts_of_the_server_say_how_they_are(installation, viewer):
    found = viewer.get(f"{PATH}/system-status").json["data"]
    assert {name: found[name]["status"] for name in ("core", "database", "softkeys")} == {
        "core": "online",
        "database": "online",
        "softkeys": "online",
    }
    assert found["scheduler"]["status"] == "warning"
    with installation.container.uow.begin(Actor.system("tests")) as tx:
        tx.jobs.ensure("core.demo", owner="core", title="Demo", schedule="every 1:00:00")
    assert viewer.get(f"{PATH}/system-status").json["data"]["scheduler"]["status"] == "online"
    with installation.container.uow.begin(Actor.system("tests")) as tx:
        tx.jobs.pause("core.demo", reason="it failed")
    scheduler = viewer.get(f"{PATH}/system-status").json["data"]["scheduler"]
    assert scheduler == {"status": "warning", "message": "Jobs paused: Demo."}
