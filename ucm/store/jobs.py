"""Scheduled jobs: what is due, who runs it, how it went.

A lease is compare-and-set: of several workers one gets it. ``fence`` grows with every lease, so a
worker that lost its lease (paused, slow) can be told from the one that took over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, delete, insert, or_, select, update

from ucm.api.errors import Conflict, NotFound
from ucm.store import tables
from ucm.store.scope import Repository
from ucm.store.upsert import upsert

_t = tables.job.c
_lease = tables.job_lease.c
_run = tables.job_run.c
RUNNING, SUCCEEDED, FAILED, ABANDONED = "running", "succeeded", "failed", "abandoned"
"""Values of ``JobRunRow.status``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRow:
    """A job. ``failures`` in a row, ``failure_count`` in all; ``holder`` has the lease now."""

    id: str
    owner: str
    title: str
    schedule: str
    paused: bool
    pause_reason: str
    failures: int
    next_run_at: datetime | None
    requested_at: datetime | None
    last_run_at: datetime | None
    last_duration_ms: int | None
    last_error: str
    run_count: int
    failure_count: int
    holder: str | None
    lease_expires_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRunRow:
    """One run."""

    id: int
    job_id: str
    fence: int
    worker: str
    status: str
    progress: str
    error: str
    started_at: datetime
    finished_at: datetime | None
    duration_ms: int | None


class JobRepository(Repository):
    """Jobs."""

    def ensure(self, job_id: str, *, owner: str, title: str, schedule: str) -> None:
        """Make the job known, or take over its new title and schedule."""
        values = {"owner": owner, "title": title, "schedule": schedule}
        upsert(self._connection, tables.job, key={"id": job_id}, values=values)
        lease = self._execute(select(_lease.fence).where(_lease.job_id == job_id)).first()
        if lease is None:
            upsert(self._connection, tables.job_lease, key={"job_id": job_id}, values={"fence": 0})

    def get(self, job_id: str) -> JobRow:
        """Raises ``NotFound``."""
        row = self._execute(_SELECT.where(_t.id == job_id)).first()
        if row is None:
            raise NotFound(f"There is no job with the id {job_id}.")
        return _view(row)

    def all(self) -> list[JobRow]:
        """Every job that was ever known, by id."""
        return [_view(row) for row in self._execute(_SELECT.order_by(_t.id))]

    def forget(self, job_id: str) -> None:
        """Remove a job with its runs."""
        self._execute(delete(tables.job_run).where(_run.job_id == job_id))
        self._execute(delete(tables.job_lease).where(_lease.job_id == job_id))
        self._execute(delete(tables.job).where(_t.id == job_id))

    # --- leases -----------------------------------------------------------------------------------

    def acquire(
        self, job_id: str, *, holder: str, now: datetime, expires_at: datetime
    ) -> int | None:
        """The lease's fence, or ``None`` while another holder's lease is good."""
        free = or_(_lease.holder.is_(None), _lease.expires_at <= now, _lease.expires_at.is_(None))
        return self._execute(
            update(tables.job_lease)
            .where(_lease.job_id == job_id, free)
            .values(holder=holder, expires_at=expires_at, fence=_lease.fence + 1)
            .returning(_lease.fence)
        ).scalar_one_or_none()

    def renew(self, job_id: str, *, fence: int, expires_at: datetime) -> bool:
        """Keep the lease longer; false when another took it."""
        result = self._execute(
            update(tables.job_lease).where(self._held(job_id, fence)).values(expires_at=expires_at)
        )
        return bool(result.rowcount)

    def release(self, job_id: str, *, fence: int) -> bool:
        """Give the lease back; false when another took it."""
        result = self._execute(
            update(tables.job_lease)
            .where(self._held(job_id, fence))
            .values(holder=None, expires_at=None)
        )
        return bool(result.rowcount)

    @staticmethod
    def _held(job_id: str, fence: int) -> Any:
        return and_(_lease.job_id == job_id, _lease.fence == fence, _lease.holder.is_not(None))

    # --- runs -------------------------------------------------------------------------------------

    def start_run(self, job_id: str, *, fence: int, worker: str) -> int:
        """Note that a run began; return its id. Earlier runs without an end were abandoned."""
        now = self._scope.clock.now()
        self._execute(
            update(tables.job_run)
            .where(_run.job_id == job_id, _run.status == RUNNING, _run.fence < fence)
            .values(status=ABANDONED, finished_at=now, error="The worker did not finish it.")
        )
        self._execute(
            update(tables.job).where(_t.id == job_id).values(last_run_at=now, requested_at=None)
        )
        values = {
            "job_id": job_id,
            "fence": fence,
            "worker": worker,
            "status": RUNNING,
            "started_at": now,
        }
        return self._insert(insert(tables.job_run), values, unique={})

    def progress(self, run_id: int, *, text: str) -> None:
        """Note how far a run is."""
        self._execute(update(tables.job_run).where(_run.id == run_id).values(progress=text))

    def finish_run(self, run_id: int, *, duration_ms: int, error: str | None = None) -> JobRow:
        """Note how a run ended; ``error`` is ``None`` when it succeeded.

        Raises ``Conflict`` when another worker has taken over meanwhile.
        """
        result = self._execute(
            update(tables.job_run)
            .where(_run.id == run_id, _run.status == RUNNING)
            .values(
                status=SUCCEEDED if error is None else FAILED,
                error=error or "",
                finished_at=self._scope.clock.now(),
                duration_ms=duration_ms,
            )
            .returning(_run.job_id)
        ).first()
        if result is None:
            raise Conflict("The run was taken over by another worker.")
        failed = 0 if error is None else 1
        self._execute(
            update(tables.job)
            .where(_t.id == result.job_id)
            .values(
                last_duration_ms=duration_ms,
                last_error=error or "",
                run_count=_t.run_count + 1,
                failure_count=_t.failure_count + failed,
                failures=_t.failures + 1 if failed else 0,
            )
        )
        return self.get(result.job_id)

    def runs(self, job_id: str | None = None, *, limit: int = 20) -> list[JobRunRow]:
        """Newest first."""
        statement = select(tables.job_run).order_by(_run.id.desc()).limit(limit)
        if job_id is not None:
            statement = statement.where(_run.job_id == job_id)
        return [JobRunRow(**row._mapping) for row in self._execute(statement)]

    def delete_runs(self, *, before: datetime) -> int:
        """Remove finished runs that began before a time; return how many."""
        statement = delete(tables.job_run).where(
            _run.started_at < before, _run.finished_at.is_not(None)
        )
        return self._execute(statement).rowcount

    # --- what people want -------------------------------------------------------------------------

    def request_run(self, job_id: str) -> None:
        """Run it as soon as a worker looks. Raises ``NotFound``."""
        self._change(job_id, requested_at=self._scope.clock.now())

    def schedule_next(self, job_id: str, *, at: datetime | None) -> None:
        """Say when it is due next. Raises ``NotFound``."""
        self._change(job_id, next_run_at=at)

    def pause(self, job_id: str, *, reason: str) -> None:
        """Do not run it until it is resumed. Raises ``NotFound``."""
        self._change(job_id, paused=True, pause_reason=reason)

    def resume(self, job_id: str) -> None:
        """Run it again. Raises ``NotFound``."""
        self._change(job_id, paused=False, pause_reason="", failures=0)

    def _change(self, job_id: str, **values: Any) -> None:
        if self._execute(update(tables.job).where(_t.id == job_id).values(**values)).rowcount == 0:
            raise NotFound(f"There is no job with the id {job_id}.")


_SELECT = select(
    *tables.job.columns, _lease.holder, _lease.expires_at.label("lease_expires_at")
).select_from(tables.job.outerjoin(tables.job_lease))


def _view(row: Row[Any]) -> JobRow:
    return JobRow(**row._mapping)
