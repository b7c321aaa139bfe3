"""``/dashboard``: what happened lately and how the parts of the server are."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import Tag
from pydantic import BaseModel, Field

from ucm.api.web import current_actor, requires
from ucm.services.overview import OverviewService
from ucm.services.status import Level, StatusService
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import ok
from ucm.web.requests import Query
from ucm.web.v2.core_schemas import DashboardItem
from ucm.web.v2.overview import numbers_document
from ucm.web.v2.schemas import Envelope, ListEnvelope

_TAG = Tag(name="dashboard", description="What happened lately")


class ActivityQuery(Query):
    """How many entries."""

    limit: int = Field(20, ge=1, le=100)


class TrendQuery(Query):
    """How many days, today included."""

    days: int = Field(7, ge=1, le=90)


class OverviewItem(DashboardItem):
    """Counters of the moment; shares are of all certificates, in percent."""

    expiring_this_week: int
    inactive_cas: int
    valid_percent: float
    revoked_percent: float


class ActivityItem(BaseModel):
    """One entry of the audit log, without its details."""

    id: int
    timestamp: str
    username: str
    action: str
    resource_type: str
    resource_id: str | None
    resource_name: str
    success: bool


class TrendDay(BaseModel):
    """One UTC day; ``name`` is the day of the week. ``issued`` goes by the beginning of validity,
    ``expired`` leaves out what was revoked before."""

    name: str
    date: str
    issued: int
    revoked: int
    expired: int


class ServiceStatusItem(BaseModel):
    """How one part of the server is."""

    status: Level
    message: str


def blueprint(overview: OverviewService, *, status: StatusService) -> APIBlueprint:
    """Routes below ``/api/v2/dashboard``."""
    api = APIBlueprint("dashboard", __name__, url_prefix="/api/v2/dashboard", abp_tags=[_TAG])

    @api.get(
        "/stats/overview",
        summary="Counters of the moment with shares",
        responses={"200": Envelope[OverviewItem]},
    )
    @requires()
    def stats_overview() -> Response:
        numbers = overview.numbers()
        return ok(
            {
                **numbers_document(numbers),
                "expiring_this_week": numbers.expiring_in_a_week,
                "inactive_cas": numbers.authorities - numbers.active_authorities,
                "valid_percent": _percent(numbers.valid, numbers.certificates),
                "revoked_percent": _percent(numbers.revoked, numbers.certificates),
            }
        )

    @api.get(
        "/activity",
        summary="The newest entries of the audit log; without read:audit only one's own",
        responses={"200": ListEnvelope[ActivityItem]},
    )
    @requires()
    def activity(query: ActivityQuery) -> Response:
        rows = overview.activity(query.limit, actor=current_actor())
        fields = ActivityItem.model_fields
        return ok([{name: getattr(row, name) for name in fields} for row in rows])

    @api.get(
        "/certificate-trend",
        summary="Certificates per day: issued, revoked, expired",
        responses={"200": Envelope[list[TrendDay]]},
    )
    @requires()
    def certificate_trend(query: TrendQuery) -> Response:
        return ok(
            [
                {
                    "name": _WEEKDAYS[day.date.weekday()],
                    "date": day.date.isoformat(),
                    "issued": day.issued,
                    "revoked": day.revoked,
                    "expired": day.expired,
                }
                for day in overview.trend(query.days)
            ]
        )

    @api.get(
        "/system-status",
        summary="How the parts of the server are",
        responses={"200": Envelope[dict[str, ServiceStatusItem]]},
    )
    @requires()
    def system_status() -> Response:
        return ok(
            {one.name: {"status": one.status, "message": one.message} for one in status.services()}
        )

    return api


_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0
