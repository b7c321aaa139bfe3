"""Scheduled jobs as operators see them; the worker process runs them."""

from __future__ import annotations

from collections.abc import Sequence

from ucm.api.actor import Actor
from ucm.api.services import Target
from ucm.store.jobs import JobRow, JobRunRow
from ucm.store.uow import UnitOfWork


class JobService:
    """Lists jobs, and asks the worker to run one out of turn."""

    def __init__(self, *, uow: UnitOfWork) -> None:
        self._uow = uow

    def all(self) -> Sequence[JobRow]:
        """Every job that a worker made known, by id."""
        with self._uow.read() as reader:
            return reader.jobs.all()

    def runs(self, job_id: str, *, limit: int) -> Sequence[JobRunRow]:
        """The newest runs of a job. Raises ``NotFound``."""
        with self._uow.read() as reader:
            reader.jobs.get(job_id)
            return reader.jobs.runs(job_id, limit=limit)

    def request(self, job_id: str, *, actor: Actor) -> JobRow:
        """Have the worker run the job as soon as it can; a paused job starts again.

        Raises ``NotFound``.
        """
        with self._uow.begin(actor) as tx:
            job = tx.jobs.get(job_id)
            if job.paused:
                tx.jobs.resume(job_id)
            tx.jobs.request_run(job_id)
            tx.audit("scheduler_task_run", target=Target("job", job_id, job.title))
            return tx.jobs.get(job_id)
