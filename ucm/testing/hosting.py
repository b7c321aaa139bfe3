"""Run plugin objects in a plugin host of a test's own, without a database or a server."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, cast

from ucm.api.manifest import PluginManifest
from ucm.api.services import Clock, PluginContext
from ucm.domain.rbac import Roles
from ucm.runtime.contribute import Names
from ucm.runtime.discovery import Candidate, Wanted
from ucm.runtime.lifecycle import PluginHost
from ucm.runtime.registry import Plugin, PluginState
from ucm.testing.fakes import FakeClock, SequenceIds


def a_manifest(name: str = "probe", **fields: Any) -> PluginManifest:
    """A valid manifest; ``fields`` replace its defaults."""
    values: dict[str, Any] = {
        "name": name,
        "title": name.capitalize(),
        "summary": "A plugin of a test.",
        "api": ">=1.0,<2",
        "table_prefix": f"{name}_",
        "url_prefixes": (f"/{name}",),
        "permission_namespace": name,
    }
    return PluginManifest(**{**values, **fields})


def a_host(
    *plugins: object,
    clock: Clock | None = None,
    enabled: Iterable[str] | None = None,
    strict: bool = False,
) -> PluginHost:
    """A host of plugin objects, not loaded yet. Core permissions are known, nothing else is."""
    candidates = [Candidate.of(name_of(plugin), plugin=plugin) for plugin in plugins]
    names = Names()
    names.claim("permission", Roles().known_permissions(), owner="core")
    chosen = [c.name for c in candidates] if enabled is None else list(enabled)
    return PluginHost(
        candidates,
        wanted=[Wanted(name) for name in chosen],
        clock=clock or FakeClock(),
        names=names,
        strict=strict,
    )


def a_running_host(*plugins: object, clock: Clock | None = None) -> PluginHost:
    """A host with every step done. Contexts hold clock, ids and log; services raise when used."""
    host = a_host(*plugins, clock=clock)
    host.load()
    host.contribute(bare_context)
    host.start()
    return host


def bare_context(plugin: Plugin) -> PluginContext:
    """A context for hooks that need no service of the core."""
    assert plugin.manifest is not None
    absent = cast("Any", _Absent())
    return PluginContext(
        manifest=plugin.manifest,
        settings=lambda: None,
        clock=FakeClock(),
        ids=SequenceIds(),
        log=logging.getLogger(f"ucm.plugin.{plugin.name}"),
        uow=absent,
        issuance=absent,
        certificates=absent,
        cas=absent,
        keys=absent,
        sealer=absent,
        ask_others=absent,
        url_for_public=lambda path: f"https://ca.test{path}",
        url_for_public_http=lambda path: f"http://ca.test{path}",
    )


def name_of(plugin: object) -> str:
    """The name in a plugin's manifest, or ``probe`` for an object that has none."""
    manifest = getattr(plugin, "manifest", None)
    return manifest.name if isinstance(manifest, PluginManifest) else "probe"


def state_of(host: PluginHost, name: str = "probe") -> PluginState:
    """The state of one plugin. Raises ``LookupError``."""
    for state in host.states():
        if state.name == name:
            return state
    raise LookupError(name)


class _Absent:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"this test's plugin context has no services ({name})")
