"""Ask a plugin what it brings, once, and check every record before anybody uses it."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from apscheduler.triggers.cron import CronTrigger
from sqlalchemy.orm import DeclarativeBase

from ucm.api import contributions as api
from ucm.api.events import Event
from ucm.api.issuance import ExtensionKind, ProfileTemplate
from ucm.api.keys import (
    ExportingKeyBackend,
    ImportingKeyBackend,
    KeyBackend,
    KeyCapability,
)
from ucm.api.lint import Lint
from ucm.api.manifest import PluginManifest
from ucm.api.settings import PluginSettings
from ucm.runtime.contributions import Contributions
from ucm.runtime.registry import PluginRefused
from ucm.runtime.routes import Rule, probe, within

Ask = Callable[[str], Any]
"""Calls one hook of one plugin; raises what the plugin raised."""

_PERMISSION = re.compile(r"(read|write|delete|admin):([a-z][a-z0-9_-]*)")
_AUDIT_ACTION = re.compile(r"[a-z][a-z0-9_.]{2,63}")
_METRIC = re.compile(r"[a-z][a-z0-9_]*")
_WORD = re.compile(r"[a-z][a-z0-9_.-]{1,63}")
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")


class Names:
    """Names that must be unique over the core and all plugins, with their owners."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, object], str] = {}

    def claim(self, kind: str, names: Iterable[object], *, owner: str) -> None:
        """Take all names for an owner, or none. Raises ``PluginRefused`` when one is taken."""
        names = list(names)
        fresh: set[object] = set()
        for name in names:
            other = self._owners.get((kind, name))
            if other is not None or name in fresh:
                raise PluginRefused(f"{kind} {name!s} is already taken by {other or owner!r}")
            fresh.add(name)
        self._owners.update({(kind, name): owner for name in names})

    def release(self, owner: str) -> None:
        """Forget everything an owner claimed."""
        self._owners = {key: who for key, who in self._owners.items() if who != owner}

    def of_kind(self, kind: str) -> set[object]:
        """All names of one kind."""
        return {name for known, name in self._owners if known == kind}


def collect_static(ask: Ask, *, manifest: PluginManifest, names: Names) -> Contributions:
    """The collect hooks that need no context. Raises ``PluginRefused``."""
    settings = ask("ucm_settings")
    if settings is not None and not _is_subclass(settings, PluginSettings):
        raise PluginRefused(
            "ucm_settings must return a subclass of PluginSettings, not an instance"
        )
    migrations = ask("ucm_migrations")
    if migrations is not None and not isinstance(migrations, api.Migrations):
        raise PluginRefused("ucm_migrations must return Migrations(package)")
    result = Contributions(
        settings=settings,
        migrations=migrations,
        models=_many(ask, "ucm_models", DeclarativeBase, classes=True),
        permissions=_many(ask, "ucm_permissions", api.Permission),
        audit_actions=_many(ask, "ucm_audit_actions", api.AuditAction),
        event_types=_many(ask, "ucm_event_types", Event, classes=True),
        cli_commands=_many(ask, "ucm_cli_commands", api.CliCommand),
        hookspecs=_many(ask, "ucm_hookspecs", ModuleType),
    )
    _check_storage(result, manifest=manifest)
    _check_vocabulary(result, manifest=manifest)
    owner = manifest.name
    names.claim("table prefix", [manifest.table_prefix], owner=owner)
    names.claim("permission", [item.name for item in result.permissions], owner=owner)
    names.claim("audit action", [item.name for item in result.audit_actions], owner=owner)
    names.claim("event", [item.name for item in result.event_types], owner=owner)
    return result


def collect_with_context(
    ask: Ask, *, manifest: PluginManifest, names: Names, static: Contributions
) -> Contributions:
    """The collect hooks that get the context; ``static`` comes back with their results added."""
    result = dataclasses.replace(
        static,
        routes=_many(ask, "ucm_routes", api.Routes),
        protocols=_many(ask, "ucm_protocols", api.ProtocolInfo),
        error_renderers=_many(ask, "ucm_error_renderers", api.ErrorRenderer),
        jobs=_many(ask, "ucm_jobs", api.Job),
        key_backends=_many(ask, "ucm_key_backends", KeyBackend),
        profiles=_many(ask, "ucm_profiles", ProfileTemplate),
        lints=_many(ask, "ucm_lints", Lint),
        extensions=_many(ask, "ucm_extensions", ExtensionKind),
        health_checks=_many(ask, "ucm_health_checks", api.HealthCheck),
        metrics=_many(ask, "ucm_metrics", api.Metric),
    )
    for item in result.jobs:
        check_job(item, owner=manifest.name)
    for backend in result.key_backends:
        _check_backend(backend)
    _check_observation(result, manifest=manifest)
    for renderer in result.error_renderers:
        if not any(within(renderer.prefix, prefix) for prefix in manifest.url_prefixes):
            raise PluginRefused(
                f"error renderer for {renderer.prefix!r} is outside the manifest's url_prefixes"
            )
    rules = _check_routes(result, manifest=manifest, names=names)
    owner = manifest.name
    claims: Mapping[str, Iterable[object]] = {
        "route": rules,
        "protocol": [item.id for item in result.protocols],
        "job": [item.id for item in result.jobs],
        "key backend": [item.kind for item in result.key_backends],
        "profile": [item.profile.name for item in result.profiles],
        "lint": [item.name for item in result.lints],
        "extension": [item.oid for item in result.extensions],
        "health check": [f"{owner}.{item.name}" for item in result.health_checks],
        "metric": [item.name for item in result.metrics],
    }
    for kind, claimed in claims.items():
        names.claim(kind, claimed, owner=owner)
    return result


def _many(ask: Ask, hook: str, expected: type, *, classes: bool = False) -> tuple[Any, ...]:
    answer = ask(hook)
    if answer is None:
        return ()
    if isinstance(answer, (str, bytes, Mapping)) or not isinstance(answer, Iterable):
        raise PluginRefused(f"{hook} must return an iterable of {expected.__name__} or None")
    items = tuple(answer)
    for item in items:
        fits = _is_subclass(item, expected) if classes else isinstance(item, expected)
        if not fits:
            what = "subclasses of " if classes else ""
            raise PluginRefused(
                f"{hook} must return {what}{expected.__name__}, not {type(item).__name__}"
            )
    return items


def _is_subclass(item: object, expected: type) -> bool:
    return isinstance(item, type) and issubclass(item, expected) and item is not expected


def _check_storage(result: Contributions, *, manifest: PluginManifest) -> None:
    for base in result.models:
        prefix = getattr(base, "table_prefix", None)
        if prefix != manifest.table_prefix:
            raise PluginRefused(
                f"{base.__name__} has table prefix {prefix!r}, the manifest says "
                f"{manifest.table_prefix!r}; make it with plugin_base({manifest.table_prefix!r})"
            )
    if result.models and result.migrations is None:
        raise PluginRefused("ucm_models without ucm_migrations: the tables would never be made")
    if result.migrations is not None and not _package_exists(result.migrations.package):
        raise PluginRefused(
            f"ucm_migrations names the package {result.migrations.package!r}, which does not exist"
        )


def _package_exists(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.submodule_search_locations is not None


def _check_vocabulary(result: Contributions, *, manifest: PluginManifest) -> None:
    for permission in result.permissions:
        match = _PERMISSION.fullmatch(permission.name)
        if match is None:
            raise PluginRefused(
                f"permission {permission.name!r} must be read, write, delete or admin, a colon and "
                "the namespace"
            )
        if match.group(2) != manifest.permission_namespace:
            raise PluginRefused(
                f"permission {permission.name!r} is outside the manifest's permission_namespace "
                f"{manifest.permission_namespace!r}"
            )
    for action in result.audit_actions:
        if not _AUDIT_ACTION.fullmatch(action.name):
            raise PluginRefused(
                f"audit action {action.name!r} must be lower-case words joined by _"
            )
    for event in result.event_types:
        parameters = vars(event).get("__dataclass_params__")
        if parameters is None or not parameters.frozen:
            raise PluginRefused(f"event {event.__name__} must be a frozen dataclass")
        if not event.name.startswith(f"{manifest.name}."):
            raise PluginRefused(
                f"event {event.__name__} is named {event.name!r}; it must start with "
                f"'{manifest.name}.'"
            )
    for command in result.cli_commands:
        module, _, attribute = command.target.partition(":")
        if not module or not attribute.isidentifier():
            raise PluginRefused(f"command {command.name!r}: target must be 'module:click_command'")


def check_job(job: api.Job, *, owner: str) -> None:
    """Raises ``PluginRefused`` for a job with a foreign id, a wrong schedule or bounds that make no
    sense.
    """
    if not job.id.startswith(f"{owner}.") or not _WORD.fullmatch(job.id):
        raise PluginRefused(f"job id {job.id!r} must be '{owner}.' and lower-case words")
    if (job.every is None) == (job.cron is None):
        raise PluginRefused(f"job {job.id}: give either every or cron")
    if job.every is not None and job.every.total_seconds() < 1:
        raise PluginRefused(f"job {job.id}: every must be at least one second")
    if job.cron is not None:
        try:
            CronTrigger.from_crontab(job.cron, timezone="UTC")
        except ValueError as error:
            raise PluginRefused(f"job {job.id}: cron {job.cron!r}: {error}") from None
    if job.max_runtime.total_seconds() < 1 or job.max_failures < 1:
        raise PluginRefused(f"job {job.id}: max_runtime and max_failures must be positive")


def _check_backend(backend: KeyBackend) -> None:
    kind = backend.kind
    if not _WORD.fullmatch(kind):
        raise PluginRefused(f"key backend kind {kind!r} must be a lower-case word")
    if KeyCapability.SIGN not in backend.capabilities:
        raise PluginRefused(f"key backend {kind} must have the capability SIGN")
    optional: Mapping[KeyCapability, type] = {
        KeyCapability.IMPORT: ImportingKeyBackend,
        KeyCapability.EXPORT: ExportingKeyBackend,
    }
    for capability, protocol in optional.items():
        if capability in backend.capabilities and not isinstance(backend, protocol):
            raise PluginRefused(
                f"key backend {kind} declares {capability.name} and lacks the method of "
                f"{protocol.__name__}"
            )


def _check_observation(result: Contributions, *, manifest: PluginManifest) -> None:
    prefix = f"ucm_{manifest.name}_"
    for metric in result.metrics:
        if not metric.name.startswith(prefix) or not _METRIC.fullmatch(metric.name):
            raise PluginRefused(f"metric {metric.name!r} must start with {prefix!r}")
        if metric.counter and not metric.name.endswith("_total"):
            raise PluginRefused(f"counter {metric.name!r} must end with '_total'")
    for check in result.health_checks:
        if not 0 < check.timeout.total_seconds() <= 30:
            raise PluginRefused(f"health check {check.name}: timeout must be between 0 and 30 s")
    for extension in result.extensions:
        if not _OID.fullmatch(extension.oid):
            raise PluginRefused(f"extension {extension.oid!r} is no dotted OID")
    for lint in result.lints:
        if not _WORD.fullmatch(lint.name):
            raise PluginRefused(f"lint {lint.name!r} must be lower-case words joined by _")


def _check_routes(result: Contributions, *, manifest: PluginManifest, names: Names) -> set[Rule]:
    probed = probe(result.routes, prefixes=manifest.url_prefixes, owner=manifest.name)
    known = {item.name for item in result.permissions} | names.of_kind("permission")
    for permission in sorted(probed.permissions):
        if permission not in known:
            raise PluginRefused(
                f"a route requires {permission!r}, which neither the core nor ucm_permissions "
                "declares"
            )
    return probed.rules
