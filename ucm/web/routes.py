"""The core's routes: every blueprint with the services it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flask import Blueprint
from prometheus_client.core import Metric

import ucm
from ucm.runtime.container import Container
from ucm.runtime.dispatch import isolated
from ucm.web.authn import Authenticator
from ucm.web.csrf import CsrfTokens
from ucm.web.v2 import (
    account,
    audit,
    auth,
    cas,
    certificates,
    csrs,
    dashboard,
    database,
    health,
    https,
    overview,
    plugins,
    rbac,
    security,
    settings,
    system,
    templates,
    users,
)


def core_blueprints(
    container: Container,
    *,
    authenticator: Authenticator,
    csrf: CsrfTokens,
    serving: Callable[[], bool],
) -> list[Blueprint]:
    """Every blueprint of the core, in no particular order."""

    def token() -> str:
        return container.settings.general().metrics_token.get_secret_value()

    rows = certificates.CertificateDocuments(
        certificates=container.certificates, cas=container.cas, templates=container.templates
    )
    return [
        auth.blueprint(
            container.auth,
            authenticator=authenticator,
            csrf=csrf,
            session_timeout=lambda: container.settings.general().session_timeout,
        ),
        account.blueprint(
            users=container.users,
            auth=container.auth,
            apikeys=container.apikeys,
            authenticator=authenticator,
            clock=container.clock,
        ),
        users.blueprint(container.users),
        rbac.blueprint(container.roles, users=container.users),
        audit.blueprint(container.audit),
        settings.blueprint(container.settings),
        plugins.blueprint(container.host, settings=container.settings),
        system.blueprint(
            container.jobs, clock=container.clock, started_at=container.health.started_at
        ),
        security.blueprint(
            encryption=container.encryption,
            rotation=container.rotation,
            session_secret_is_given=container.boot.secret_key is not None,
        ),
        https.blueprint(container.https, audit=container.audit),
        overview.blueprint(container.overview, clock=container.clock),
        dashboard.blueprint(container.overview, status=container.status),
        cas.blueprint(
            cas=container.cas,
            certificates=container.certificates,
            templates=container.templates,
            documents=rows,
            audit=container.audit,
        ),
        certificates.blueprint(container.certificates, documents=rows, audit=container.audit),
        certificates.eku_blueprint(),
        csrs.blueprint(container.csrs, certificates=rows, audit=container.audit),
        templates.blueprint(container.templates, audit=container.audit),
        database.blueprint(container.database),
        health.blueprint(
            container.health,
            serving=serving,
            safe_mode=lambda: container.safe_mode_reason() is not None,
            now=container.clock.now,
        ),
        health.metrics_blueprint(lambda: _families(container), token=token),
    ]


def _families(container: Container) -> Iterator[Metric]:
    """What ``/metrics`` shows: the core's numbers, then the plugins'."""
    numbers = container.overview.numbers()
    yield health.gauge(
        "ucm_build_info",
        help_text="Version of the server; the value is always 1.",
        samples={ucm.__version__: 1},
        label="version",
    )
    yield health.gauge(
        "ucm_certificates",
        help_text="Certificates by status.",
        samples={
            "valid": numbers.valid,
            "expired": numbers.expired,
            "revoked": numbers.revoked,
            "on_hold": numbers.on_hold,
        },
        label="status",
    )
    yield health.gauge(
        "ucm_certificates_expiring",
        help_text="Valid certificates that expire within so many days.",
        samples={"30": numbers.expiring, "7": numbers.expiring_in_a_week},
        label="days",
    )
    yield health.gauge(
        "ucm_certificate_authorities",
        help_text="Authorities by status.",
        samples={
            "active": numbers.active_authorities,
            "inactive": numbers.authorities - numbers.active_authorities,
        },
        label="status",
    )
    for metric in (*container.dispatcher.metrics(), *container.host.metrics):
        yield health.plugin_family(metric, isolated=lambda call: isolated(call).value)
