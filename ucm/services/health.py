"""Is this process alive, and should requests come here: checks with a time limit each."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ucm.api.contributions import HealthCheck, HealthResult
from ucm.api.errors import UcmError
from ucm.api.services import Clock
from ucm.store.uow import UnitOfWork

_log = logging.getLogger("ucm.health")
_CACHE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckOutcome:
    """One check's answer."""

    name: str
    ok: bool
    readiness: bool
    detail: str = ""
    public: bool = False
    """Whether strangers may read ``detail``: what plugins write may name paths and hosts."""
    data: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(slots=True)
class _Running:
    """A plugin's check that may still be on its way; a stuck one is not started again."""

    done: threading.Event
    result: HealthResult | None = None


class HealthService:
    """The core's checks and the plugins', the latter each in a thread of its own.

    Answers are kept for a second, so that a busy load balancer costs nothing.
    """

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        clock: Clock,
        data_dir: Path,
        plugin_checks: Callable[[], Iterable[HealthCheck]],
        isolated: Callable[[Callable[[], HealthResult]], HealthResult | None],
    ) -> None:
        """``isolated`` runs a plugin's check and answers ``None``, logged, when it raises."""
        self._uow = uow
        self._clock = clock
        self._data_dir = data_dir
        self._plugin_checks = plugin_checks
        self._isolated = isolated
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._outcomes: tuple[CheckOutcome, ...] = ()
        self._checked_at = float("-inf")
        self.started_at: datetime = clock.now()

    def checks(self) -> tuple[CheckOutcome, ...]:
        """Every check's answer, at most a second old."""
        with self._lock:
            if self._clock.monotonic() - self._checked_at >= _CACHE_SECONDS:
                self._outcomes = (
                    self._database(),
                    self._filesystem(),
                    *(self._plugin(check) for check in self._plugin_checks()),
                )
                self._checked_at = self._clock.monotonic()
            return self._outcomes

    def ready(self) -> bool:
        """Whether every check that decides about readiness passes."""
        return all(outcome.ok for outcome in self.checks() if outcome.readiness)

    def _database(self) -> CheckOutcome:
        try:
            with self._uow.read() as reader:
                reader.session.execute(text("SELECT 1"))
        except (SQLAlchemyError, UcmError) as error:
            _log.warning("the database does not answer", exc_info=error)
            return CheckOutcome(
                name="database",
                ok=False,
                readiness=True,
                detail="The database does not answer.",
                public=True,
            )
        return CheckOutcome(name="database", ok=True, readiness=True)

    def _filesystem(self) -> CheckOutcome:
        writable = os.access(self._data_dir, os.W_OK | os.X_OK)
        return CheckOutcome(
            name="filesystem",
            ok=writable,
            readiness=True,
            detail="" if writable else "The data directory is not writable.",
            public=True,
        )

    def _plugin(self, check: HealthCheck) -> CheckOutcome:
        running = self._running.get(check.name)
        if running is None:
            running = self._running[check.name] = _Running(threading.Event())
            threading.Thread(
                target=self._run,
                args=(check, running),
                name=f"health-{check.name}",
                daemon=True,
            ).start()
        if not running.done.wait(check.timeout.total_seconds()):
            return CheckOutcome(
                name=check.name,
                ok=False,
                readiness=check.readiness,
                detail=f"No answer within {check.timeout.total_seconds():g} s.",
            )
        del self._running[check.name]
        result = running.result
        if result is None:
            return CheckOutcome(
                name=check.name,
                ok=False,
                readiness=check.readiness,
                detail="The check failed; the log says why.",
            )
        return CheckOutcome(
            name=check.name,
            ok=result.ok,
            readiness=check.readiness,
            detail=result.detail,
            data=result.data,
        )

    def _run(self, check: HealthCheck, running: _Running) -> None:
        running.result = self._isolated(check.check)
        running.done.set()
