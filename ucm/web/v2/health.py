"""Probes: ``/health`` and its aliases, each with ``/live`` and ``/ready``; ``/metrics``."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

import ucm
from ucm.api.contributions import Metric as PluginMetric
from ucm.api.errors import NotFound, Unauthenticated
from ucm.api.web import public
from ucm.services.health import HealthService
from ucm.web.envelope import json_response

PREFIXES = ("/health", "/api/health", "/api/v2/health")
METRICS_PATHS = ("/metrics", "/api/v2/metrics")
SAFE_MODE = "The master key is missing, or is not the one of this database; the log says more."
_REASON = "probes of load balancers carry no credentials and learn nothing secret"


def blueprint(
    health: HealthService,
    *,
    serving: Callable[[], bool],
    safe_mode: Callable[[], bool],
    now: Callable[[], datetime],
) -> Blueprint:
    """The probes. Why there is safe mode, with paths, is for administrators: encryption status."""
    probes = Blueprint("health", __name__)

    @public(_REASON)
    def status() -> Response:
        document: dict[str, object] = {
            "status": "ok",
            "service": "ucm",
            "version": ucm.__version__,
            "started_at": health.started_at,
            "time": now(),
        }
        if safe_mode():
            document |= {"safe_mode": True, "safe_mode_reason": SAFE_MODE}
        return json_response(document)

    @public(_REASON)
    def live() -> Response:
        return json_response({"status": "alive"})

    @public(_REASON)
    def ready() -> Response:
        outcomes = health.checks()
        up = serving() and health.ready()
        return json_response(
            {
                "status": "ready" if up else "not ready",
                "stopping": not serving(),
                "safe_mode": safe_mode(),
                "checks": {
                    outcome.name: {
                        "ok": outcome.ok,
                        "readiness": outcome.readiness,
                        "detail": outcome.detail if outcome.public else "",
                    }
                    for outcome in outcomes
                },
            },
            status=200 if up else 503,
        )

    for prefix in PREFIXES:
        name = prefix.strip("/").replace("/", "_")
        probes.add_url_rule(prefix, f"status_{name}", status)
        probes.add_url_rule(f"{prefix}/live", f"live_{name}", live)
        probes.add_url_rule(f"{prefix}/ready", f"ready_{name}", ready)
    return probes


class _Scrape(Collector):
    """Reads the numbers while they are scraped; nothing is counted in between."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families()


def metrics_blueprint(
    families: Callable[[], Iterable[Metric]], *, token: Callable[[], str]
) -> Blueprint:
    """Prometheus metrics; they do not exist until a token is set."""
    scraped = Blueprint("metrics", __name__)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(families))

    @public("the scraper's bearer token is checked by the view")
    def metrics() -> Response:
        expected = token()
        if not expected:
            raise NotFound("There is nothing at this path.", hint="Set metrics_token first.")
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            sent.strip().encode("utf-8", "replace"), expected.encode()
        ):
            raise Unauthenticated(
                "The metrics token is missing or wrong.",
                hint="Send the header Authorization: Bearer <metrics_token>.",
            )
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    for path in METRICS_PATHS:
        scraped.add_url_rule(path, path.strip("/").replace("/", "_"), metrics)
    return scraped


def gauge(name: str, *, help_text: str, samples: dict[str, float], label: str) -> Metric:
    """A gauge with one label."""
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for value, number in samples.items():
        family.add_metric([value], number)
    return family


def plugin_family(
    metric: PluginMetric, *, isolated: Callable[[Callable[[], object]], object]
) -> Metric:
    """What a plugin reports; a metric that fails is empty rather than the whole scrape's end."""
    kind = CounterMetricFamily if metric.counter else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=list(metric.labels))
    samples = isolated(metric.read)
    if isinstance(samples, dict):
        for labels, number in samples.items():
            family.add_metric([str(label) for label in labels], float(number))
    return family
