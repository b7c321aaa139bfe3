"""``/audit``: the trail of what was done and what was refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi3 import Tag
from pydantic import BeforeValidator, Field

from ucm.api.web import current_actor, requires
from ucm.services.audit import EXPORT_LIMIT, AuditService, entry_document
from ucm.store.audit import AuditQuery
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import ok, page_meta
from ucm.web.requests import IdPath, PageQuery, Query
from ucm.web.v2.core_schemas import AuditActionsItem, AuditItem, AuditStatsItem
from ucm.web.v2.schemas import Envelope, ListEnvelope

_TAG = Tag(name="audit", description="Audit log")


def _not_a_number(value: object) -> object:
    """A bare number would be taken for seconds since 1970, which the document does not offer."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]*\.?[0-9]*\s*", value):
        raise ValueError("is a date and time of RFC 3339, like 2030-01-31T18:00:00Z")
    return value


Moment = Annotated[datetime, BeforeValidator(_not_a_number)]


class LogsQuery(PageQuery):
    """Filters of the list; all that are given must match."""

    username: str | None = Field(default=None, max_length=255)
    action: list[str] = Field(default=[], max_length=50, description="Any of these actions")
    category: str | None = Field(default=None, max_length=50)
    resource_type: list[str] = Field(default=[], max_length=50)
    resource_id: str | None = Field(default=None, max_length=64)
    success: bool | None = None
    date_from: Moment | None = None
    date_to: Moment | None = None
    search: str | None = Field(default=None, max_length=255)
    cursor: str | None = Field(
        default=None, max_length=512, description="meta.next_cursor of the page before"
    )


class ExportQuery(Query):
    """What to export."""

    format: Literal["json", "csv"] = "json"
    limit: int = Field(default=10_000, ge=1, le=EXPORT_LIMIT)
    date_from: Moment | None = None
    date_to: Moment | None = None


class DaysQuery(Query):
    """The period."""

    days: int = Field(default=30, ge=1, le=365)


def _utc(moment: datetime | None) -> datetime | None:
    """Times without an offset are read as UTC."""
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)


def blueprint(audit: AuditService) -> APIBlueprint:
    """Routes below ``/api/v2/audit``."""
    api = APIBlueprint("audit", __name__, url_prefix="/api/v2/audit", abp_tags=[_TAG])

    def listed(query: LogsQuery) -> Response:
        page = audit.page(
            AuditQuery(
                usernames=() if query.username is None else (query.username,),
                actions=tuple(query.action),
                resource_types=tuple(query.resource_type),
                resource_id=query.resource_id,
                success=query.success,
                date_from=_utc(query.date_from),
                date_to=_utc(query.date_to),
                search=query.search or "",
                page=query.page,
                per_page=query.per_page,
                after=query.cursor,
            ),
            category=query.category,
        )
        meta = page_meta(page, next_cursor=page.next_cursor)
        return ok([entry_document(row) for row in page.items], meta=meta)

    @api.get(
        "",
        summary="The audit log, newest first (same as /audit/logs)",
        responses={200: ListEnvelope[AuditItem]},
    )
    @requires("read:audit")
    def list_audit(query: LogsQuery) -> Response:
        return listed(query)

    @api.get(
        "/logs", summary="The audit log, newest first", responses={200: ListEnvelope[AuditItem]}
    )
    @requires("read:audit")
    def list_logs(query: LogsQuery) -> Response:
        return listed(query)

    @api.get("/logs/<int:id>", summary="One entry", responses={200: Envelope[AuditItem]})
    @requires("read:audit")
    def get_log(path: IdPath) -> Response:
        return ok(entry_document(audit.get(path.id)))

    @api.get(
        "/actions",
        summary="Actions and categories that occur",
        responses={200: Envelope[AuditActionsItem]},
    )
    @requires("read:audit")
    def list_actions() -> Response:
        actions = audit.actions()
        return ok(
            {
                "actions": [
                    {"name": one.name, "title": one.title, "category": one.category}
                    for one in actions
                ],
                "categories": sorted({one.category for one in actions}),
            }
        )

    @api.get("/stats", summary="Numbers of a period", responses={200: Envelope[AuditStatsItem]})
    @requires("read:audit")
    def get_stats(query: DaysQuery) -> Response:
        numbers, failures = audit.stats(query.days)
        succeeded = numbers.total - numbers.failures
        rate = round(100 * succeeded / numbers.total, 1) if numbers.total else 100.0
        return ok(
            {
                "total_logs": numbers.total,
                "success_count": succeeded,
                "failure_count": numbers.failures,
                "success_rate": rate,
                "top_actions": _ranked(numbers.top_actions, "action"),
                "top_users": _ranked(numbers.top_users, "username"),
                "recent_failures": [entry_document(row) for row in failures],
            }
        )

    @api.get(
        "/export",
        summary="Download the audit log",
        responses={
            "200": {
                "description": "The rows",
                "content": {
                    "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
                    "text/csv": {"schema": {"type": "string"}},
                },
            }
        },
    )
    @requires("read:audit")
    def export(query: ExportQuery) -> Response:
        as_csv = query.format == "csv"
        rows = audit.export(
            AuditQuery(date_from=_utc(query.date_from), date_to=_utc(query.date_to)),
            limit=query.limit,
            as_csv=as_csv,
            actor=current_actor(),
        )
        response = Response(rows, mimetype="text/csv" if as_csv else "application/json")
        response.headers["Content-Disposition"] = f'attachment; filename="audit.{query.format}"'
        return response

    return api


def _ranked(numbers: Any, name: str) -> list[dict[str, Any]]:
    return [{name: key, "count": count} for key, count in numbers.items()]
