"""What plugins return from collect hooks: frozen records, checked by the host before use."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response

from ucm.api.errors import UcmError

if TYPE_CHECKING:
    from ucm.api.services import JobRun, PluginContext


class Auth(enum.Enum):
    """How callers of a blueprint are identified."""

    SESSION_OR_KEY = "session-or-key"
    """UCM users: session cookie or ``X-API-Key``; every view declares a permission."""
    PROTOCOL = "protocol"
    """The protocol authenticates by itself (JWS, CMS, client certificate); views are marked public.
    """
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Routes:
    """A blueprint with its place.
    ``csrf`` is ignored for protocols; ``plain_http`` also serves it on the http port.
    """

    blueprint: Blueprint
    prefix: str
    auth: Auth = Auth.SESSION_OR_KEY
    csrf: bool = True
    plain_http: bool = False


@dataclass(frozen=True, slots=True)
class Permission:
    """``action:namespace`` and the roles that hold it by default (admin always does)."""

    name: str
    title: str
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AuditAction:
    """An audit action the owner may write; writing an undeclared one raises ``LookupError``."""

    name: str
    title: str
    category: str


@dataclass(frozen=True, slots=True)
class Migrations:
    """The owner's Alembic revisions: the import name of the package that holds them."""

    package: str


class Overlap(enum.Enum):
    """What happens when a run is due while the previous one is still going."""

    SKIP = "skip"
    QUEUE = "queue"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A scheduled job. Restartable: it may be killed at any point and run again.

    ``every`` or ``cron`` (five fields, UTC). The host leases each run, so that two workers never
    run one twice, and pauses a job after ``max_failures`` failures in a row.
    """

    id: str
    title: str
    run: Callable[[PluginContext, JobRun], None]
    every: timedelta | None = None
    cron: str | None = None
    max_runtime: timedelta = timedelta(minutes=10)
    overlap: Overlap = Overlap.SKIP
    max_failures: int = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtocolInfo:
    """An enrolment protocol: its origin kind, its standard, and how a test drives one issuance
    through it.

    ``rehearse`` builds the ``IssuanceRequest`` that this protocol would make for a CSR; the
    architecture test sends it through a denying guard, a failing lint and an offline CA and expects
    refusal each time.
    """

    id: str
    title: str
    standard: str
    rehearse: Callable[[int, bytes], Any]
    url: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True)
class ErrorRenderer:
    """How a ``UcmError`` looks below one url prefix (ACME problem types, SCEP failInfo)."""

    prefix: str
    render: Callable[[UcmError], Response]


@dataclass(frozen=True, slots=True)
class HealthResult:
    """Outcome of a health check."""

    ok: bool
    detail: str = ""
    data: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthCheck:
    """A named, time-limited check; with ``readiness`` a failure takes the node out of rotation."""

    name: str
    check: Callable[[], HealthResult]
    readiness: bool = False
    timeout: timedelta = timedelta(seconds=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A gauge or counter read at scrape time; the name starts with ``ucm_<plugin>_``.

    ``read`` returns samples: label values (in the order of ``labels``) to number.
    """

    name: str
    help: str
    read: Callable[[], Mapping[tuple[str, ...], float]]
    labels: tuple[str, ...] = ()
    counter: bool = False


@dataclass(frozen=True, slots=True)
class CliCommand:
    """``ucm <plugin> <name>``: ``target`` is ``module:click_command``, imported only when the
    command runs.
    """

    name: str
    help: str
    target: str


@dataclass(frozen=True, slots=True)
class Blocker:
    """A reason why a plugin's data must not be dropped."""

    detail: str
