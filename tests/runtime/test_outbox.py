"""Events reach durable subscribers at least once, also when the process died after its commit."""

from __future__ import annotations

import itertools
from datetime import timedelta

from ucm.api import hookimpl
from ucm.api.actor import Actor
from ucm.api.events import CaDeleted, Delivery, Event
from ucm.runtime.outbox import due_after
from ucm.runtime.worker import make_delivery
from ucm.testing.hosting import a_manifest, state_of

SYSTEM = Actor.system("test")


class Subscriber:
    """Takes events, after a number of failures."""

    def __init__(self, name: str = "probe", *, failures: int = 0) -> None:
        self.manifest = a_manifest(name)
        self.failures = failures
        self.taken: list[tuple[Event, Delivery]] = []

    @hookimpl
    def ucm_deliver_event(self, event: Event, delivery: Delivery) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("receiver away")
        self.taken.append((event, delivery))


def emit(container, *ca_ids: int) -> None:
    with container.uow.begin(SYSTEM) as tx:
        for ca_id in ca_ids:
            tx.emit(CaDeleted(ca_id=ca_id, subject="CN=Gone"))


def never() -> bool:
    return False


def pending(container) -> int:
    with container.uow.read() as reader:
        return reader.outbox.pending_count()


def test_committed_events_are_delivered_once_in_order(ucm_installation):
    subscriber = Subscriber()
    container = ucm_installation.start(plugins={"probe": subscriber})
    emit(container, 1, 2)
    emit(container, 3)
    delivery = make_delivery(container)
    assert delivery.deliver(stopping=never) == 3
    assert delivery.deliver(stopping=never) == 0
    assert [event.ca_id for event, _ in subscriber.taken] == [1, 2, 3]
    assert subscriber.taken[0][0] == CaDeleted(ca_id=1, subject="CN=Gone")
    assert [one.attempt for _, one in subscriber.taken] == [1, 1, 1]


def test_events_of_a_process_that_died_are_delivered_by_the_next(ucm_installation):
    first = ucm_installation.start()
    emit(first, 1)
    first.close()
    subscriber = Subscriber()
    container = ucm_installation.start(plugins={"probe": subscriber})
    make_delivery(container).deliver(stopping=never)
    assert [event.ca_id for event, _ in subscriber.taken] == [1]


def test_an_event_of_a_unit_that_failed_is_not_delivered(ucm_installation):
    subscriber = Subscriber()
    container = ucm_installation.start(plugins={"probe": subscriber})
    try:
        with container.uow.begin(SYSTEM) as tx:
            tx.emit(CaDeleted(ca_id=1, subject="CN=Gone"))
            raise LookupError
    except LookupError:
        pass
    make_delivery(container).deliver(stopping=never)
    assert subscriber.taken == []


def test_a_subscriber_that_fails_gets_another_attempt_and_the_other_no_second(ucm_installation):
    away, there = Subscriber("away", failures=1), Subscriber("there")
    container = ucm_installation.start(plugins={"away": away, "there": there})
    emit(container, 1)
    delivery = make_delivery(container)
    assert delivery.deliver(stopping=never) == 0
    assert pending(container) == 1
    assert state_of(container.host, "away").state == "degraded"
    container.clock.advance(timedelta(seconds=20))
    assert delivery.deliver(stopping=never) == 1
    assert [(event.ca_id, one.attempt) for event, one in away.taken] == [(1, 2)]
    assert len(there.taken) == 1
    assert away.taken[0][1].id == there.taken[0][1].id


def test_one_that_fails_does_not_hold_up_later_events(ucm_installation):
    away = Subscriber(failures=1)
    container = ucm_installation.start(plugins={"probe": away})
    emit(container, 1, 2)
    delivery = make_delivery(container)
    assert delivery.deliver(stopping=never) == 1
    assert [event.ca_id for event, _ in away.taken] == [2]


def test_without_subscribers_events_leave_the_outbox(ucm_container):
    emit(ucm_container, 1)
    make_delivery(ucm_container).deliver(stopping=never)
    assert pending(ucm_container) == 0


def test_delays_grow_to_an_hour_and_stay_there():
    delays = [due_after(attempts) for attempts in range(20)]
    assert delays[:4] == [timedelta(seconds=s) for s in (0, 1, 3, 7)]
    assert delays == sorted(delays)
    steps = [later - earlier for earlier, later in itertools.pairwise(delays)]
    assert max(steps) <= timedelta(hours=1)
    assert steps[-1] == timedelta(hours=1)


def test_without_subscribers_events_are_marked_and_not_read(ucm_installation):
    container = ucm_installation.start()
    emit(container, 1, 2, 3)
    before = pending(container)
    delivery = make_delivery(container)
    assert delivery.deliver(stopping=never) == before >= 3
    assert pending(container) == 0
    assert delivery.deliver(stopping=never) == 0
