"""The database as operators see it: what it is, its size, compaction and integrity."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from ucm.api.actor import Actor
from ucm.api.errors import Conflict
from ucm.api.services import Clock, Target
from ucm.store.audit import AuditQuery
from ucm.store.maintenance import Compaction, DatabaseFacts, DatabaseMaintenance, Integrity
from ucm.store.uow import Reader, UnitOfWork

_OPTIMIZED, _CHECKED = "system_optimize", "system_integrity_check"


@dataclass(frozen=True, slots=True)
class DatabaseStats:
    """Size, counts, and when it was last cared for, as far back as the audit log goes."""

    facts: DatabaseFacts
    last_optimized: datetime | None
    last_checked: datetime | None


class DatabaseService:
    """One optimisation or check at a time in a process."""

    def __init__(self, *, uow: UnitOfWork, maintenance: DatabaseMaintenance, clock: Clock) -> None:
        self._uow = uow
        self._maintenance = maintenance
        self._clock = clock
        self._one = threading.Lock()

    def status(self) -> DatabaseFacts:
        """What kind of database it is, without counting."""
        return self._maintenance.facts(counts=False)

    def stats(self) -> DatabaseStats:
        """With the number of objects."""
        with self._uow.read() as reader:
            optimized, checked = _last(reader, _OPTIMIZED), _last(reader, _CHECKED)
        return DatabaseStats(self._maintenance.facts(counts=True), optimized, checked)

    def optimize(self, *, actor: Actor) -> tuple[Compaction, int]:
        """What was done and the milliseconds it took. Raises ``Conflict``, ``StorageFailed``."""
        with self._alone():
            begun = self._clock.monotonic()
            done = self._maintenance.optimize()
            took = self._since(begun)
        with self._uow.begin(actor) as tx:
            tx.audit(
                _OPTIMIZED,
                target=Target("database"),
                size_before=done.size_before,
                size_after=done.size_after,
                steps=list(done.steps),
            )
        return done, took

    def check(self, *, actor: Actor) -> tuple[Integrity, int]:
        """Findings and the milliseconds it took. Raises ``Conflict``."""
        with self._alone():
            begun = self._clock.monotonic()
            found = self._maintenance.check()
            took = self._since(begun)
        with self._uow.begin(actor) as tx:
            tx.audit(
                _CHECKED,
                target=Target("database"),
                success=not found.errors,
                errors=list(found.errors[:5]),
            )
        return found, took

    def _since(self, begun: float) -> int:
        return round((self._clock.monotonic() - begun) * 1000)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._one.acquire(blocking=False):
            raise Conflict(
                "The database is being optimised or checked already.",
                hint="Wait for the first request to end.",
            )
        try:
            yield
        finally:
            self._one.release()


def _last(reader: Reader, action: str) -> datetime | None:
    for row in reader.audit_log.stream(AuditQuery(actions=(action,)), limit=1):
        return row.timestamp
    return None
