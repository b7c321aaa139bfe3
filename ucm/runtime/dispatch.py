"""The only place that calls plugins: one typed method per guard and observe hook, ``collect`` for
the rest.

*Collect* asks one plugin and lets its error fail that plugin only. *Guard* asks every running
plugin, in start order; all answers count, and any error stops the operation. *Observe* tells every
running plugin; errors are logged and counted, and the next plugin is told all the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from ucm.api.actor import Actor
from ucm.api.contributions import Metric
from ucm.api.errors import PluginUnavailable, UcmError
from ucm.api.events import CertificateIssued, CertificateRevoked, Delivery, Event
from ucm.api.issuance import (
    CertificateDraft,
    Denial,
    DraftPatch,
    Hold,
    IssuanceRequest,
    Operation,
    RevocationRequest,
)
from ucm.api.keys import KeyPurpose, KeyRef
from ucm.api.services import Clock
from ucm.api.views import CaView, CertificateView
from ucm.runtime.registry import Hook, Plugin, Registry, State

log = logging.getLogger("ucm.plugins")

T = TypeVar("T")

GUARD_HOOKS = {
    "ucm_before_issue": Operation.ISSUE,
    "ucm_amend_draft": Operation.ISSUE,
    "ucm_check_draft": Operation.ISSUE,
    "ucm_before_revoke": Operation.REVOKE,
    "ucm_before_key_use": Operation.KEY_USE,
}
OBSERVE_HOOKS = ("ucm_after_issue", "ucm_on_revoke", "ucm_on_event", "ucm_deliver_event")
SLOW_OBSERVER_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """Result of an isolated call: a value, or the error that it raised."""

    value: T | None = None
    error: BaseException | None = None


def isolated(call: Callable[[], T]) -> Outcome[T]:
    """Run foreign code. Whatever it raises comes back as a value, ``sys.exit`` included."""
    try:
        return Outcome(value=call())
    except (Exception, SystemExit) as error:
        return Outcome(error=error)


@dataclass(frozen=True, slots=True)
class _Bound:
    """One implementation and whose it is."""

    plugin: Plugin
    hook: Hook

    def __call__(self, values: Mapping[str, Any]) -> Any:
        return self.hook.call(**{name: values[name] for name in self.hook.arguments})


@dataclass(slots=True)
class HookTiming:
    """How often a plugin's hook ran, for how long in all, and how often it failed."""

    calls: int = 0
    seconds: float = 0.0
    errors: int = 0


class Dispatcher:
    """Calls hooks of running plugins. Implements the issuance gate's ``Guards``."""

    def __init__(self, registry: Registry, *, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._bound: dict[str, tuple[_Bound, ...]] = {}
        self._guarding: dict[Operation, tuple[Plugin, ...]] = {}
        self._lock = threading.Lock()
        self.timings: dict[tuple[str, str], HookTiming] = {}

    def bind(self) -> None:
        """Take the implementations of the registry; called once, when the set of plugins is
        settled.
        """
        bound: dict[str, list[_Bound]] = {}
        for plugin in self._registry:
            for name, hook in plugin.hooks.items():
                bound.setdefault(name, []).append(_Bound(plugin, hook))
        self._bound = {
            name: tuple(sorted(items, key=lambda item: item.hook.order))
            for name, items in bound.items()
        }
        self._guarding = {
            operation: tuple(
                plugin for plugin in self._registry if plugin.enabled and operation in plugin.guards
            )
            for operation in Operation
        }

    def has(self, hook: str) -> bool:
        """Whether any plugin implements the hook, running or not."""
        return bool(self._bound.get(hook))

    # --- guard ------------------------------------------------------------------------------------

    def require(self, operation: Operation) -> None:
        """Raises ``PluginUnavailable`` when an enabled plugin that guards the operation is not
        running.
        """
        for plugin in self._guarding.get(operation, ()):
            if plugin.state is not State.RUNNING:
                raise PluginUnavailable(
                    f"Plugin {plugin.name!r} must agree to this operation ({operation.value}) "
                    "and is not "
                    f"running ({plugin.state.value} at step {plugin.step.value}).",
                    hint="An administrator sees the reason under /api/v2/plugins; once the "
                    "plugin is "
                    "repaired or disabled (UCM_PLUGINS) and UCM restarted, the operation works "
                    "again.",
                )

    def before_issue(
        self, request: IssuanceRequest, actor: Actor, ca: CaView | None
    ) -> tuple[Denial | Hold, ...]:
        """All denials and holds."""
        return self._ask(
            "ucm_before_issue", (Denial, Hold), {"request": request, "actor": actor, "ca": ca}
        )

    def amend_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> tuple[DraftPatch, ...]:
        """All patches; the profile step applies them within its limits."""
        return self._ask(
            "ucm_amend_draft", (DraftPatch,), {"draft": draft, "request": request, "ca": ca}
        )

    def check_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> tuple[Denial, ...]:
        """All denials about the final draft."""
        return self._ask(
            "ucm_check_draft", (Denial,), {"draft": draft, "request": request, "ca": ca}
        )

    def before_revoke(
        self, request: RevocationRequest, actor: Actor, certificate: CertificateView
    ) -> tuple[Denial, ...]:
        """All denials of a revocation."""
        return self._ask(
            "ucm_before_revoke",
            (Denial,),
            {"request": request, "actor": actor, "certificate": certificate},
        )

    def before_key_use(self, ref: KeyRef, purpose: KeyPurpose, actor: Actor) -> tuple[Denial, ...]:
        """All denials of one use of a CA key."""
        return self._ask(
            "ucm_before_key_use", (Denial,), {"ref": ref, "purpose": purpose, "actor": actor}
        )

    def _ask(
        self, hook: str, accepted: tuple[type, ...], values: dict[str, Any]
    ) -> tuple[Any, ...]:
        answers: list[Any] = []
        for item in self._bound.get(hook, ()):
            if item.plugin.state is not State.RUNNING:
                continue
            started = self._clock.monotonic()
            try:
                answer = item(values)
                given = () if answer is None else answer
                given = (given,) if isinstance(given, accepted) else tuple(given)
            except UcmError:
                self._timed(item.plugin, hook, started=started)
                raise
            except Exception as error:
                self._fault(item.plugin, hook, error=error, started=started)
                raise self._stopped(item.plugin, hook) from error
            self._timed(item.plugin, hook, started=started)
            for one in given:
                if not isinstance(one, accepted):
                    wrong = TypeError(f"{hook} returned {type(one).__name__}")
                    self.fault(item.plugin, hook, error=wrong)
                    raise self._stopped(item.plugin, hook) from wrong
            answers.extend(given)
        return tuple(answers)

    def _stopped(self, plugin: Plugin, hook: str) -> PluginUnavailable:
        return PluginUnavailable(
            f"Plugin {plugin.name!r} failed while it was asked for consent ({hook}); nothing "
            "was done.",
            hint="The cause is in the server's log. Try again, or ask the administrator to "
            "repair the plugin.",
        )

    # --- observe ----------------------------------------------------------------------------------

    def publish(self, events: Sequence[Event]) -> None:
        """Tell every running plugin about committed events. Never raises for a plugin's error."""
        for event in events:
            if isinstance(event, CertificateIssued):
                self._tell("ucm_after_issue", event)
            elif isinstance(event, CertificateRevoked):
                self._tell("ucm_on_revoke", event)
            self._tell("ucm_on_event", event)

    def _tell(self, hook: str, event: Event) -> None:
        for item in self._bound.get(hook, ()):
            if item.plugin.state is not State.RUNNING:
                continue
            started = self._clock.monotonic()
            outcome = isolated(partial(item, {"event": event}))
            if outcome.error is not None:
                self._fault(item.plugin, hook, error=outcome.error, started=started)
                continue
            took = self._timed(item.plugin, hook, started=started)
            if took > SLOW_OBSERVER_SECONDS:
                log.warning(
                    "plugin %s: %s took %.0f ms; slow work belongs into a job",
                    item.plugin.name,
                    hook,
                    took * 1000,
                )

    def deliver(self, event: Event, *, delivery: Delivery, spare: set[str]) -> list[str]:
        """Deliver an event to every subscriber not in ``spare``; add those that take it.

        Returns ``<plugin>: <error type>`` of those that raised.
        """
        failures: list[str] = []
        values = {"event": event, "delivery": delivery}
        for item in self._bound.get("ucm_deliver_event", ()):
            name = item.plugin.name
            if item.plugin.state is not State.RUNNING or name in spare:
                continue
            started = self._clock.monotonic()
            error = isolated(partial(item, values)).error
            if error is None:
                self._timed(item.plugin, "ucm_deliver_event", started=started)
                spare.add(name)
            else:
                self._fault(item.plugin, "ucm_deliver_event", error=error, started=started)
                failures.append(f"{name}: {type(error).__name__}")
        return failures

    # --- collect and life cycle -------------------------------------------------------------------

    def collect(self, plugin: Plugin, hook: str, **values: object) -> Outcome[Any]:
        """Ask one plugin; the answer is unchecked."""
        implementation = plugin.hooks.get(hook)
        if implementation is None:
            return Outcome()
        started = self._clock.monotonic()
        outcome = isolated(partial(_Bound(plugin, implementation), values))
        self._timed(plugin, hook, started=started)
        return outcome

    def offered(self, hook: str, /, **values: object) -> tuple[tuple[str, Any], ...]:
        """Call a hook that a plugin offers to others (``ucm_hookspecs``): answers by plugin name,
        errors isolated.
        """
        answers: list[tuple[str, Any]] = []
        for item in self._bound.get(hook, ()):
            if item.plugin.state is not State.RUNNING:
                continue
            started = self._clock.monotonic()
            outcome = isolated(partial(item, values))
            if outcome.error is not None:
                self._fault(item.plugin, hook, error=outcome.error, started=started)
            else:
                self._timed(item.plugin, hook, started=started)
                answers.append((item.plugin.name, outcome.value))
        return tuple(answers)

    def metrics(self) -> tuple[Metric, ...]:
        """How long hooks take and how often they fail, by plugin and hook, in this process."""
        fields = {"calls": "Calls of", "seconds": "Seconds spent in", "errors": "Errors in"}
        return tuple(
            Metric(
                name=f"ucm_hook_{name}_total",
                help=f"{title} hooks of plugins.",
                read=partial(self._timing, name),
                labels=("plugin", "hook"),
                counter=True,
            )
            for name, title in fields.items()
        )

    def _timing(self, name: str) -> dict[tuple[str, ...], float]:
        with self._lock:
            return {key: float(getattr(timing, name)) for key, timing in self.timings.items()}

    def fault(self, plugin: Plugin, where: str, *, error: BaseException) -> None:
        """Count an error of a plugin's own code (a request, a job, a check) and log it with its
        trace.
        """
        plugin.faults.add(where, error=error, now=self._clock.monotonic())
        log.error("plugin %s failed in %s", plugin.name, where, exc_info=error)

    def _fault(self, plugin: Plugin, hook: str, *, error: BaseException, started: float) -> None:
        self._timed(plugin, hook, started=started, failed=True)
        self.fault(plugin, hook, error=error)

    def _timed(self, plugin: Plugin, hook: str, *, started: float, failed: bool = False) -> float:
        took = self._clock.monotonic() - started
        with self._lock:
            timing = self.timings.setdefault((plugin.name, hook), HookTiming())
            timing.calls += 1
            timing.seconds += took
            timing.errors += failed
        return took
