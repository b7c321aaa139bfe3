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
LEASE = timedelta(seconds=20)
"""How long a killed worker's job waits for another one; a living worker renews its leases."""
RENEW_SECONDS = 5.0
OVERTIME = timedelta(seconds=30)
"""How long a job that ignores its maximum runtime keeps its lease."""
THREADS = 4
_ACTOR = Actor.system("scheduler", kind=ActorKind.JOB)


def schedule_text(job: Job) -> str:
    """The schedule as people read it."""
    if job.every is None:
        return f"cron {job.cron} UTC"
    seconds = int(job.every.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"every {seconds // size} {unit}"
    return f"every {seconds} s"


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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to run a job. ``fence`` grows with every lease; the newest counts."""

    job_id: str
    fence: int
    run_id: int
    started_at: datetime
    at_most_until: datetime

    def renew(self, tx: StoreTransaction, *, now: datetime) -> None:
        """Keep it a while longer. Raises ``Conflict`` when another worker took it."""
        until = min(now + LEASE, self.at_most_until)
        if not tx.jobs.renew(self.job_id, fence=self.fence, expires_at=until):
            raise Conflict(f"Another worker took over {self.job_id}; this run may not write.")


class FencedUnitOfWork:
    """Write units that check within themselves that this run still has its lease."""

    def __init__(self, uow: UnitOfWork, *, lease: Lease, clock: Clock) -> None:
        self._uow = uow
        self._lease = lease
        self._clock = clock

    @contextlib.contextmanager
    def begin(self, actor: Actor) -> Iterator[StoreTransaction]:
        """A write unit. Raises ``Conflict`` when another worker took the lease."""
        with self._uow.begin(actor) as tx:
            # An update, not a look: it orders this unit before or after a take-over.
            self._lease.renew(tx, now=self._clock.now())
            yield tx

    def read(self) -> contextlib.AbstractContextManager[Reader]:
        """A consistent read."""
        return self._uow.read()


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
        self._leases: dict[str, Lease] = {}
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
        with self._lock:
            self._leases[job_id] = lease
        error: BaseException | None = None
        try:
            entry.call(
                self._job_run(entry, lease),
                FencedUnitOfWork(self._uow, lease=lease, clock=self._clock),
            )
        except (Exception, SystemExit) as raised:
            error = raised
        with self._lock:
            del self._leases[job_id]
        self._finish(entry, lease, error=error, seconds=self._clock.monotonic() - started)
        return True

    def renew_leases(self) -> None:
        """Tell that the jobs of this process still run; called every few seconds."""
        with self._lock:
            leases = list(self._leases.values())
        for lease in leases:
            with contextlib.suppress(Conflict), self._uow.begin(_ACTOR) as tx:
                lease.renew(tx, now=self._clock.now())

    def loop(self) -> None:
        """Until ``stop``: once a second, run what is due and keep the leases of what runs."""
        renewed = self._clock.monotonic()

        def look() -> None:
            nonlocal renewed
            for job_id in self.due():
                with self._lock:
                    self._running.add(job_id)
                pool.submit(self._run_one, job_id)
            if self._clock.monotonic() - renewed >= RENEW_SECONDS:
                self.renew_leases()
                renewed = self._clock.monotonic()

        with ThreadPoolExecutor(THREADS, thread_name_prefix="job") as pool:
            keep_doing(look, until=self._stopping, every=POLL_SECONDS)
            # Leaving the block waits for the jobs, which see that they must come to an end.

    def beside(self, call: Callable[[], object], *, name: str) -> threading.Thread:
        """A started thread that repeats a call once a second until ``stop``."""
        thread = threading.Thread(
            target=keep_doing,
            args=(call,),
            kwargs={"until": self._stopping, "every": POLL_SECONDS},
            name=name,
        )
        thread.start()
        return thread

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

    def _lease(self, entry: Scheduled) -> Lease | None:
        job, now = entry.job, self._clock.now()
        try:
            with self._uow.begin(_ACTOR) as tx:
                fence = tx.jobs.acquire(
                    job.id, holder=self._worker, now=now, expires_at=now + LEASE
                )
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
        return Lease(
            job_id=job.id,
            fence=fence,
            run_id=run_id,
            started_at=now,
            at_most_until=now + job.max_runtime + OVERTIME,
        )

    def _job_run(self, entry: Scheduled, lease: Lease) -> JobRun:
        deadline = self._clock.monotonic() + entry.job.max_runtime.total_seconds()

        def stopping() -> bool:
            return self._stopping.is_set() or self._clock.monotonic() >= deadline

        def progress(text: str) -> None:
            with self._uow.begin(_ACTOR) as tx:
                lease.renew(tx, now=self._clock.now())
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
        self, entry: Scheduled, lease: Lease, *, error: BaseException | None, seconds: float
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


def keep_doing(call: Callable[[], object], *, until: threading.Event, every: float) -> None:
    """Repeat a call until the event is set. What it raises is logged, and the next one follows."""
    while not until.is_set():
        try:
            call()
        except Exception:
            log.exception("%s failed and is tried again", threading.current_thread().name)
        until.wait(every)


def _is_due(row: JobRow, *, now: datetime) -> bool:
    if row.requested_at is not None:
        return True  # asked for by hand, paused or not
    return not row.paused and row.next_run_at is not None and row.next_run_at <= now


def _sentence(error: BaseException) -> str:
    if isinstance(error, UcmError):
        return error.detail
    return f"{type(error).__name__}; the server's log says more"
