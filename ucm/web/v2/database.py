"""``/system/database`` and ``/database/status``: the database as a whole."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response
from flask_openapi3 import Tag
from pydantic import BaseModel

from ucm.api.web import current_actor, requires
from ucm.services.database import DatabaseService
from ucm.store.maintenance import DatabaseFacts
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import ok
from ucm.web.v2.schemas import Envelope

_TAG = Tag(name="database", description="Size, care and integrity of the database")
_MIB = 1024 * 1024


class DatabaseItem(BaseModel):
    """The database in use. ``location`` is a file, or host and name; it holds no password."""

    dialect: Literal["sqlite", "postgresql"]
    version: str
    location: str
    size_mb: float
    free_mb: float


class DatabaseStatsItem(DatabaseItem):
    """With numbers of objects. Times are ``null`` when the audit log does not tell."""

    counts: dict[str, int]
    last_vacuum: str | None
    last_check: str | None


class OptimizeItem(BaseModel):
    """What was done."""

    size_mb_before: float
    size_mb_after: float
    steps: list[str]
    duration_ms: int


class IntegrityItem(BaseModel):
    """``errors`` holds at most 20 findings of each check."""

    ok: bool
    checks: list[str]
    errors: list[str]
    duration_ms: int


def blueprint(database: DatabaseService) -> APIBlueprint:
    """Routes below ``/api/v2``."""
    api = APIBlueprint("database", __name__, url_prefix="/api/v2", abp_tags=[_TAG])

    @api.get(
        "/database/status",
        summary="Which database is in use",
        responses={"200": Envelope[DatabaseItem]},
    )
    @requires("read:settings")
    def status() -> Response:
        return ok(_document(database.status()))

    @api.get(
        "/system/database/stats",
        summary="Size and numbers of objects",
        responses={"200": Envelope[DatabaseStatsItem]},
    )
    @requires("read:settings")
    def stats() -> Response:
        found = database.stats()
        return ok(
            {
                **_document(found.facts),
                "counts": dict(found.facts.counts),
                "last_vacuum": found.last_optimized,
                "last_check": found.last_checked,
            }
        )

    @api.post(
        "/system/database/optimize",
        summary="Compact the database",
        description="SQLite rewrites its file when a tenth of it is empty; writers wait meanwhile,"
        " about a second for each 80 MB. PostgreSQL gathers statistics.",
        responses={"200": Envelope[OptimizeItem]},
    )
    @requires("admin:system")
    def optimize() -> Response:
        done, took = database.optimize(actor=current_actor())
        return ok(
            {
                "size_mb_before": _megabytes(done.size_before),
                "size_mb_after": _megabytes(done.size_after),
                "steps": list(done.steps),
                "duration_ms": took,
            },
            message="Database optimised",
        )

    @api.post(
        "/system/database/integrity-check",
        summary="Check the database against itself",
        description="Reads everything, beside readers and writers.",
        responses={"200": Envelope[IntegrityItem]},
    )
    @requires("admin:system")
    def check() -> Response:
        found, took = database.check(actor=current_actor())
        sound = not found.errors
        return ok(
            {
                "ok": sound,
                "checks": list(found.checks),
                "errors": list(found.errors),
                "duration_ms": took,
            },
            message="The database is sound" if sound else "The database is damaged",
        )

    return api


def _megabytes(size: int) -> float:
    return round(size / _MIB, 2)


def _document(facts: DatabaseFacts) -> dict[str, Any]:
    return {
        "dialect": facts.dialect,
        "version": facts.version,
        "location": facts.place,
        "size_mb": _megabytes(facts.size),
        "free_mb": _megabytes(facts.free),
    }
