"""``/system``: scheduled jobs, and the state of the service."""

from __future__ import annotations

import os
import platform
import resource
from datetime import datetime
from typing import Any

from flask import Response
from flask_openapi3 import Tag
from pydantic import Field

import ucm
from ucm.api.services import Clock
from ucm.api.web import current_actor, public, requires
from ucm.services.jobs import JobService
from ucm.store.jobs import JobRow, JobRunRow
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import ok
from ucm.web.requests import Path, Query
from ucm.web.v2.core_schemas import JobItem, JobRunItem, ServiceItem, VersionItem
from ucm.web.v2.schemas import Envelope, ListEnvelope

_TAG = Tag(name="system", description="Jobs and state of the server")
_JOB = r"^[a-z][a-z0-9_.-]{0,99}$"


class JobPath(Path):
    """A job's id."""

    job: str = Field(pattern=_JOB, max_length=100)


class RunsQuery(Query):
    """How many runs."""

    limit: int = Field(default=20, ge=1, le=100)


def job_document(job: JobRow) -> dict[str, Any]:
    """One job."""
    return {
        "id": job.id,
        "name": job.id,
        "label": job.title,
        "owner": job.owner,
        "interval": job.schedule,
        "last_run": job.last_run_at,
        "next_run": job.next_run_at,
        "requested_at": job.requested_at,
        "run_count": job.run_count,
        "failure_count": job.failure_count,
        "last_duration_ms": job.last_duration_ms,
        "last_error": job.last_error or None,
        "paused": job.paused,
        "pause_reason": job.pause_reason or None,
        "running": job.holder is not None,
    }


def run_document(run: JobRunRow) -> dict[str, Any]:
    """One run of a job."""
    return {
        "id": run.id,
        "job": run.job_id,
        "status": run.status,
        "progress": run.progress,
        "error": run.error or None,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "duration_ms": run.duration_ms,
    }


def blueprint(jobs: JobService, *, clock: Clock, started_at: datetime) -> APIBlueprint:
    """Routes below ``/api/v2/system``."""
    api = APIBlueprint("system", __name__, url_prefix="/api/v2/system", abp_tags=[_TAG])

    @api.get("/scheduler", summary="Scheduled jobs", responses={200: ListEnvelope[JobItem]})
    @requires("read:settings")
    def list_jobs() -> Response:
        return ok([job_document(job) for job in jobs.all()])

    @api.get(
        "/scheduler/<string:job>/runs",
        summary="Newest runs of a job",
        responses={200: ListEnvelope[JobRunItem]},
    )
    @requires("read:settings")
    def list_runs(path: JobPath, query: RunsQuery) -> Response:
        return ok([run_document(run) for run in jobs.runs(path.job, limit=query.limit)])

    @api.post(
        "/scheduler/<string:job>/run",
        summary="Run a job as soon as the worker can",
        responses={202: Envelope[JobItem]},
    )
    @requires("admin:system")
    def run_job(path: JobPath) -> Response:
        job = jobs.request(path.job, actor=current_actor())
        return ok(job_document(job), message="The worker will run it", status=202)

    @api.get(
        "/service/status", summary="State of this process", responses={200: Envelope[ServiceItem]}
    )
    @requires("read:settings")
    def service_status() -> Response:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return ok(
            {
                "version": ucm.__version__,
                "pid": os.getpid(),
                "uptime_seconds": int((clock.now() - started_at).total_seconds()),
                "memory_mb": round(usage.ru_maxrss / 1024, 1),
                "python_version": platform.python_version(),
            }
        )

    @api.get(
        "/updates/version", summary="Version of the server", responses={200: Envelope[VersionItem]}
    )
    @public("the version is also in /health")
    def version() -> Response:
        return ok({"version": ucm.__version__})

    return api
