"""What the host finds: a table of contents of the plugin."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from sqlalchemy.orm import DeclarativeBase

from ucm.api import (
    Actor,
    ActorKind,
    AuditAction,
    CliCommand,
    HealthCheck,
    HealthResult,
    Job,
    JobRun,
    Metric,
    Migrations,
    Permission,
    PluginContext,
    PluginManifest,
    PluginSettings,
    Routes,
    Stability,
    hookimpl,
)
from ucm.api.events import Event
from ucm.api.issuance import CertificateDraft, Denial, Operation
from ucm.api.keys import KeyBackend
from ucm.api.lint import Lint, LintFinding, Severity
from ucm.api.views import CaView
from ucm_demo.backend import FileKeyBackend
from ucm_demo.events import NameDenied
from ucm_demo.models import Base
from ucm_demo.names import DeniedNames
from ucm_demo.routes import PREFIX, blueprint
from ucm_demo.settings import DemoSettings

MANIFEST = PluginManifest(
    name="demo",
    title="Demo",
    summary="Names that are never certified, and keys in files.",
    api=">=1.0,<2",
    table_prefix="demo_",
    url_prefixes=(PREFIX,),
    permission_namespace="demo",
    needs_core_schema="core_0001",
    guards=frozenset({Operation.ISSUE}),
    docs="README.md",
    stability=Stability.EXPERIMENTAL,
)
JOB = Actor.system("demo", kind=ActorKind.JOB)


class DemoPlugin:
    """The plugin object behind the entry point. Hooks run once, at start, unless they say
    otherwise.
    """

    manifest = MANIFEST

    def __init__(self) -> None:
        self._names: DeniedNames | None = None

    # --- collected without a context ------------------------------------------------------------

    @hookimpl
    def ucm_settings(self) -> type[PluginSettings] | None:
        """The settings class."""
        return DemoSettings

    @hookimpl
    def ucm_models(self) -> Iterable[type[DeclarativeBase]] | None:
        """The tables."""
        return [Base]

    @hookimpl
    def ucm_migrations(self) -> Migrations | None:
        """Where the revisions are."""
        return Migrations("ucm_demo.migrations")

    @hookimpl
    def ucm_permissions(self) -> Iterable[Permission] | None:
        """Who may see and change the list."""
        return [
            Permission("read:demo", "See denied names", frozenset({"operator", "auditor"})),
            Permission("write:demo", "Deny names", frozenset({"operator"})),
            Permission("delete:demo", "Allow names again"),
        ]

    @hookimpl
    def ucm_audit_actions(self) -> Iterable[AuditAction] | None:
        """What the plugin writes into the audit log."""
        return [
            AuditAction("demo_name_denied", "Name denied", "demo"),
            AuditAction("demo_name_allowed", "Name allowed again", "demo"),
            AuditAction("demo_names_expired", "Expired denied names removed", "demo"),
        ]

    @hookimpl
    def ucm_event_types(self) -> Iterable[type[Event]] | None:
        """What the plugin tells others."""
        return [NameDenied]

    @hookimpl
    def ucm_cli_commands(self) -> Iterable[CliCommand] | None:
        """``ucm demo denied-names``."""
        return [CliCommand("denied-names", "Print the denied names.", "ucm_demo.cli:denied_names")]

    # --- collected with the context -------------------------------------------------------------

    @hookimpl
    def ucm_routes(self, ctx: PluginContext) -> Iterable[Routes] | None:
        """``/api/v2/demo``."""
        return [Routes(blueprint=blueprint(DeniedNames(ctx)), prefix=PREFIX)]

    @hookimpl
    def ucm_key_backends(self, ctx: PluginContext) -> Iterable[KeyBackend] | None:
        """Keys in files."""
        return [
            FileKeyBackend(sealer=ctx.sealer, ids=ctx.ids, directory=lambda: _key_directory(ctx))
        ]

    @hookimpl
    def ucm_jobs(self, ctx: PluginContext) -> Iterable[Job] | None:
        """Once a day, old entries go."""
        return [
            Job(
                id="demo.expire",
                title="Remove expired denied names",
                run=_expire,
                cron="15 3 * * *",
            )
        ]

    @hookimpl
    def ucm_lints(self, ctx: PluginContext) -> Iterable[Lint] | None:
        """Runs on every certificate before it is signed."""
        return [Lint("demo_short_wildcards", "ucm-plugin-demo", _check_wildcards)]

    @hookimpl
    def ucm_health_checks(self, ctx: PluginContext) -> Iterable[HealthCheck] | None:
        """Whether the key directory can be used."""
        return [HealthCheck(name="key-directory", check=lambda: _check_directory(ctx))]

    @hookimpl
    def ucm_metrics(self, ctx: PluginContext) -> Iterable[Metric] | None:
        """How long the list is."""
        names = DeniedNames(ctx)
        return [
            Metric(
                name="ucm_demo_denied_names",
                help="Denied names.",
                read=lambda: {(): float(names.count())},
            )
        ]

    # --- life cycle, and questions during operation -----------------------------------------------

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        """In every process, before it serves."""
        self._names = DeniedNames(ctx)

    @hookimpl
    def ucm_stop(self, ctx: PluginContext) -> None:
        """Nothing stays open."""
        self._names = None

    @hookimpl
    def ucm_check_draft(
        self, draft: CertificateDraft, ca: CaView | None
    ) -> Iterable[Denial] | None:
        """Asked for every certificate, by whichever way it was ordered."""
        if ca is None or self._names is None:
            return None
        names = [name.value for name in draft.names if isinstance(name, x509.DNSName)]
        return [
            Denial(
                code="demo-denied-name",
                detail=f"{name} is on the list of denied names: {entry.reason}",
                hint=f"Ask {entry.created_by} to remove {entry.domain} from the list.",
                pointer="/san",
            )
            for name, entry in self._names.matching(names)
        ]


def _settings(ctx: PluginContext) -> DemoSettings:
    current = ctx.settings()
    if not isinstance(current, DemoSettings):
        raise TypeError("the host gives each plugin its own settings class")
    return current


def _key_directory(ctx: PluginContext) -> Path | None:
    configured = _settings(ctx).key_directory
    return Path(configured) if configured else None


def _expire(ctx: PluginContext, run: JobRun) -> None:
    keep = timedelta(days=_settings(ctx).keep_days)
    removed = DeniedNames(ctx).remove_expired(older_than=keep, actor=JOB)
    run.progress(f"{removed} entries removed")


def _check_wildcards(
    certificate: x509.Certificate, draft: CertificateDraft
) -> Iterable[LintFinding]:
    """A wildcard for a whole top-level domain is never right."""
    for name in draft.names:
        if (
            isinstance(name, x509.DNSName)
            and name.value.startswith("*.")
            and name.value.count(".") < 2
        ):
            yield LintFinding(
                "demo_short_wildcards",
                Severity.ERROR,
                f"{name.value} stands for a whole top-level domain",
                "ucm-plugin-demo",
            )


def _check_directory(ctx: PluginContext) -> HealthResult:
    directory = _key_directory(ctx)
    if directory is None:
        return HealthResult(True, "keys in files are switched off")
    return HealthResult(directory.is_dir(), "" if directory.is_dir() else f"{directory} is missing")
