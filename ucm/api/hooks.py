"""Every hook of API 1.0.

Three kinds. *Collect*: called once at start-up, each plugin separately; an error fails that plugin
only. *Guard*: inside an operation; all answers count, an exception stops the operation. *Observe*:
after the commit, isolated, a few milliseconds at most; ``ucm_deliver_event`` may take longer, it
runs in the worker. Implementations name the arguments and annotations of the specification,
without defaults.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

import pluggy
from sqlalchemy.orm import DeclarativeBase

from ucm.api.actor import Actor
from ucm.api.contributions import (
    AuditAction,
    Blocker,
    CliCommand,
    ErrorRenderer,
    HealthCheck,
    Job,
    Metric,
    Migrations,
    Permission,
    ProtocolInfo,
    Routes,
)
from ucm.api.events import CertificateIssued, CertificateRevoked, Delivery, Event
from ucm.api.issuance import (
    CertificateDraft,
    Denial,
    DraftPatch,
    ExtensionKind,
    Hold,
    IssuanceRequest,
    ProfileTemplate,
    RevocationRequest,
)
from ucm.api.keys import KeyBackend, KeyPurpose, KeyRef
from ucm.api.lint import Lint
from ucm.api.services import PluginContext
from ucm.api.settings import PluginSettings
from ucm.api.views import CaView, CertificateView

hookspec = pluggy.HookspecMarker("ucm")
hookimpl = pluggy.HookimplMarker("ucm")

# --- collect -----------------------------------------------------------------------------------


@hookspec
def ucm_settings() -> type[PluginSettings] | None:
    """The plugin's typed settings class."""


@hookspec
def ucm_models() -> Iterable[type[DeclarativeBase]] | None:
    """Bases made with ``plugin_base(prefix)``; importing them is free of effects."""


@hookspec
def ucm_migrations() -> Migrations | None:
    """Package of the plugin's Alembic revisions; ids ``<name>_0001``, branch label ``<name>``."""


@hookspec
def ucm_permissions() -> Iterable[Permission] | None:
    """Permissions in the plugin's namespace and the roles that hold them by default."""


@hookspec
def ucm_audit_actions() -> Iterable[AuditAction] | None:
    """Audit actions the plugin may write."""


@hookspec
def ucm_event_types() -> Iterable[type[Event]] | None:
    """Event dataclasses the plugin may emit."""


@hookspec
def ucm_routes(ctx: PluginContext) -> Iterable[Routes] | None:
    """Blueprints; every view carries ``requires`` or ``public``."""


@hookspec
def ucm_protocols(ctx: PluginContext) -> Iterable[ProtocolInfo] | None:
    """Enrolment protocols the plugin serves."""


@hookspec
def ucm_error_renderers(ctx: PluginContext) -> Iterable[ErrorRenderer] | None:
    """How errors look below the plugin's url prefixes."""


@hookspec
def ucm_jobs(ctx: PluginContext) -> Iterable[Job] | None:
    """Scheduled jobs."""


@hookspec
def ucm_key_backends(ctx: PluginContext) -> Iterable[KeyBackend] | None:
    """Key stores."""


@hookspec
def ucm_profiles(ctx: PluginContext) -> Iterable[ProfileTemplate] | None:
    """Certificate profiles the plugin needs."""


@hookspec
def ucm_lints(ctx: PluginContext) -> Iterable[Lint] | None:
    """Checks that run on the lint certificate; severity error stops issuance."""


@hookspec
def ucm_extensions(ctx: PluginContext) -> Iterable[ExtensionKind] | None:
    """Extension OIDs the plugin may put into a draft."""


@hookspec
def ucm_health_checks(ctx: PluginContext) -> Iterable[HealthCheck] | None:
    """Named, time-limited checks."""


@hookspec
def ucm_metrics(ctx: PluginContext) -> Iterable[Metric] | None:
    """Gauges and counters under ``ucm_<plugin>_``."""


@hookspec
def ucm_cli_commands() -> Iterable[CliCommand] | None:
    """Commands below ``ucm <plugin>``; listing them imports nothing."""


@hookspec
def ucm_hookspecs() -> Iterable[ModuleType] | None:
    """Modules with hook specifications that this plugin offers to other plugins."""


# --- life cycle --------------------------------------------------------------------------------


@hookspec
def ucm_start(ctx: PluginContext) -> None:
    """After migrations, before serving: open pools and sessions, start threads. Runs in every
    process, after the fork; the collect hooks run before it.
    """


@hookspec
def ucm_stop(ctx: PluginContext) -> None:
    """Release what ``ucm_start`` opened; time-limited."""


@hookspec
def ucm_before_purge(ctx: PluginContext) -> Iterable[Blocker] | None:
    """Reasons why this plugin's data must not be dropped."""


# --- guard -------------------------------------------------------------------------------------


@hookspec
def ucm_before_issue(
    request: IssuanceRequest, actor: Actor, ca: CaView | None
) -> Iterable[Denial | Hold] | None:
    """May this be issued at all? ``ca`` is ``None`` for a self-signed root."""


@hookspec
def ucm_amend_draft(
    draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
) -> DraftPatch | None:
    """Add registered extensions or shorten the validity; names, key, CA flag and issuer stay."""


@hookspec
def ucm_check_draft(
    draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
) -> Iterable[Denial] | None:
    """Last word on the final draft; nothing changes it afterwards."""


@hookspec
def ucm_before_revoke(
    request: RevocationRequest, actor: Actor, certificate: CertificateView
) -> Iterable[Denial] | None:
    """May it be revoked?"""


@hookspec
def ucm_before_key_use(ref: KeyRef, purpose: KeyPurpose, actor: Actor) -> Iterable[Denial] | None:
    """May this key sign now? Asked before every use of a CA key."""


# --- observe -----------------------------------------------------------------------------------


@hookspec
def ucm_after_issue(event: CertificateIssued) -> None:
    """A certificate was stored (renewals and CA certificates included)."""


@hookspec
def ucm_on_revoke(event: CertificateRevoked) -> None:
    """A certificate was revoked or put on hold."""


@hookspec
def ucm_on_event(event: Event) -> None:
    """Every committed event, the two above included."""


@hookspec
def ucm_deliver_event(event: Event, delivery: Delivery) -> None:
    """Every committed event, in the worker, at least once: an error means another attempt later."""
