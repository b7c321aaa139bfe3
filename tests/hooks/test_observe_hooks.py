"""Observe hooks: told after the commit, isolated from each other, timed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from ucm.api import hookimpl
from ucm.api.events import CaDeleted, CertificateIssued, CertificateRevoked, Delivery, Event
from ucm.testing.fakes import FakeClock
from ucm.testing.hosting import a_manifest, a_running_host, state_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ISSUED = CertificateIssued(
    certificate_id=1, ca_id=1, serial="01", subject="CN=a", origin="api", not_after=NOW
)
REVOKED = CertificateRevoked(
    certificate_id=1, ca_id=1, serial="01", reason="superseded", revoked_at=NOW
)
DELETED = CaDeleted(ca_id=1, subject="CN=a")


class Observer:
    """Remembers what it was told."""

    def __init__(self, name: str = "probe") -> None:
        self.manifest = a_manifest(name)
        self.told: list[tuple[str, Event]] = []

    @hookimpl
    def ucm_after_issue(self, event: CertificateIssued) -> None:
        self.told.append(("ucm_after_issue", event))

    @hookimpl
    def ucm_on_revoke(self, event: CertificateRevoked) -> None:
        self.told.append(("ucm_on_revoke", event))

    @hookimpl
    def ucm_on_event(self, event: Event) -> None:
        self.told.append(("ucm_on_event", event))


def test_ucm_after_issue():
    observer = Observer()
    a_running_host(observer).dispatcher.publish([ISSUED])
    assert observer.told == [("ucm_after_issue", ISSUED), ("ucm_on_event", ISSUED)]


def test_ucm_on_revoke():
    observer = Observer()
    a_running_host(observer).dispatcher.publish([REVOKED])
    assert observer.told == [("ucm_on_revoke", REVOKED), ("ucm_on_event", REVOKED)]


def test_ucm_on_event():
    observer = Observer()
    a_running_host(observer).dispatcher.publish([DELETED])
    assert observer.told == [("ucm_on_event", DELETED)]


@pytest.mark.parametrize("error", [RuntimeError("secret"), SystemExit(1)])
def test_one_that_raises_keeps_nobody_else_from_being_told(error, caplog):
    class Broken(Observer):
        @hookimpl
        def ucm_on_event(self, event: Event) -> None:
            raise error

    last = Observer("last")
    host = a_running_host(Observer("first"), Broken("broken"), last)
    with caplog.at_level(logging.ERROR):
        host.dispatcher.publish([ISSUED, DELETED])
    assert [hook for hook, _ in last.told] == ["ucm_after_issue", "ucm_on_event", "ucm_on_event"]
    shown = state_of(host, "broken")
    assert shown.state == "degraded"
    assert shown.faults == {"ucm_on_event": 2}
    assert state_of(host, "last").state == "running"


def test_calls_are_timed_and_slow_ones_are_named(caplog):
    clock = FakeClock()

    class Slow(Observer):
        @hookimpl
        def ucm_on_event(self, event: Event) -> None:
            clock.advance(timedelta(seconds=2))

    host = a_running_host(Slow(), clock=clock)
    with caplog.at_level(logging.WARNING):
        host.dispatcher.publish([DELETED])
    timing = host.dispatcher.timings["probe", "ucm_on_event"]
    assert (timing.calls, timing.seconds, timing.errors) == (1, 2.0, 0)
    assert "slow work belongs into a job" in caplog.text
    shown = {metric.name: metric.read() for metric in host.dispatcher.metrics()}
    assert shown["ucm_hook_seconds_total"]["probe", "ucm_on_event"] == 2.0
    assert shown["ucm_hook_calls_total"]["probe", "ucm_on_event"] == 1


def test_errors_are_counted_in_the_timings():
    class Broken(Observer):
        @hookimpl
        def ucm_on_event(self, event: Event) -> None:
            raise RuntimeError

    host = a_running_host(Broken())
    host.dispatcher.publish([DELETED])
    assert host.dispatcher.timings["probe", "ucm_on_event"].errors == 1


def test_ucm_deliver_event_reaches_those_who_did_not_take_it_yet():
    class Subscriber(Observer):
        @hookimpl
        def ucm_deliver_event(self, event: Event, delivery: Delivery) -> None:
            self.told.append(("ucm_deliver_event", event))
            if self.manifest.name == "away":
                raise RuntimeError

    one, away = Subscriber("one"), Subscriber("away")
    host = a_running_host(one, away)
    delivery = Delivery(id=1, attempt=1, committed_at=NOW)
    taken: set[str] = set()
    assert host.dispatcher.deliver(DELETED, delivery=delivery, spare=taken) == [
        "away: RuntimeError"
    ]
    assert taken == {"one"}
    host.dispatcher.deliver(DELETED, delivery=delivery, spare=taken)
    assert (len(one.told), len(away.told)) == (1, 2)
