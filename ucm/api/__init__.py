"""The only surface of UCM that plugins may import."""

from ucm.api.actor import Actor, ActorKind
from ucm.api.contributions import (
    AuditAction,
    Auth,
    Blocker,
    CliCommand,
    ErrorRenderer,
    HealthCheck,
    HealthResult,
    Job,
    Metric,
    Migrations,
    Overlap,
    Permission,
    ProtocolInfo,
    Routes,
)
from ucm.api.hooks import hookimpl, hookspec
from ucm.api.manifest import API_VERSION, PluginManifest, Stability
from ucm.api.services import JobRun, PluginContext, Target
from ucm.api.settings import PluginSettings, Secret

__all__ = [
    "API_VERSION",
    "Actor",
    "ActorKind",
    "AuditAction",
    "Auth",
    "Blocker",
    "CliCommand",
    "ErrorRenderer",
    "HealthCheck",
    "HealthResult",
    "Job",
    "JobRun",
    "Metric",
    "Migrations",
    "Overlap",
    "Permission",
    "PluginContext",
    "PluginManifest",
    "PluginSettings",
    "ProtocolInfo",
    "Routes",
    "Secret",
    "Stability",
    "Target",
    "hookimpl",
    "hookspec",
]
