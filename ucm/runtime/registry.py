"""Every plugin the host knows of: its state with the reason, and what it contributed."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ucm.api.issuance import Operation
from ucm.api.manifest import PluginManifest
from ucm.api.services import PluginContext
from ucm.runtime.contributions import Contributions
from ucm.runtime.discovery import Candidate


class State(enum.Enum):
    """Where a plugin stands. Only ``RUNNING`` and ``DEGRADED`` plugins are called."""

    DISABLED = "disabled"
    INCOMPATIBLE = "incompatible"
    FAILED = "failed"
    BLOCKED = "blocked"
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    STOPPED = "stopped"


class Step(enum.Enum):
    """A step of the life cycle, in order."""

    DISCOVER = "discover"
    SELECT = "select"
    LOAD = "load"
    VALIDATE = "validate"
    CONTRIBUTE = "contribute"
    SETTINGS = "settings"
    MIGRATE = "migrate"
    START = "start"
    RUN = "run"
    STOP = "stop"


class PluginRefused(Exception):
    """The host refuses what a plugin is or brings; ``str`` is a sentence for the operator and the
    author.
    """

    def __init__(self, reason: str, *, state: State = State.FAILED) -> None:
        super().__init__(reason)
        self.state = state


DEGRADED_SECONDS = 900.0
"""How long a fault at run time keeps a plugin's state at ``degraded``."""


@dataclass(slots=True)
class Faults:
    """Errors at run time, counted by where they happened."""

    counts: dict[str, int] = field(default_factory=dict)
    last: str = ""
    last_at: float | None = None

    def add(self, where: str, *, error: BaseException, now: float) -> None:
        """Count one error; only its type is kept for display, its text may hold secrets."""
        self.counts[where] = self.counts.get(where, 0) + 1
        self.last = f"{type(error).__name__} in {where}"
        self.last_at = now


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook implementation of a plugin, with the arguments it names."""

    call: Callable[..., Any]
    arguments: tuple[str, ...]
    order: int = 0
    """-1 for ``tryfirst``, 1 for ``trylast``; among equals the start order counts."""


@dataclass(slots=True, kw_only=True)
class Plugin:
    """One plugin as the host handles it."""

    candidate: Candidate
    enabled: bool
    required: bool = False
    instance: object | None = None
    manifest: PluginManifest | None = None
    hooks: dict[str, Hook] = field(default_factory=dict, repr=False)
    guards: frozenset[Operation] = frozenset()
    """Of the manifest, or read from the source when the plugin cannot be imported."""
    state: State = State.STARTING
    step: Step = Step.DISCOVER
    reason: str = ""
    error: BaseException | None = field(default=None, repr=False)
    contributions: Contributions = field(default_factory=Contributions)
    context: PluginContext | None = field(default=None, repr=False)
    faults: Faults = field(default_factory=Faults)
    paused_jobs: set[str] = field(default_factory=set)
    started: bool = False

    @property
    def name(self) -> str:
        """Entry-point name."""
        return self.candidate.name

    @property
    def alive(self) -> bool:
        """Still on its way up, or running."""
        return self.state in (State.STARTING, State.RUNNING, State.DEGRADED)

    def fail(
        self,
        step: Step,
        *,
        reason: str,
        error: BaseException | None = None,
        state: State = State.FAILED,
    ) -> None:
        """Take the plugin out, with everything it contributed."""
        self.state, self.step, self.reason, self.error = state, step, reason, error
        self.contributions = Contributions()


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginState:
    """What operators see of one plugin (``GET /api/v2/plugins``, ``ucm plugins list``)."""

    name: str
    title: str
    summary: str
    version: str
    distribution: str
    enabled: bool
    required: bool
    state: str
    step: str
    reason: str
    guards: tuple[str, ...]
    requires: tuple[str, ...]
    url_prefixes: tuple[str, ...]
    api: str
    stability: str
    docs: str
    faults: dict[str, int]


class Registry:
    """The plugins in start order: every one comes after those it requires."""

    def __init__(self) -> None:
        self._plugins: dict[str, Plugin] = {}
        self.shadowed: list[Candidate] = []

    def add(self, plugin: Plugin) -> None:
        """Add a plugin; its name must be new."""
        self._plugins[plugin.name] = plugin

    def __iter__(self) -> Iterator[Plugin]:
        return iter(list(self._plugins.values()))

    def get(self, name: str) -> Plugin | None:
        """The plugin of that name, if it is installed."""
        return self._plugins.get(name)

    def alive(self) -> list[Plugin]:
        """Plugins that have not failed so far, in start order."""
        return [plugin for plugin in self if plugin.alive]

    def reorder(self, names: list[str]) -> None:
        """Put the named plugins first, in this order."""
        rest = [name for name in self._plugins if name not in names]
        self._plugins = {name: self._plugins[name] for name in [*names, *rest]}

    def states(self, *, now: float) -> list[PluginState]:
        """What operators see, by name."""
        states = [_state(plugin, now=now) for plugin in self]
        states += [_shadowed_state(candidate) for candidate in self.shadowed]
        return sorted(states, key=lambda state: (state.name, state.distribution))


def _state(plugin: Plugin, *, now: float) -> PluginState:
    manifest = plugin.manifest
    state, reason = plugin.state, plugin.reason
    if state is State.RUNNING:
        degraded = _why_degraded(plugin, now=now)
        if degraded:
            state, reason = State.DEGRADED, degraded
    return PluginState(
        name=plugin.name,
        title=manifest.title if manifest else plugin.name,
        summary=manifest.summary if manifest else "",
        version=plugin.candidate.version,
        distribution=plugin.candidate.distribution,
        enabled=plugin.enabled,
        required=plugin.required,
        state=state.value,
        step=plugin.step.value,
        reason=reason,
        guards=tuple(sorted(operation.value for operation in plugin.guards)),
        requires=manifest.requires if manifest else (),
        url_prefixes=manifest.url_prefixes if manifest else (),
        api=manifest.api if manifest else "",
        stability=manifest.stability.value if manifest else "",
        docs=manifest.docs if manifest else "",
        faults=dict(plugin.faults.counts),
    )


def _why_degraded(plugin: Plugin, *, now: float) -> str:
    if plugin.paused_jobs:
        names = ", ".join(sorted(plugin.paused_jobs))
        return f"paused after repeated failures: {names}; see its runs, then start it again by hand"
    faults = plugin.faults
    if faults.last_at is not None and now - faults.last_at < DEGRADED_SECONDS:
        total = sum(faults.counts.values())
        return f"{total} errors at run time, the last: {faults.last}; see the log"
    return ""


def _shadowed_state(candidate: Candidate) -> PluginState:
    return PluginState(
        name=candidate.name,
        title=candidate.name,
        summary="",
        version=candidate.version,
        distribution=candidate.distribution,
        enabled=False,
        required=False,
        state=State.FAILED.value,
        step=Step.DISCOVER.value,
        reason=f"distribution {candidate.shadowed_by!r} brings a plugin of the same name, which "
        "is used "
        "instead; uninstall one of them",
        guards=(),
        requires=(),
        url_prefixes=(),
        api="",
        stability="",
        docs="",
        faults={},
    )
