"""Scheduled jobs: due times in the database, a lease per run, back-off, a pause after failures.

APScheduler's triggers say *when*; the rows say whether. Several workers may run: of each due run
one gets the lease. The lease's fencing number goes into every transaction of the job, so a worker
that was frozen and lost its lease cannot write any more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from apscheduler.triggers.cron import CronTrigger

from ucm.api.actor import Actor, ActorKind
from ucm.api.contributions import Job, Overlap
from ucm.api.errors import Conflict, UcmError
from ucm.api.services import Clock, JobRun
from ucm.store.jobs import JobRow
from ucm.store.uow import Reader, StoreTransaction, UnitOfWork

log = logging.getLogger("ucm.jobs")

POLL_SECONDS = 1.0
LEASE_GRACE = timedelta(seconds=30)
THREADS = 4
_ACTOR = Actor.system("scheduler", kind=ActorKind.JOB)


def schedule_text(job: Job) -> str:
    """The schedule as people read it."""
    return f"every {job.every}" if job.every is not None else f"cron {job.cron} UTC"


def next_run(job: Job, *, after: datetime) -> datetime:
    """The first due time later than ``after``."""
    if job.every is not None:
        return after + job.every
    trigger = CronTrigger.from_crontab(job.cron, timezone="UTC")
    due: datetime | None = trigger.get_next_fire_time(None, after + timedelta(seconds=1))
    if due is None:  # 30 February
        return after + timedelta(days=365)
    return due


def back_off(failures: int) -> timedelta:
    """How long a job rests after the n-th failure in a row: 1, 4, 16, 64 minutes, 4 hours."""
    return timedelta(minutes=min(4 ** (failures - 1), 240))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scheduled:
    """A job with the call that runs it. ``failed`` is told of every error."""

    job: Job
    owner: str
    call: Callable[[JobRun, FencedUnitOfWork], None]
    failed: Callable[[BaseException], None] = lambda error: None


class FencedUnitOfWork:
    """Write units that check within themselves that this run still has its lease."""

    def __init__(self, uow: UnitOfWork, *, job_id: str, fence: int, lease_until: datetime) -> None:
        self._uow = uow
        self._job_id = job_id
        self._fence = fence
        self._lease_until = lease_until

    @contextlib.contextmanager
    def begin(self, actor: Actor) -> Iterator[StoreTransaction]:
        """A write unit. Raises ``Conflict`` when another worker took the lease."""
        with self._uow.begin(actor) as tx:
            # An update, not a look: it orders this unit before or after a take-over.
            held = tx.jobs.renew(self._job_id, fence=self._fence, expires_at=self._lease_until)
            if not held:
                raise Conflict(f"Another worker took over {self._job_id}; this run may not write.")
            yield tx

    def read(self) -> contextlib.AbstractContextManager[Reader]:
        """A consistent read."""
        return self._uow.read()


@dataclasses.dataclass(slots=True)
class _Lease:
    fence: int
    run_id: int
    started_at: datetime
    until: datetime


class _NotDue(Exception):
    """Rolls an acquired lease back."""


class Scheduler:
    """Runs due jobs in a few threads. One per worker process."""

    def __init__(
        self,
        jobs: Iterable[Scheduled],
        *,
        uow: UnitOfWork,
        clock: Clock,
        worker: str,
    ) -> None:
        self._jobs = {entry.job.id: entry for entry in jobs}
        self._uow = uow
        self._clock = clock
        self._worker = worker
        self._stopping = threading.Event()
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Make the jobs known. New ones are due at once (``every``) or at their next time
        (``cron``);
        jobs of plugins that do not run have no due time.
        """
        now = self._clock.now()
        with self._uow.begin(_ACTOR) as tx:
            for job_id, entry in self._jobs.items():
                tx.jobs.ensure(
                    job_id,
                    owner=entry.owner,
                    title=entry.job.title,
                    schedule=schedule_text(entry.job),
                )
            for row in tx.jobs.all():
                known = self._jobs.get(row.id)
                if known is None:
                    if row.next_run_at is not None:
                        tx.jobs.schedule_next(row.id, at=None)
                elif row.next_run_at is None or row.next_run_at > next_run(known.job, after=now):
                    first = now if known.job.every else next_run(known.job, after=now)
                    tx.jobs.schedule_next(row.id, at=first)

    def due(self) -> list[str]:
        """Ids of the jobs that should run now and are not running in this process."""
        now = self._clock.now()
        with self._uow.read() as reader:
            rows = reader.jobs.all()
        return [
            row.id
            for row in rows
            if row.id in self._jobs and row.id not in self._running and _is_due(row, now=now)
        ]

    def run(self, job_id: str) -> bool:
        """Run a job that is due. False when another worker has it or had it a moment ago."""
        entry = self._jobs[job_id]
        lease = self._lease(entry)
        if lease is None:
            return False
        started = self._clock.monotonic()
        error: BaseException | None = None
        try:
            entry.call(
                self._job_run(entry, lease),
                FencedUnitOfWork(
                    self._uow, job_id=job_id, fence=lease.fence, lease_until=lease.until
                ),
            )
        except (Exception, SystemExit) as raised:
            error = raised
        self._finish(entry, lease, error=error, seconds=self._clock.monotonic() - started)
        return True

    def loop(self, *, between: Callable[[], object] = lambda: None) -> None:
        """Until ``stop``: look once a second, run what is due, call ``between``."""
        with ThreadPoolExecutor(THREADS, thread_name_prefix="job") as pool:
            while not self._stopping.is_set():
                try:
                    between()
                    for job_id in self.due():
                        with self._lock:
                            self._running.add(job_id)
                        pool.submit(self._run_one, job_id)
                except Exception:
                    log.exception("the scheduler stumbled and goes on")
                self._stopping.wait(POLL_SECONDS)

    def stop(self) -> None:
        """Start nothing more, and tell running jobs to come to an end."""
        self._stopping.set()

    @property
    def stopping(self) -> Callable[[], bool]:
        """Whether ``stop`` was called."""
        return self._stopping.is_set

    # --- one run -------------------------------------------------------------------------------

    def _run_one(self, job_id: str) -> None:
        try:
            if not self._stopping.is_set():
                self.run(job_id)
        except Exception:
            log.exception("job %s could not be run", job_id)
        finally:
            with self._lock:
                self._running.discard(job_id)

    def _lease(self, entry: Scheduled) -> _Lease | None:
        job, now = entry.job, self._clock.now()
        until = now + job.max_runtime + LEASE_GRACE
        try:
            with self._uow.begin(_ACTOR) as tx:
                fence = tx.jobs.acquire(job.id, holder=self._worker, now=now, expires_at=until)
                row = tx.jobs.get(job.id)  # after the lease: what another worker did is seen now
                if fence is None:
                    if job.overlap is Overlap.SKIP and _is_due(row, now=now):
                        tx.jobs.schedule_next(job.id, at=next_run(job, after=now))
                    return None
                if not _is_due(row, now=now):
                    raise _NotDue
                run_id = tx.jobs.start_run(job.id, fence=fence, worker=self._worker)
                tx.jobs.schedule_next(job.id, at=next_run(job, after=now))
        except _NotDue:
            return None
        return _Lease(fence, run_id, now, until)

    def _job_run(self, entry: Scheduled, lease: _Lease) -> JobRun:
        deadline = self._clock.monotonic() + entry.job.max_runtime.total_seconds()

        def stopping() -> bool:
            return self._stopping.is_set() or self._clock.monotonic() >= deadline

        def progress(text: str) -> None:
            with self._uow.begin(_ACTOR) as tx:
                if not tx.jobs.renew(entry.job.id, fence=lease.fence, expires_at=lease.until):
                    raise Conflict(f"Another worker took over {entry.job.id}.")
                tx.jobs.progress(lease.run_id, text=text[:500])

        return JobRun(
            id=lease.run_id,
            job=entry.job.id,
            fence=lease.fence,
            started_at=lease.started_at,
            stopping=stopping,
            progress=progress,
        )

    def _finish(
        self, entry: Scheduled, lease: _Lease, *, error: BaseException | None, seconds: float
    ) -> None:
        job = entry.job
        if error is not None:
            entry.failed(error)
        try:
            with self._uow.begin(_ACTOR) as tx:
                if not tx.jobs.release(job.id, fence=lease.fence):
                    raise Conflict("another worker took over")
                row = tx.jobs.finish_run(
                    lease.run_id,
                    duration_ms=int(seconds * 1000),
                    error=None if error is None else _sentence(error),
                )
                if error is None:
                    return
                if row.failures >= job.max_failures:
                    tx.jobs.pause(job.id, reason=f"{row.failures} failures in a row")
                else:
                    due = self._clock.now() + back_off(row.failures)
                    tx.jobs.schedule_next(job.id, at=due)
        except Conflict as conflict:
            log.warning("the outcome of %s is not recorded: %s", job.id, conflict.detail)


def _is_due(row: JobRow, *, now: datetime) -> bool:
    if row.requested_at is not None:
        return True  # asked for by hand, paused or not
    return not row.paused and row.next_run_at is not None and row.next_run_at <= now


def _sentence(error: BaseException) -> str:
    if isinstance(error, UcmError):
        return error.detail
    return f"{type(error).__name__}; the server's log says more"
