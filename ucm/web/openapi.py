"""The OpenAPI 3.1 document: generated from the views, completed with what holds for every route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from flask import Response
from flask_openapi3 import OpenAPI

from ucm.api.web import Access, access_of, public
from ucm.web import api_index
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import json_response

DOCUMENT_PATH = "/api/docs/openapi.json"

SECURITY_SCHEMES: dict[str, Any] = {
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "session",
        "description": "Set by POST /api/v2/auth/login.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": "X-CSRF-Token",
        "description": "csrf_token of the sign-in or of GET /api/v2/auth/verify; only with a "
        "session, and only for methods that change something.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A key of POST /api/v2/account/apikeys.",
    },
}
_METHODS = ("get", "put", "post", "delete", "patch")
_CHANGING = frozenset({"put", "post", "delete", "patch"})
_PHRASES = {
    "400": "The request is malformed, breaks a rule, or a policy refuses it",
    "401": "Nobody is signed in, or the credentials are wrong",
    "403": "The caller may not do this",
    "404": "There is no such object",
    "409": "The state of the object forbids it",
    "413": "The body or one of its parts is too large",
    "415": "The body is of a kind that is not read here",
    "422": "A lint refuses the certificate; nothing was signed",
    "429": "Too many requests; wait as long as Retry-After says",
    "502": "A system behind the server failed",
    "503": "Not now: a key, a plugin or the database is not available",
}
_TEXT = {"type": "string"}
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457 problem document.",
    "required": ["type", "title", "status", "detail", "instance", "success", "error"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:ucm:error:[a-z0-9-]+$"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instance": _TEXT,
        "hint": {"type": "string", "description": "What to do about it"},
        "success": {"const": False},
        "error": {"type": "string", "description": "Same as detail"},
        "message": {"type": "string", "description": "Same as detail"},
        "code": {"type": "integer", "description": "Same as status"},
        "safe_mode": {"type": "boolean"},
        "retry_after": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "RFC 6901, into the body"},
                    "parameter": {"type": "string", "description": "Query or path parameter"},
                    "code": _TEXT,
                    "detail": _TEXT,
                },
            },
        },
    },
}


class _Document:
    """Builds the document once, at the first request for it."""

    def __init__(self, app: OpenAPI) -> None:
        self._app = app
        self._made: dict[str, Any] | None = None

    def get(self) -> dict[str, Any]:
        if self._made is None:
            self._made = complete(self._app)
        return self._made


def complete(app: OpenAPI) -> dict[str, Any]:
    """The framework's document with security, permissions and problem responses added."""
    for blueprint in app.blueprints.values():
        if isinstance(blueprint, APIBlueprint):
            blueprint.describe()
            app.paths.update(blueprint.paths)
            app.components_schemas.update(blueprint.components_schemas)
            app.tags += [tag for tag in blueprint.tags if tag.name not in app.tag_names]
            app.tag_names += [tag.name for tag in blueprint.tags]
    document = cast("dict[str, Any]", app.api_doc)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.pop("ValidationErrorModel", None)
    schemas["Problem"] = _PROBLEM
    components["responses"] = {status: _problem_response(status) for status in _PHRASES}
    accesses = dict(_accesses(app))
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                _complete_operation(item[method], path, method, accesses.get((path, method)))
    return document


def _problem_response(status: str) -> dict[str, Any]:
    return {
        "description": _PHRASES[status],
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }


def _complete_operation(
    operation: dict[str, Any], path: str, method: str, access: Access | None
) -> None:
    statuses = {"400", "429", "503"}
    if access is not None and access.public_reason is None:
        statuses |= {"401", "403"}
        signed_in: dict[str, list[str]] = {"session": []}
        if method in _CHANGING:
            signed_in["csrf"] = []
        operation["security"] = [{"apiKey": []}, signed_in]
        operation["x-permissions"] = list(access.permissions)
    else:
        operation["security"] = []
        if method in _CHANGING:
            statuses |= {"401", "403"}  # signing in is public and refuses too
    if "{" in path:
        statuses.add("404")
    if method in _CHANGING:
        statuses |= {"404", "409", "413", "415", "422", "502"}
    responses = operation.setdefault("responses", {})
    validation = responses.get("400", {}).get("content", {}).get("application/json")
    if validation is not None:
        responses.pop("400")
    for status in sorted(statuses):
        responses.setdefault(status, {"$ref": f"#/components/responses/{status}"})
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "query":
            parameter["schema"] = _without_null(parameter["schema"])


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter is absent rather than null."""
    choices = schema.get("anyOf")
    if choices is None:
        return schema
    real = [choice for choice in choices if choice.get("type") != "null"]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    if schema.get("default") is not None:
        rest["default"] = schema["default"]
    return {**rest, **real[0]} if len(real) == 1 else {**rest, "anyOf": real}


def _accesses(app: OpenAPI) -> Iterator[tuple[tuple[str, str], Access]]:
    for rule in app.url_map.iter_rules():
        access = access_of(app.view_functions[rule.endpoint])
        if access is not None:
            path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
            for method in rule.methods or ():
                yield (path, method.lower()), access


def register(app: OpenAPI) -> None:
    """Serve the document and a page that lists it."""
    document = _Document(app)

    @public("the description of the API holds nothing secret")
    def openapi_document() -> Response:
        return json_response(document.get())

    app.add_url_rule(DOCUMENT_PATH, "openapi_document", openapi_document)
    api_index.register(app, document=document.get, document_path=DOCUMENT_PATH)
