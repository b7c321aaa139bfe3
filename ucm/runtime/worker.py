"""The worker process: scheduled jobs of the core and the plugins, and delivery of events."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from ucm.api.actor import Actor, ActorKind
from ucm.api.contributions import Job
from ucm.api.services import JobRun, PluginContext, Target
from ucm.issuance.recovery import settle_unfinished
from ucm.runtime.container import Container
from ucm.runtime.outbox import KEEP, OutboxDelivery
from ucm.runtime.registry import Plugin
from ucm.runtime.scheduler import FencedUnitOfWork, Scheduled, Scheduler
from ucm.store.plugin_units import PluginUnitOfWork

log = logging.getLogger("ucm.worker")

KEEP_RUNS = timedelta(days=30)
_ACTOR = Actor.system("scheduler", kind=ActorKind.JOB)

Work = Callable[[Container, JobRun, FencedUnitOfWork], None]


def run_worker(container: Container) -> None:
    """Start the container and work until SIGTERM or SIGINT; the container is closed then. Jobs in
    progress are told to stop and waited for.
    """
    try:
        container.start(role="worker")
        scheduler = make_scheduler(container)
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: scheduler.stop())
        scheduler.prepare()
        # In a thread of its own: a slow subscriber must not keep the leases from being renewed.
        delivery = make_delivery(container)
        beside = scheduler.beside(
            lambda: delivery.deliver(stopping=scheduler.stopping), name="outbox"
        )
        log.info("worker %s is ready", os.getpid())
        scheduler.loop()
        beside.join()
    finally:
        container.close()


def make_delivery(container: Container) -> OutboxDelivery:
    """Delivery of the container's outbox."""
    return OutboxDelivery(
        uow=container.uow,
        dispatcher=container.dispatcher,
        event_type=container.event_type,
        clock=container.clock,
    )


def make_scheduler(container: Container) -> Scheduler:
    """A scheduler of the core's jobs and those of every plugin that runs."""
    jobs = [
        Scheduled(job=job, owner="core", call=partial(work, container))
        for job, work in _core_jobs()
    ]
    for plugin, parts in container.host.owned():
        jobs += [_of_plugin(container, plugin, job) for job in parts.jobs]
    worker = f"{socket.gethostname()}:{os.getpid()}:{container.ids.token(4)}"
    return Scheduler(jobs, uow=container.uow, clock=container.clock, worker=worker)


def _of_plugin(container: Container, plugin: Plugin, job: Job) -> Scheduled:
    def call(run: JobRun, uow: FencedUnitOfWork) -> None:
        if plugin.context is None:
            raise RuntimeError("the plugin is not running")
        job.run(dataclasses.replace(plugin.context, uow=PluginUnitOfWork(uow)), run)

    def failed(error: BaseException) -> None:
        container.dispatcher.fault(plugin, f"job {job.id}", error=error)

    return Scheduled(job=job, owner=plugin.name, call=call, failed=failed)


# --- jobs of the core --------------------------------------------------------------------------


def _recover(container: Container, run: JobRun, uow: FencedUnitOfWork) -> None:
    settled = settle_unfinished(uow=container.uow, clock=container.clock)
    if settled:
        run.progress(f"{settled} issuances that never finished were settled")


def _end_sessions(container: Container, run: JobRun, uow: FencedUnitOfWork) -> None:
    with uow.begin(_ACTOR) as tx:
        tx.sessions.delete_expired(now=container.clock.now())


def _tidy(container: Container, run: JobRun, uow: FencedUnitOfWork) -> None:
    now = container.clock.now()
    days = container.settings.general().audit_retention_days
    with uow.begin(_ACTOR) as tx:
        tx.outbox.delete_delivered(before=now - KEEP)
        tx.jobs.delete_runs(before=now - KEEP_RUNS)
        if days:
            before = now - timedelta(days=days)
            deleted = tx.audit_log.delete_before(before)
            if deleted:
                tx.audit(
                    "audit_cleanup",
                    target=Target("audit"),
                    deleted=deleted,
                    before=before.isoformat(),
                )


def _resume_rotation(container: Container, run: JobRun, uow: FencedUnitOfWork) -> None:
    container.rotation.resume(stopping=run.stopping)


def _unused(ctx: PluginContext, run: JobRun) -> None:
    raise RuntimeError("jobs of the core get the container")


def _core_jobs() -> list[tuple[Job, Work]]:
    def job(name: str, title: str, *, minutes: int, hours: int = 1) -> Job:
        return Job(
            id=f"core.{name}",
            title=title,
            run=_unused,
            every=timedelta(minutes=minutes),
            max_runtime=timedelta(hours=hours),
            max_failures=100,
        )

    return [
        (job("recovery", "Settle issuances that never finished", minutes=1), _recover),
        (job("sessions", "Remove expired sessions", minutes=10), _end_sessions),
        (job("tidy", "Remove old events, job runs and audit rows", minutes=60), _tidy),
        (
            job("rotation", "Finish an interrupted master key rotation", minutes=5, hours=24),
            _resume_rotation,
        ),
    ]
