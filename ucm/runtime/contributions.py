"""What one plugin brings, after the host has checked it; and what all running plugins bring
together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any

from sqlalchemy.orm import DeclarativeBase

from ucm.api.contributions import (
    AuditAction,
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
from ucm.api.events import Event
from ucm.api.issuance import ExtensionKind, ProfileTemplate
from ucm.api.keys import KeyBackend
from ucm.api.lint import Lint
from ucm.api.settings import PluginSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Contributions:
    """Checked results of the collect hooks, one field per hook."""

    settings: type[PluginSettings] | None = None
    migrations: Migrations | None = None
    models: tuple[type[DeclarativeBase], ...] = ()
    permissions: tuple[Permission, ...] = ()
    audit_actions: tuple[AuditAction, ...] = ()
    event_types: tuple[type[Event], ...] = ()
    cli_commands: tuple[CliCommand, ...] = ()
    hookspecs: tuple[ModuleType, ...] = ()
    routes: tuple[Routes, ...] = ()
    protocols: tuple[ProtocolInfo, ...] = ()
    error_renderers: tuple[ErrorRenderer, ...] = ()
    jobs: tuple[Job, ...] = ()
    key_backends: tuple[KeyBackend, ...] = ()
    profiles: tuple[ProfileTemplate, ...] = ()
    lints: tuple[Lint, ...] = ()
    extensions: tuple[ExtensionKind, ...] = ()
    health_checks: tuple[HealthCheck, ...] = ()
    metrics: tuple[Metric, ...] = ()


def merged(parts: Iterable[Contributions]) -> Contributions:
    """Tuples joined in order; the single-valued fields (settings, migrations) stay empty."""
    parts = list(parts)
    together: dict[str, Any] = {}
    for item in fields(Contributions):
        if item.name in ("settings", "migrations"):
            continue
        together[item.name] = tuple(value for part in parts for value in getattr(part, item.name))
    return Contributions(**together)
