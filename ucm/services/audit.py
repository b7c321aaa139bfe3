"""The audit log: reading it, exporting it, and rows about refusals that change nothing else."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ucm.api.actor import Actor
from ucm.api.contributions import AuditAction
from ucm.api.errors import UcmError
from ucm.api.services import Clock, Target
from ucm.store.audit import AuditQuery, AuditRow, AuditStats
from ucm.store.paging import Page
from ucm.store.uow import UnitOfWork

EXPORT_LIMIT = 50_000
_PATH_SHOWN = 200
_COLUMNS = (
    "id",
    "timestamp",
    "username",
    "action",
    "resource_type",
    "resource_id",
    "resource_name",
    "details",
    "ip_address",
    "user_agent",
    "success",
)
# A spreadsheet runs cells that begin like this (CWE-1236); an apostrophe makes them text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class AuditService:
    """Rows are written by the unit that changes something; this service writes refusals only."""

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        clock: Clock,
        actions: Callable[[], Iterable[AuditAction]],
    ) -> None:
        self._uow = uow
        self._clock = clock
        self._actions = actions

    def page(self, query: AuditQuery, *, category: str | None = None) -> Page[AuditRow]:
        """Rows, newest first. ``category`` narrows to its actions."""
        if category is not None:
            named = {one.name for one in self._actions() if one.category == category}
            wanted = named & set(query.actions) if query.actions else named
            query = replace(query, actions=tuple(sorted(wanted)) or ("",))
        with self._uow.read() as reader:
            return reader.audit_log.page(query)

    def get(self, entry_id: int) -> AuditRow:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            return reader.audit_log.get(entry_id)

    def actions(self) -> list[AuditAction]:
        """Every action that may be written, the plugins' included, by name."""
        return sorted(self._actions(), key=lambda action: action.name)

    def stats(self, days: int) -> tuple[AuditStats, list[AuditRow]]:
        """Numbers of the last days, and the ten newest failures."""
        since = self._clock.now() - timedelta(days=days)
        with self._uow.read() as reader:
            stats = reader.audit_log.stats(since=since)
            failures = reader.audit_log.page(
                AuditQuery(success=False, date_from=since, per_page=10)
            )
        return stats, list(failures.items)

    def export(self, query: AuditQuery, *, limit: int, as_csv: bool, actor: Actor) -> Iterator[str]:
        """The rows as text, piece by piece; that it was exported is itself audited first."""
        with self._uow.begin(actor) as tx:
            tx.audit("audit_exported", target=Target("audit"), limit=limit)
        return self._csv(query, limit) if as_csv else self._json(query, limit)

    def _json(self, query: AuditQuery, limit: int) -> Iterator[str]:
        yield "["
        with self._uow.read() as reader:
            for index, row in enumerate(reader.audit_log.stream(query, limit=limit)):
                yield ("," if index else "") + json.dumps(entry_document(row))
        yield "]"

    def _csv(self, query: AuditQuery, limit: int) -> Iterator[str]:
        line = io.StringIO()
        writer = csv.writer(line)
        writer.writerow(_COLUMNS)
        with self._uow.read() as reader:
            for row in reader.audit_log.stream(query, limit=limit):
                document = entry_document(row)
                document["details"] = json.dumps(document["details"], sort_keys=True)
                writer.writerow([_cell(document[name]) for name in _COLUMNS])
                yield line.getvalue()
                line.seek(0)
                line.truncate()
        yield line.getvalue()

    # --- refusals -------------------------------------------------------------------------------

    def denied(self, actor: Actor, *, missing: Iterable[str], method: str, path: str) -> None:
        """A caller lacked permissions."""
        with self._uow.begin(actor) as tx:
            tx.audit(
                "permission_denied",
                target=Target("route", None, f"{method} {path[:_PATH_SHOWN]}"),
                success=False,
                missing=list(missing),
            )

    def refused(
        self, actor: Actor, *, action: str, target: Target, error: UcmError, request: str
    ) -> None:
        """An operation was refused before anything was stored; the error's own words, no input."""
        with self._uow.begin(actor) as tx:
            tx.audit(
                action,
                target=target,
                success=False,
                request=request[:_PATH_SHOWN],
                error=error.code,
                detail=error.detail,
                fields=[{"pointer": one.pointer, "code": one.code} for one in error.fields],
            )

    def csrf_failed(self, actor: Actor, *, detail: str, method: str, path: str) -> None:
        """A request of a signed-in browser had no valid CSRF token."""
        with self._uow.begin(actor) as tx:
            tx.audit(
                "csrf_failure",
                target=Target("route", None, f"{method} {path[:_PATH_SHOWN]}"),
                success=False,
                reason=detail,
            )


def entry_document(row: AuditRow) -> dict[str, Any]:
    """One row as the API and the export show it."""
    return {
        "id": row.id,
        "timestamp": row.timestamp.isoformat().replace("+00:00", "Z"),
        "username": row.username,
        "action": row.action,
        "resource_type": row.resource_type,
        "resource_id": row.resource_id,
        "resource_name": row.resource_name,
        "details": dict(row.details),
        "ip_address": row.ip_address,
        "user_agent": row.user_agent,
        "success": row.success,
        "prev_hash": row.prev_hash,
        "entry_hash": row.entry_hash,
    }


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
