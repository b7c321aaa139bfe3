"""The plugin host: discover, select, load, validate, contribute, migrate, start, stop.

Each plugin goes through each step by itself. A failure takes out that plugin, blocks those that
require it, and leaves the core and the others alone; ``strict`` turns it into an exception.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from cryptography import x509

from ucm.api.contributions import ErrorRenderer, HealthCheck, HealthResult, Metric, Routes
from ucm.api.errors import KeyUnavailable, PluginUnavailable, UcmError
from ucm.api.issuance import CertificateDraft
from ucm.api.keys import KeyBackend
from ucm.api.lint import Lint, LintFinding
from ucm.api.services import Clock, PluginContext
from ucm.runtime.boot import BootError
from ucm.runtime.contribute import Names, collect_static, collect_with_context
from ucm.runtime.contributions import Contributions, merged
from ucm.runtime.discovery import Candidate, Wanted, declared, missing_extra
from ucm.runtime.dispatch import Dispatcher, Outcome, isolated
from ucm.runtime.registry import Plugin, PluginRefused, PluginState, Registry, State, Step
from ucm.runtime.routes import check_prefixes, within
from ucm.runtime.validate import manifest_of, new_manager, register

log = logging.getLogger("ucm.plugins")

STOP_SECONDS = 5.0
_REASON_LENGTH = 400


class PluginHost:
    """All plugins of this process. Call the steps in order: ``load``, ``contribute``, ``start``."""

    def __init__(
        self,
        candidates: Iterable[Candidate],
        *,
        wanted: Iterable[Wanted],
        clock: Clock,
        names: Names,
        strict: bool = False,
    ) -> None:
        self.registry = Registry()
        self.dispatcher = Dispatcher(self.registry, clock=clock)
        self._clock = clock
        self._names = names
        self._strict = strict
        self._manager = new_manager()
        self._merged: Contributions | None = None
        self._lints: tuple[Contributions, tuple[Lint, ...]] | None = None
        self.paused_jobs: Callable[[], Mapping[str, set[str]]] = dict
        """Jobs that the worker paused, by plugin; the container points it at the database."""
        chosen = {item.name: item for item in wanted}
        kept: dict[str, Candidate] = {}
        for candidate in candidates:
            if candidate.shadowed_by is not None:
                self.registry.shadowed.append(candidate)
            else:
                kept[candidate.name] = candidate
        for name in [*chosen, *(name for name in kept if name not in chosen)]:
            item = chosen.get(name)
            plugin = Plugin(
                candidate=kept[name],
                enabled=item is not None,
                required=item is not None and item.required,
            )
            if item is None:
                plugin.state, plugin.step = State.DISABLED, Step.SELECT
                plugin.reason = "not in UCM_PLUGINS"
            self.registry.add(plugin)

    # --- steps ---------------------------------------------------------------------------------

    def load(self) -> None:
        """Import the selected plugins, validate them and collect what needs no context."""
        for plugin in self.registry.alive():
            self._attempt(plugin, Step.LOAD, call=partial(self._import, plugin))
        self._order()
        self._block_dependents()
        for plugin in self.registry.alive():
            if not plugin.alive:  # blocked by one that failed a moment ago
                continue
            self._attempt(plugin, Step.VALIDATE, call=partial(self._validate, plugin))
            if plugin.alive:
                self._attempt(plugin, Step.CONTRIBUTE, call=partial(self._collect_static, plugin))
        self.dispatcher.bind()

    def each(self, step: Step, *, call: Callable[[Plugin], object]) -> None:
        """Run one step for every plugin that is alive, in start order."""
        for plugin in self.registry.alive():
            if plugin.alive:
                self._attempt(plugin, step, call=partial(call, plugin))

    def contribute(self, make_context: Callable[[Plugin], PluginContext]) -> None:
        """Collect what needs the context: routes, jobs, key backends, lints and the rest."""
        self.each(Step.CONTRIBUTE, call=partial(self._collect_with_context, make_context))

    def start(self) -> None:
        """Start every plugin. Raises ``BootError`` when a required one (``x!``) does not run."""
        self.each(Step.START, call=self._start)
        self.check_required()

    def check_required(self) -> None:
        """Raises ``BootError`` when a required plugin has failed in any step so far."""
        for plugin in self.registry:
            if plugin.required and not plugin.alive:
                raise BootError(
                    f"UCM_PLUGINS requires {plugin.name!r} (with '!'), which is "
                    f"{plugin.state.value} "
                    f"at step {plugin.step.value}: {plugin.reason}",
                    hint="Repair it, or take the '!' away to start without it.",
                )

    def stop(self) -> None:
        """Stop what was started, in reverse order; each plugin has a few seconds."""
        for plugin in reversed(list(self.registry)):
            self.stop_one(plugin)

    def stop_one(self, plugin: Plugin) -> None:
        """Stop one plugin, if it was started."""
        if not plugin.started:
            return
        plugin.started = False
        outcomes: list[Outcome[Any]] = []
        thread = threading.Thread(
            target=lambda: outcomes.append(
                self.dispatcher.collect(plugin, "ucm_stop", ctx=plugin.context)
            ),
            name=f"stop-{plugin.name}",
            daemon=True,
        )
        thread.start()
        thread.join(STOP_SECONDS)
        if not outcomes:
            log.error("plugin %s did not stop within %.0f s", plugin.name, STOP_SECONDS)
        elif outcomes[0].error is not None:
            log.error("plugin %s failed to stop", plugin.name, exc_info=outcomes[0].error)
        plugin.state, plugin.step = State.STOPPED, Step.STOP
        self._merged = None

    # --- questions -----------------------------------------------------------------------------

    def states(self) -> list[PluginState]:
        """Every installed plugin with its state and reason, by name."""
        paused = self.paused_jobs()
        for plugin in self.registry:
            plugin.paused_jobs = paused.get(plugin.name, set())
        return self.registry.states(now=self._clock.monotonic())

    @property
    def contributions(self) -> Contributions:
        """What the plugins that are up bring together, in start order."""
        if self._merged is None:
            self._merged = merged(plugin.contributions for plugin in self.registry.alive())
        return self._merged

    def owned(self) -> list[tuple[Plugin, Contributions]]:
        """Contributions by plugin, in start order."""
        return [(plugin, plugin.contributions) for plugin in self.registry.alive()]

    def key_backend(self, kind: str) -> KeyBackend:
        """The backend of that kind. Raises ``KeyUnavailable`` when no running plugin brings it."""
        return self._backend_and_owner(kind)[0]

    def owner_of_backend(self, kind: str) -> str:
        """The plugin that brings the backend of that kind. Raises as ``key_backend``."""
        return self._backend_and_owner(kind)[1]

    def owner_of_table(self, table: str) -> str:
        """The running plugin that owns a table. Raises ``KeyUnavailable`` when there is none."""
        prefix = table.partition("_")[0] + "_"
        for plugin in self.registry:
            manifest = plugin.manifest
            if plugin.state is State.RUNNING and manifest and manifest.table_prefix == prefix:
                return plugin.name
        raise KeyUnavailable(
            f"No running plugin owns the table {table!r}.",
            hint="Enable the plugin that made it.",
        )

    def _backend_and_owner(self, kind: str) -> tuple[KeyBackend, str]:
        for plugin in self.registry:
            if plugin.state is not State.RUNNING:
                continue
            for backend in plugin.contributions.key_backends:
                if backend.kind == kind:
                    return backend, plugin.name
        raise KeyUnavailable(
            f"No running plugin offers the key backend {kind!r}.",
            hint="See /api/v2/plugins for the state of the plugin that should; keys stay where "
            "they are.",
        )

    @property
    def routes(self) -> tuple[Routes, ...]:
        """Blueprints of the plugins that are up."""
        return self.contributions.routes

    @property
    def error_renderers(self) -> tuple[ErrorRenderer, ...]:
        """Error renderers of the plugins that are up."""
        return self.contributions.error_renderers

    @property
    def health_checks(self) -> tuple[HealthCheck, ...]:
        """Health checks named ``<plugin>.<check>``; one that raises is unhealthy and counted."""
        return tuple(
            dataclasses.replace(
                check,
                name=f"{plugin.name}.{check.name}",
                check=partial(self._check_health, plugin, check),
            )
            for plugin, parts in self.owned()
            for check in parts.health_checks
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of the plugins that are up; one that raises has no samples and is counted."""
        return tuple(
            dataclasses.replace(metric, read=partial(self._read_metric, plugin, metric))
            for plugin, parts in self.owned()
            for metric in parts.metrics
        )

    def _check_health(self, plugin: Plugin, check: HealthCheck) -> HealthResult:
        outcome = isolated(check.check)
        if isinstance(outcome.value, HealthResult):
            return outcome.value
        error = outcome.error or TypeError("a health check must return a HealthResult")
        self.dispatcher.fault(plugin, f"health check {check.name}", error=error)
        return HealthResult(ok=False, detail="The check failed; the server's log says why.")

    def _read_metric(self, plugin: Plugin, metric: Metric) -> Mapping[tuple[str, ...], float]:
        outcome = isolated(metric.read)
        if outcome.error is None and isinstance(outcome.value, Mapping):
            return outcome.value
        error = outcome.error or TypeError("a metric must return a mapping of labels to numbers")
        self.dispatcher.fault(plugin, f"metric {metric.name}", error=error)
        return {}

    @property
    def lints(self) -> tuple[Lint, ...]:
        """Lints of the plugins that are up; one that raises stops the issuance and is counted."""
        current = self.contributions
        if self._lints is None or self._lints[0] is not current:
            wrapped = tuple(
                dataclasses.replace(lint, check=partial(self._run_lint, plugin, lint))
                for plugin, parts in self.owned()
                for lint in parts.lints
            )
            self._lints = current, wrapped
        return self._lints[1]

    def _run_lint(
        self, plugin: Plugin, lint: Lint, certificate: x509.Certificate, draft: CertificateDraft
    ) -> tuple[LintFinding, ...]:
        outcome = isolated(lambda: tuple(lint.check(certificate, draft)))
        findings, error = outcome.value or (), outcome.error
        if error is None and not all(isinstance(item, LintFinding) for item in findings):
            error = TypeError("a lint must return LintFindings")
        if error is not None:
            self.dispatcher.fault(plugin, f"lint {lint.name}", error=error)
            raise PluginUnavailable(
                f"Lint {lint.name!r} of plugin {plugin.name!r} failed; nothing was signed.",
                hint="The cause is in the server's log; what could not be checked is not signed.",
            ) from error
        return findings

    def request_failed(self, path: str, error: BaseException) -> None:
        """Count an unforeseen error of a view for the plugin that owns the path, if one does."""
        for plugin in self.registry.alive():
            prefixes = plugin.manifest.url_prefixes if plugin.manifest else ()
            if any(within(path, prefix) for prefix in prefixes):
                self.dispatcher.fault(plugin, "request", error=error)

    # --- one plugin ----------------------------------------------------------------------------

    def _import(self, plugin: Plugin) -> None:
        plugin.instance = plugin.candidate.load()
        manifest = manifest_of(plugin.instance, name=plugin.name)
        plugin.manifest, plugin.guards = manifest, manifest.guards

    def _validate(self, plugin: Plugin) -> None:
        assert plugin.manifest is not None and plugin.instance is not None  # noqa: S101 PT018 loaded
        others = [
            (prefix, other.name)
            for other in self.registry.alive()
            if other is not plugin and other.manifest and other.hooks
            for prefix in other.manifest.url_prefixes
        ]
        check_prefixes(plugin.manifest.url_prefixes, others=others)
        plugin.hooks = register(self._manager, plugin.instance, name=plugin.name)

    def _collect_static(self, plugin: Plugin) -> None:
        assert plugin.manifest is not None  # noqa: S101 loaded
        result = collect_static(
            partial(self._ask, plugin), manifest=plugin.manifest, names=self._names
        )
        for module in result.hookspecs:
            self._manager.add_hookspecs(module)
        plugin.contributions = result

    def _collect_with_context(
        self, make_context: Callable[[Plugin], PluginContext], plugin: Plugin
    ) -> None:
        assert plugin.manifest is not None  # noqa: S101 loaded
        plugin.context = make_context(plugin)
        plugin.contributions = collect_with_context(
            partial(self._ask, plugin, ctx=plugin.context),
            manifest=plugin.manifest,
            names=self._names,
            static=plugin.contributions,
        )

    def _start(self, plugin: Plugin) -> None:
        plugin.started = True  # before: one that fails half way may still have something to release
        self._ask(plugin, "ucm_start", ctx=plugin.context)
        plugin.state, plugin.step, plugin.reason = State.RUNNING, Step.RUN, ""

    def _ask(self, plugin: Plugin, hook: str, **values: object) -> Any:
        outcome = self.dispatcher.collect(plugin, hook, **values)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _attempt(self, plugin: Plugin, step: Step, *, call: Callable[[], object]) -> None:
        plugin.step = step
        error = isolated(call).error
        self._merged = None
        if error is None:
            return
        if isinstance(error, BootError):  # the operator's configuration, not the plugin, is wrong
            raise error
        state, reason = self._explain(plugin, error)
        if plugin.manifest is None:
            plugin.guards = declared(plugin.candidate.module).guards
        self._names.release(plugin.name)
        if plugin.hooks:
            self._manager.unregister(plugin.instance)
        plugin.fail(step, reason=reason, error=error, state=state)
        log.error(
            "plugin %s is %s at step %s: %s", plugin.name, state.value, step.value, reason,
            exc_info=None if isinstance(error, PluginRefused) else error,
        )  # fmt: skip
        if self._strict:
            raise error
        self._block_dependents()

    def _explain(self, plugin: Plugin, error: BaseException) -> tuple[State, str]:
        if isinstance(error, PluginRefused):
            return error.state, str(error)
        if isinstance(error, UcmError):
            return State.FAILED, error.detail
        extra = (
            plugin.manifest.extra if plugin.manifest else declared(plugin.candidate.module).extra
        )
        command = missing_extra(error, candidate=plugin.candidate, extra=extra)
        text = f"{type(error).__name__}: {error}".splitlines()[0][:_REASON_LENGTH]
        if command:
            return State.FAILED, f"{text}; its packages are not installed, run: {command}"
        return State.FAILED, text

    # --- order ---------------------------------------------------------------------------------

    def _order(self) -> None:
        """Requirements and ``after`` first; else as selected. Plugins in a circle of requirements
        fail.
        """
        waiting = {plugin.name: plugin for plugin in self.registry.alive()}
        ordered: list[str] = []
        while waiting:
            ready = [name for name, item in waiting.items() if not _before(item) & set(waiting)]
            if not ready:  # `after` is a wish: drop it before failing anybody
                ready = [
                    name for name, item in waiting.items() if not _requires(item) & set(waiting)
                ]
            if not ready:
                circle = ", ".join(sorted(waiting))
                for plugin in waiting.values():
                    plugin.fail(Step.VALIDATE, reason=f"these plugins require each other: {circle}")
                break
            ordered.append(ready[0])
            del waiting[ready[0]]
        self.registry.reorder(ordered)

    def _block_dependents(self) -> None:
        changed = True
        while changed:
            changed = False
            for plugin in self.registry.alive():
                for name in sorted(_requires(plugin)):
                    other = self.registry.get(name)
                    if other is not None and other.alive:
                        continue
                    plugin.fail(
                        plugin.step, reason=_blocked_by(name, other=other), state=State.BLOCKED
                    )
                    self._names.release(plugin.name)
                    changed = True
                    break


def _requires(plugin: Plugin) -> set[str]:
    return set(plugin.manifest.requires) if plugin.manifest else set()


def _before(plugin: Plugin) -> set[str]:
    return _requires(plugin) | (set(plugin.manifest.after) if plugin.manifest else set())


def _blocked_by(name: str, *, other: Plugin | None) -> str:
    if other is None:
        return f"requires the plugin {name!r}, which is not installed"
    if not other.enabled:
        return f"requires the plugin {name!r}, which is not enabled; add it to UCM_PLUGINS"
    return f"requires the plugin {name!r}, which is {other.state.value}: {other.reason}"
