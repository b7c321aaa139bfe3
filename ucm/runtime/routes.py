"""A plugin's routes, tried on an application that is thrown away, before the real one sees them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, field

from flask import Blueprint, Flask

from ucm.api.contributions import Auth, Routes
from ucm.api.web import access_of
from ucm.runtime.registry import PluginRefused

CORE_PREFIXES = (
    "/api/docs",
    "/api/health",
    "/api/v2/account",
    "/api/v2/audit",
    "/api/v2/auth",
    "/api/v2/cas",
    "/api/v2/certificates",
    "/api/v2/csrs",
    "/api/v2/dashboard",
    "/api/v2/database",
    "/api/v2/eku",
    "/api/v2/export",
    "/api/v2/groups",
    "/api/v2/health",
    "/api/v2/import",
    "/api/v2/keys",
    "/api/v2/metrics",
    "/api/v2/plugins",
    "/api/v2/rbac",
    "/api/v2/search",
    "/api/v2/settings",
    "/api/v2/system",
    "/api/v2/templates",
    "/api/v2/user-certificates",
    "/api/v2/users",
    "/health",
    "/metrics",
    "/ui",
)
"""Where the core's own routes live; a test compares them with the application."""


def within(path: str, prefix: str) -> bool:
    """Whether the path is the prefix or lies below it."""
    return path == prefix or path.startswith(f"{prefix}/")


def overlap(one: str, other: str) -> bool:
    """Whether a path could lie below both prefixes."""
    return within(one, other) or within(other, one)


@dataclass(frozen=True, slots=True)
class Rule:
    """One routed rule with its converters blanked: ``/acme/<>/order/<>``."""

    shape: str
    method: str


@dataclass(frozen=True, slots=True)
class Probed:
    """What a plugin's blueprints would route, and the permissions that their views require."""

    rules: set[Rule] = field(default_factory=set)
    permissions: set[str] = field(default_factory=set)


def probe(routes: Iterable[Routes], *, prefixes: tuple[str, ...], owner: str) -> Probed:
    """Register blueprints on a throw-away application and return what they make.

    Raises ``PluginRefused`` for a rule outside the plugin's url prefixes, one without ``requires``
    or ``public``, or two that answer the same request.
    """
    app = Flask("probe", static_folder=None)
    usual = _reach(app)
    found = Probed()
    for number, entry in enumerate(routes):
        if not isinstance(entry.blueprint, Blueprint):
            raise PluginRefused(f"routes below {entry.prefix}: blueprint must be a flask Blueprint")
        if not entry.prefix.startswith("/") or entry.prefix.endswith("/"):
            raise PluginRefused(
                f"route prefix {entry.prefix!r} must start with '/' and not end with it"
            )
        if not any(within(entry.prefix, prefix) for prefix in prefixes):
            raise PluginRefused(
                f"route prefix {entry.prefix!r} is not one of the manifest's url_prefixes "
                f"{prefixes!r}"
            )
        before = set(app.view_functions)
        known = len(list(app.url_map.iter_rules()))
        app.register_blueprint(entry.blueprint, url_prefix=entry.prefix, name=f"{owner}{number}")
        if len(list(app.url_map.iter_rules())) == known:
            raise PluginRefused(f"the blueprint below {entry.prefix} has no routes")
        _refuse_reach(app, entry=entry, usual=usual)
        _add_rules(found, app=app, before=before, entry=entry, prefixes=prefixes)
    return found


def _reach(app: Flask) -> dict[str, int]:
    """How many functions run for every request of the application, by kind."""
    kinds: dict[str, Mapping[str | None, Sized]] = {
        "before_app_request": app.before_request_funcs,
        "after_app_request": app.after_request_funcs,
        "teardown_app_request": app.teardown_request_funcs,
        "app_url_value_preprocessor": app.url_value_preprocessors,
        "app_url_defaults": app.url_default_functions,
        "app_errorhandler": app.error_handler_spec,
    }
    counts = {kind: len(functions.get(None, ())) for kind, functions in kinds.items()}
    handlers = app.error_handler_spec.get(None, {})
    return {**counts, "app_errorhandler": sum(map(len, handlers.values()))}


def _refuse_reach(app: Flask, *, entry: Routes, usual: dict[str, int]) -> None:
    for kind, count in _reach(app).items():
        if count > usual[kind]:
            raise PluginRefused(
                f"the blueprint below {entry.prefix} uses {kind}, which would reach the "
                "requests of "
                "the core and of other plugins; use what is local to the blueprint"
            )


def _add_rules(
    found: Probed, *, app: Flask, before: set[str], entry: Routes, prefixes: tuple[str, ...]
) -> None:
    for rule in app.url_map.iter_rules():
        if rule.endpoint in before:
            continue
        if not any(within(rule.rule.rstrip("/") or "/", prefix) for prefix in prefixes):
            raise PluginRefused(f"route {rule.rule} is outside the manifest's url_prefixes")
        access = access_of(app.view_functions[rule.endpoint])
        if access is None:
            raise PluginRefused(
                f"route {rule.rule} says neither requires(...) nor public(...); "
                "nothing is served without one of them"
            )
        if entry.auth is Auth.PROTOCOL and access.public_reason is None:
            raise PluginRefused(
                f"route {rule.rule}: the protocol authenticates by itself, so mark the view "
                "public(reason)"
            )
        found.permissions.update(access.permissions)
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            shape = Rule(re.sub(r"<[^>]*>", "<>", rule.rule), method)
            if shape in found.rules:
                raise PluginRefused(f"{method} {rule.rule} is routed twice")
            found.rules.add(shape)


def check_prefixes(prefixes: tuple[str, ...], *, others: Iterable[tuple[str, str]]) -> None:
    """Raises ``PluginRefused`` when a url prefix overlaps with the core's or another plugin's
    (prefix, owner).
    """
    for prefix in prefixes:
        for core in CORE_PREFIXES:
            if overlap(prefix, core):
                raise PluginRefused(f"url prefix {prefix} overlaps with {core} of the core")
        for other, owner in others:
            if overlap(prefix, other):
                raise PluginRefused(
                    f"url prefix {prefix} overlaps with {other} of plugin {owner!r}"
                )
