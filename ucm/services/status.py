"""How the parts of the server are, for people: online, warning or offline, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from ucm.services.health import HealthService
from ucm.services.jobs import JobService

Level = Literal["online", "warning", "offline"]


class PluginStanding(Protocol):
    """What is asked of a plugin's state."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def enabled(self) -> bool: ...
    @property
    def state(self) -> str: ...


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One part and a sentence about it."""

    name: str
    status: Level
    message: str


class StatusService:
    """Puts health checks, plugins and jobs side by side. Reasons with paths or addresses in them
    stay in the log and with administrators."""

    def __init__(
        self,
        *,
        health: HealthService,
        jobs: JobService,
        plugins: Callable[[], Iterable[PluginStanding]],
        safe_mode: Callable[[], bool],
    ) -> None:
        self._health = health
        self._jobs = jobs
        self._plugins = plugins
        self._safe_mode = safe_mode

    def services(self) -> list[ServiceStatus]:
        """The core, its checks, the scheduler, and every plugin that is enabled."""
        found = [self._core()]
        for outcome in self._health.checks():
            bad: Level = "offline" if outcome.readiness else "warning"
            found.append(
                ServiceStatus(
                    outcome.name,
                    "online" if outcome.ok else bad,
                    outcome.detail or ("Works." if outcome.ok else "The check fails."),
                )
            )
        known = {status.name for status in found}
        found.append(self._scheduler())
        for plugin in self._plugins():
            if plugin.enabled and plugin.name not in known:
                running = plugin.state == "running"
                message = f"{plugin.title}: {plugin.state}."
                found.append(
                    ServiceStatus(plugin.name, "online" if running else "offline", message)
                )
        return found

    def _core(self) -> ServiceStatus:
        if self._safe_mode():
            return ServiceStatus(
                "core", "warning", "Safe mode: without its master key nothing is signed."
            )
        return ServiceStatus("core", "online", "Works.")

    def _scheduler(self) -> ServiceStatus:
        jobs = self._jobs.all()
        if not jobs:
            return ServiceStatus("scheduler", "warning", "No worker has reported a job yet.")
        paused = [job.title for job in jobs if job.paused]
        failing = [job.title for job in jobs if job.failures and not job.paused]
        if paused or failing:
            parts = [f"paused: {', '.join(paused)}"] if paused else []
            parts += [f"failing: {', '.join(failing)}"] if failing else []
            return ServiceStatus("scheduler", "warning", f"Jobs {'; '.join(parts)}.")
        return ServiceStatus("scheduler", "online", f"{len(jobs)} jobs are on schedule.")
