"""Settings, audit trail, jobs, intents, held requests, plugins, canaries."""

from datetime import timedelta

import pytest

from ucm.api.errors import Conflict
from ucm.api.services import Target
from ucm.store.audit import AuditQuery
from ucm.store.intents import NewIntent
from ucm.store.requests import NewHeldRequest


def test_settings_keep_values_versions_and_who(uow, operator, clock):
    with uow.begin(operator) as tx:
        assert tx.settings.revision() == 0
        assert tx.settings.set("acme.timeout", value=10) == 1
        assert tx.settings.set("acme.secret", sealed="ENC:x") == 2
        assert tx.settings.set("acme.timeout", value=[1, {"a": None}], version=1) == 3
    with pytest.raises(Conflict), uow.begin(operator) as tx:
        tx.settings.set("acme.timeout", value=0, version=1)
    with pytest.raises(Conflict), uow.begin(operator) as tx:
        tx.settings.set("acme.timeout", value=0, version=0)
    with uow.begin(operator) as tx:
        rows = tx.settings.all()
        assert tx.settings.revision() == 3
        assert tx.settings.delete("acme.secret")
        assert not tx.settings.delete("acme.secret")
        tx.settings.set("acme2.x", value=1, version=0)
        assert tx.settings.delete_of_owner("acme") == 1
        assert list(tx.settings.all()) == ["acme2.x"]
    assert rows["acme.timeout"].value == [1, {"a": None}]
    assert (rows["acme.timeout"].version, rows["acme.timeout"].updated_by) == (3, "olga")
    assert rows["acme.secret"].sealed == "ENC:x"
    assert "ENC:x" not in repr(rows["acme.secret"])


@pytest.fixture
def trail(uow, operator, clock):
    """Thirty entries, one a minute."""
    for number in range(30):
        with uow.begin(operator) as tx:
            tx.audit(
                "cert_revoked" if number % 3 == 0 else "certificate_created",
                target=Target("certificate" if number % 2 else "ca", number, f"CN=host-{number}"),
                success=number % 5 != 0,
            )
        clock.advance(timedelta(minutes=1))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, 30),
        ({"usernames": ("olga",)}, 30),
        ({"usernames": ("nobody",)}, 0),
        ({"user_id": 7}, 30),
        ({"actions": ("cert_revoked",)}, 10),
        ({"resource_types": ("ca",)}, 15),
        ({"resource_types": ("ca",), "resource_id": "4"}, 1),
        ({"success": False}, 6),
        ({"search": "HOST-1"}, 11),
        ({"search": "host-1 ca"}, 11),
        ({"search": "100%"}, 0),
        ({"actions": ("cert_revoked",), "success": False}, 2),
    ],
)
def test_the_trail_is_filtered(uow, trail, query, expected):
    with uow.read() as reader:
        page = reader.audit_log.page(AuditQuery(**query, per_page=7))
        rows = list(reader.audit_log.stream(AuditQuery(**query), limit=100, batch=4))
        assert page.total == len(rows) == expected
        seen = [row.id for row in page.items]
        while page.next_cursor is not None:
            page = reader.audit_log.page(AuditQuery(**query, per_page=7, after=page.next_cursor))
            seen += [row.id for row in page.items]
    assert seen == [row.id for row in rows] == sorted(seen, reverse=True)


def test_the_trail_is_bounded_by_time_counted_and_cleaned(uow, operator, trail, clock):
    ago = {minutes: clock.now() - timedelta(minutes=minutes) for minutes in (10, 20)}
    with uow.begin(operator) as tx:
        period = AuditQuery(date_from=ago[20], date_to=ago[10])
        assert tx.audit_log.page(period).total == 11
        stats = tx.audit_log.stats(since=ago[10])
        assert (stats.total, stats.failures, stats.top_users) == (10, 2, {"olga": 10})
        assert list(tx.audit_log.stream(AuditQuery(), limit=3, batch=2))[-1].id == 28
        assert tx.audit_log.count_before(ago[20]) == 10
        assert tx.audit_log.delete_before(ago[20]) == 10
        assert tx.audit_log.page(AuditQuery()).total == 20


def test_a_lease_that_was_lost_counts_for_nothing(uow, operator, clock):
    later = clock.now() + timedelta(seconds=30)
    with uow.begin(operator) as tx:
        tx.jobs.ensure("core.x", owner="core", title="X", schedule="every 60 s")
        first = tx.jobs.acquire("core.x", holder="a", now=clock.now(), expires_at=later)
        run = tx.jobs.start_run("core.x", fence=first, worker="a")
        assert tx.jobs.acquire("core.x", holder="b", now=clock.now(), expires_at=later) is None
        assert tx.jobs.renew("core.x", fence=first, expires_at=later)
        assert tx.jobs.get("core.x").holder == "a"
    clock.advance(timedelta(seconds=31))
    later = clock.now() + timedelta(seconds=30)
    with uow.begin(operator) as tx:
        second = tx.jobs.acquire("core.x", holder="b", now=clock.now(), expires_at=later)
        assert second > first
        other = tx.jobs.start_run("core.x", fence=second, worker="b")
        assert not tx.jobs.renew("core.x", fence=first, expires_at=later)
        assert not tx.jobs.release("core.x", fence=first)
        with pytest.raises(Conflict, match="another worker"), tx.savepoint():
            tx.jobs.finish_run(run, duration_ms=1)
        assert tx.jobs.finish_run(other, duration_ms=5).run_count == 1
        assert tx.jobs.release("core.x", fence=second)
        third = tx.jobs.acquire("core.x", holder="c", now=clock.now(), expires_at=later)
        assert third > second
        statuses = [row.status for row in tx.jobs.runs("core.x")]
    assert statuses == ["succeeded", "abandoned"]


def test_failures_in_a_row_are_counted_until_a_success_or_a_resume(uow, operator, clock):
    with uow.begin(operator) as tx:
        tx.jobs.ensure("core.x", owner="core", title="X", schedule="")
        counts = []
        for fence, error in enumerate(("boom", "boom", None, "boom"), start=1):
            run = tx.jobs.start_run("core.x", fence=fence, worker="a")
            tx.jobs.progress(run, text=f"{fence} of 4")
            counts.append(tx.jobs.finish_run(run, duration_ms=3, error=error).failures)
        assert counts == [1, 2, 0, 1]
        tx.jobs.pause("core.x", reason="too many failures")
        assert tx.jobs.get("core.x").pause_reason == "too many failures"
        tx.jobs.resume("core.x")
        tx.jobs.request_run("core.x")
        tx.jobs.schedule_next("core.x", at=clock.now())
        tx.jobs.ensure("core.x", owner="core", title="New title", schedule="cron")
        (row,) = tx.jobs.all()
        assert (row.title, row.paused, row.failures, row.failure_count) == (
            "New title",
            False,
            0,
            3,
        )
        assert row.requested_at == row.next_run_at == clock.now()
        assert tx.jobs.runs()[0].progress == "4 of 4"
        clock.advance(timedelta(days=1))
        assert tx.jobs.delete_runs(before=clock.now()) == 4
        tx.jobs.forget("core.x")
        assert tx.jobs.all() == []


def test_an_intent_is_open_until_its_certificate_is_stored(uow, operator, certificate, clock):
    new = NewIntent(
        ca_id=None,
        serial="ab",
        origin="acme",
        idempotency_key="order-1",
        subject="CN=x",
        request_digest="d",
        request={"names": ["x"]},
        tbs=b"tbs",
    )
    with uow.begin(operator) as tx:
        first = tx.intents.open(new)
    with pytest.raises(Conflict, match="being answered"), uow.begin(operator) as tx:
        tx.intents.open(new)
    clock.advance(timedelta(minutes=11))
    with uow.begin(operator) as tx:
        (row,) = tx.intents.unfinished(before=clock.now() - timedelta(minutes=10))
        assert (row.id, row.request, row.tbs) == (first, {"names": ["x"]}, b"tbs")
        assert tx.intents.unfinished(before=clock.now() - timedelta(minutes=12)) == []
        tx.intents.orphaned(first, reason="the process ended")
        assert [row.id for row in tx.intents.orphans()] == [first]
        tx.intents.done(first, certificate_id=tx.certificates.add(certificate(1)))
        assert tx.intents.get(first).state == "done"
        again = tx.intents.open(new)  # the key is free once it was answered
        tx.intents.failed(again, reason="denied")
    for act in ("failed", "orphaned"):
        with pytest.raises(Conflict, match="is failed"), uow.begin(operator) as tx:
            getattr(tx.intents, act)(again, reason="late")


def test_a_held_request_is_decided_once(uow, operator, certificate, clock):
    new = NewHeldRequest(
        refid="r",
        operation="issue",
        origin="api",
        payload={"subject": "CN=x"},
        subject="CN=x",
        reason="needs two approvals",
        policy="dual",
    )
    with uow.begin(operator) as tx:
        key = tx.requests.add(new)
        tx.requests.approve(key, approval=4)
        assert tx.requests.approve(key, approval=9).approvals == (4, 9)
        tx.requests.hold_again(key, reason="one more")
        assert tx.requests.page(state="pending").items[0].requested_by_id == 7
        issued = tx.certificates.add(certificate(1))
        tx.requests.resolve(key, state="issued", certificate_id=issued)
        view = tx.requests.get(key)
    assert (view.state, view.certificate_id, view.resolved_at) == ("issued", issued, clock.now())
    for act in (
        lambda tx: tx.requests.resolve(key, state="rejected"),
        lambda tx: tx.requests.approve(key, approval=1),
    ):
        with pytest.raises(Conflict, match="already issued"), uow.begin(operator) as tx:
            act(tx)


def test_plugin_states_are_remembered(uow, operator, clock):
    with uow.begin(operator) as tx:
        tx.plugins.record("acme", version="1.0", state="running")
        tx.plugins.record("acme", version="1.1", state="failed", step="start", reason="no port")
        row = tx.plugins.get("acme")
        assert (row.version, row.state, row.step, row.reason) == (
            "1.1",
            "failed",
            "start",
            "no port",
        )
        assert [row.name for row in tx.plugins.all()] == ["acme"]
        tx.plugins.forget("acme")
        assert tx.plugins.get("acme") is None


def test_the_first_canary_stays(uow, operator):
    with uow.begin(operator) as tx:
        assert tx.secrets.canary() is None
        tx.secrets.plant(fingerprint="old", sealed="ENC:1")
    with pytest.raises(Conflict, match="already"), uow.begin(operator) as tx:
        tx.secrets.plant(fingerprint="late", sealed="ENC:2")
    with uow.begin(operator) as tx:
        tx.secrets.rename(fingerprint="new")
        canary = tx.secrets.canary()
    assert (canary.fingerprint, canary.sealed) == ("new", "ENC:1")
    assert "ENC:1" not in repr(canary)
