"""Delivery of committed events by the worker: at least once, also after a crash.

A process tells observers right after its commit; when it dies in between, they miss the event. The
outbox row does not go away before every subscriber (``ucm_deliver_event``) took it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from ucm.api.actor import Actor
from ucm.api.events import Delivery, Event
from ucm.api.services import Clock
from ucm.runtime.dispatch import Dispatcher
from ucm.store.outbox import OutboxRow, event_from
from ucm.store.uow import UnitOfWork

log = logging.getLogger("ucm.outbox")

BATCH = 200
_PASSED_BY = 1000
RETRY_SCAN = timedelta(seconds=15)
MAX_DELAY = timedelta(hours=1)
_DOUBLINGS = 12  # the last one waits 2048 s
KEEP = timedelta(days=7)
_ACTOR = Actor.system("outbox")


def due_after(attempts: int) -> timedelta:
    """How long after its commit an event is tried again: doubling, then once an hour."""
    doublings = min(attempts, _DOUBLINGS)
    return timedelta(seconds=2**doublings - 1) + MAX_DELAY * (attempts - doublings)


class OutboxDelivery:
    """Hands stored events to the subscribers. One thread of one worker uses it at a time."""

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        dispatcher: Dispatcher,
        event_type: Callable[[str], type[Event] | None],
        clock: Clock,
    ) -> None:
        self._uow = uow
        self._dispatcher = dispatcher
        self._event_type = event_type
        self._clock = clock
        self._cursor = 0
        self._scan_at: datetime | None = None
        self._taken: dict[int, set[str]] = {}
        """Per undelivered event, the plugins that took it: they are spared the next attempt."""

    def deliver(self, *, stopping: Callable[[], bool]) -> int:
        """Deliver what is due; return how many events left the outbox."""
        if not self._dispatcher.has("ucm_deliver_event"):
            return self._pass_by(stopping=stopping)
        now = self._clock.now()
        if self._scan_at is None or now >= self._scan_at:
            self._cursor, self._scan_at = 0, now + RETRY_SCAN
        delivered = 0
        while not stopping():
            with self._uow.read() as reader:
                rows = reader.outbox.pending(BATCH, after=self._cursor)
            if not rows:
                break
            delivered += self._batch(rows, now=now)
            self._cursor = rows[-1].id
        return delivered

    def _pass_by(self, *, stopping: Callable[[], bool]) -> int:
        """Without any subscriber nothing needs to be read, only marked."""
        passed = 0
        while not stopping():
            with self._uow.read() as reader:
                if not reader.outbox.any_pending():
                    break
            with self._uow.begin(_ACTOR) as tx:
                passed += tx.outbox.mark_all_delivered(at=self._clock.now(), limit=_PASSED_BY)
        return passed

    def _batch(self, rows: list[OutboxRow], *, now: datetime) -> int:
        done: list[int] = []
        failed: dict[int, str] = {}
        for row in rows:
            if now < row.created_at + due_after(row.attempts):
                continue
            error = self._one(row)
            if error is None:
                done.append(row.id)
                self._taken.pop(row.id, None)
            else:
                failed[row.id] = error
        if done or failed:
            with self._uow.begin(_ACTOR) as tx:
                tx.outbox.mark_delivered(done, at=self._clock.now())
                for event_id, error in failed.items():
                    tx.outbox.mark_failed(event_id, error=error)
        return len(done)

    def _one(self, row: OutboxRow) -> str | None:
        kind = self._event_type(row.name)
        if kind is None:
            log.info("event %s (%d) is of no plugin that runs; nobody is told", row.name, row.id)
            return None
        taken = self._taken.setdefault(row.id, set())
        try:
            event = event_from(row, kind)
        except (TypeError, ValueError) as error:
            log.error("event %s (%d) cannot be read: %s", row.name, row.id, error)  # noqa: TRY400
            return "unreadable"
        delivery = Delivery(id=row.id, attempt=row.attempts + 1, committed_at=row.created_at)
        failures = self._dispatcher.deliver(event, delivery=delivery, spare=taken)
        return ", ".join(failures) or None
