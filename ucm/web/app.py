"""The application: core routes, plugin routes, and the rules that hold for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, get_type_hints

from flask import Blueprint, Flask, Response
from flask_openapi3 import APIBlueprint, Info, OpenAPI
from pydantic import ValidationError

import ucm
from ucm.api.contributions import Auth, Routes
from ucm.runtime.boot import session_secret
from ucm.runtime.container import Container
from ucm.web import openapi
from ucm.web.authn import Authenticator
from ucm.web.csrf import CsrfTokens
from ucm.web.problems import Problems
from ucm.web.requests import StrictRequest, invalid_from
from ucm.web.routes import core_blueprints

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BODY_LIMIT = 50 * 1024 * 1024

_HEADERS = (
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_NO_STORE = ("cache-control", "no-store")


class Application(OpenAPI):
    """The WSGI application, with what the server in front of it needs to know."""

    request_class = StrictRequest

    protocol_prefixes: tuple[str, ...] = ()
    """Paths that the plain-http port serves."""

    def __init__(self, container: Container) -> None:
        super().__init__(
            "ucm.web",
            info=Info(
                title="UCM",
                version=ucm.__version__,
                description="REST API of UCM. Errors are RFC 9457 problem documents.",
            ),
            security_schemes=openapi.SECURITY_SCHEMES,
            validation_error_status=400,
            validation_error_callback=self._refuse_body,
            doc_ui=False,
            static_folder=None,
        )
        self.shutting_down = threading.Event()
        """Set by the server when it stops: readiness turns false, requests in flight finish."""
        self.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
        self.config["MAX_FORM_MEMORY_SIZE"] = BODY_LIMIT
        self.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
        self.url_map.strict_slashes = False
        self.url_map.redirect_defaults = False
        self.container = container
        self._parameter_models: set[str] = set()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The WSGI entry: every answer, whoever made it, leaves with the security headers."""
        secure = environ["wsgi.url_scheme"] == "https"
        private = environ.get("PATH_INFO", "").startswith("/api/")

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            present = {name.lower() for name, _ in headers}
            headers += [pair for pair in _HEADERS if pair[0] not in present]
            if private and "cache-control" not in present:
                headers.append(_NO_STORE)
            if secure:
                headers += self._transport_security()
            return start_response(status, headers, exc_info)

        return self.wsgi_app(environ, start)

    def _transport_security(self) -> tuple[tuple[str, str], ...]:
        """RFC 6797, as the settings in force ask for."""
        general = self.container.settings.general()
        if not general.hsts_enabled:
            return ()
        subdomains = "; includeSubDomains" if general.hsts_include_subdomains else ""
        return (("strict-transport-security", f"max-age={general.hsts_max_age}{subdomains}"),)

    def readiness(self) -> bool:
        """Whether new requests should come here."""
        return not self.shutting_down.is_set()

    def client_ca_certificates(self) -> tuple[bytes, ...]:
        """DER of the authorities whose client certificates pass the TLS handshake."""
        with self.container.uow.read() as reader:
            return tuple(ca.der for ca in reader.cas.all() if ca.is_active)

    def close(self) -> None:
        """Called by the server when its process ends."""
        self.container.close()

    def remember_parameter_models(self) -> None:
        """Note which models hold parameters, so that their errors name parameters."""
        for view in self.view_functions.values():
            hints = get_type_hints(getattr(view, "__wrapped__", view))
            for place in ("query", "path", "header", "cookie"):
                model = hints.get(place)
                if isinstance(model, type):
                    self._parameter_models.add(model.__name__)

    def _refuse_body(self, error: ValidationError) -> Response:
        raise invalid_from(error, parameters=error.title in self._parameter_models)


def create_app(container: Container) -> Application:
    """The application of a started container.

    Raises ``UnmarkedRoute`` when a view declares no access.
    """
    app = Application(container)
    csrf = CsrfTokens(session_secret(container.boot), clock=container.clock, ids=container.ids)
    authenticator = Authenticator(
        auth=container.auth,
        apikeys=container.apikeys,
        audit=container.audit,
        csrf=csrf,
        trusted_proxies=lambda: container.boot.trusted_proxies,
    )
    for blueprint in core_blueprints(
        container, authenticator=authenticator, csrf=csrf, serving=app.readiness
    ):
        _register(app, blueprint)
    exempt = _register_plugins(app, container.host.routes)
    openapi.register(app)
    Problems(
        renderers=container.host.error_renderers,
        ids=container.ids,
        failed=container.host.request_failed,
    ).register(app)
    app.remember_parameter_models()
    authenticator.register(
        app,
        csrf_exempt=exempt,
        while_password_expired=frozenset(
            {"account.change_password", "account.profile", "auth.logout", "auth.verify"}
        ),
    )
    return app


def _register(app: OpenAPI, blueprint: Blueprint, **options: Any) -> None:
    if isinstance(blueprint, APIBlueprint):
        app.register_api(blueprint, **options)
    else:
        app.register_blueprint(blueprint, **options)


def _register_plugins(app: Application, contributed: Iterable[Routes]) -> frozenset[str]:
    """Register plugin blueprints; return the endpoints that need no CSRF token."""
    exempt: set[str] = set()
    plain: list[str] = []
    for number, routes in enumerate(contributed):
        before = set(app.view_functions)
        # A name of our own: a plugin's blueprint may be called as one of the core's.
        name = f"plugin{number}-{routes.blueprint.name}"
        _register(app, routes.blueprint, url_prefix=routes.prefix, name=name)
        if routes.auth is not Auth.SESSION_OR_KEY or not routes.csrf:
            exempt |= set(app.view_functions) - before
        if routes.plain_http:
            plain.append(routes.prefix)
    app.protocol_prefixes = tuple(plain)
    return frozenset(exempt)


def rules_of(app: Flask) -> list[tuple[str, str, str]]:
    """Method, rule and endpoint of everything the application answers, sorted."""
    return sorted(
        (method, rule.rule, rule.endpoint)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    )
