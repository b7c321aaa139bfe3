"""The single mapping of errors to HTTP: RFC 9457 problem documents, for every route.

A plugin's ``ErrorRenderer`` takes over below its own prefix. An exception that nobody foresaw is
answered with an id only; its text and trace go to the log under that id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from ucm.api import errors
from ucm.api.contributions import ErrorRenderer
from ucm.api.errors import FieldError, UcmError
from ucm.api.services import Ids
from ucm.web.envelope import json_response
from ucm.web.errors import (
    Internal,
    MethodNotAllowed,
    RequestRefused,
    UnsupportedMediaType,
)

PROBLEM_TYPE = "application/problem+json"
_log = logging.getLogger("ucm.web")

# Looked up along the class's own ancestors, so that a subclass needs no line of its own.
_STATUS: Mapping[type[UcmError], int] = {
    errors.Invalid: 400,
    errors.TooLarge: 413,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.RateLimited: 429,
    errors.PolicyDenied: 400,
    errors.LintFailed: 422,
    errors.CaOffline: 409,
    errors.KeyUnavailable: 503,
    errors.Busy: 503,
    errors.StorageFailed: 503,
    errors.PluginUnavailable: 503,
    errors.Unsupported: 400,
    errors.UpstreamFailed: 502,
    MethodNotAllowed: 405,
    UnsupportedMediaType: 415,
    Internal: 500,
}
_RESERVED = frozenset({"type", "title", "status", "detail", "instance", "success", "error", "code"})


def status_of(error: UcmError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, RequestRefused):
        return error.status
    if isinstance(error, errors.PolicyDenied):
        missing = any(denial.code.startswith("permission") for denial in error.denials)
        return 403 if missing else 400
    for ancestor in type(error).__mro__:
        status = _STATUS.get(ancestor)
        if status is not None:
            return status
    return 500


def document_of(error: UcmError, *, instance: str) -> dict[str, Any]:
    """The problem document (RFC 9457 3), with the members older clients read beside it."""
    status = status_of(error)
    document: dict[str, Any] = {
        "type": f"urn:ucm:error:{error.code}",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "instance": instance,
        "success": False,
        "error": error.detail,
        "message": error.detail,
        "code": status,
    }
    if error.hint:
        document["hint"] = error.hint
    if error.fields:
        document["errors"] = [_field(field) for field in error.fields]
    document.update({name: value for name, value in error.extra.items() if name not in _RESERVED})
    return document


def _field(field: FieldError) -> dict[str, str]:
    place = (
        {"parameter": field.pointer[1:]}
        if field.pointer.startswith("?")
        else {"pointer": field.pointer}
    )
    return {**place, "code": field.code, "detail": field.detail}


def problem(error: UcmError, *, instance: str) -> Response:
    """The response to an error, with the headers that belong to its status."""
    response = json_response(document_of(error, instance=instance), status=status_of(error))
    response.content_type = PROBLEM_TYPE
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        response.headers["Retry-After"] = str(int(retry_after))
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(error.allowed)
    if status_of(error) == 401:
        # RFC 9110 11.6.1 wants a challenge; a scheme no browser knows raises no login box.
        response.headers["WWW-Authenticate"] = 'ApiKey realm="ucm"'
    return response


class Problems:
    """Registers the handlers on an application.

    ``failed`` is told of every unforeseen exception with the path it happened on, so that the
    plugin that owns the route can be shown as degraded.
    """

    def __init__(
        self,
        *,
        renderers: Iterable[ErrorRenderer],
        ids: Ids,
        failed: Callable[[str, Exception], None],
    ) -> None:
        self._renderers = sorted(renderers, key=lambda known: len(known.prefix), reverse=True)
        self._ids = ids
        self._failed = failed

    def register(self, app: Flask) -> None:
        """Make this the only source of error responses of the application."""
        app.register_error_handler(UcmError, self._known)
        app.register_error_handler(HTTPException, self._framework)
        app.register_error_handler(Exception, self._unforeseen)

    def _known(self, error: UcmError) -> Response:
        if status_of(error) == 500:
            return self._unforeseen(error)
        return self._render(error, instance=request.path)

    def _framework(self, error: HTTPException) -> ResponseReturnValue:
        if error.response is not None or (error.code is not None and 300 <= error.code < 400):
            return error.get_response(request.environ)
        if error.code is not None and error.code >= 500:
            return self._unforeseen(error)
        return self._render(_translated(error), instance=request.path)

    def _unforeseen(self, error: Exception) -> Response:
        identity = self._ids.new_id()
        _log.error(
            "unforeseen error %s on %s %s",
            identity,
            request.method,
            request.path.encode("unicode_escape").decode("ascii"),
            exc_info=error,
        )
        self._failed(request.path, error)
        return self._render(
            Internal(
                "The server failed on this request.",
                hint=f"The log has the details under the id {identity}.",
            ),
            instance=f"/errors/{identity}",
        )

    def _render(self, error: UcmError, *, instance: str) -> Response:
        for renderer in self._renderers:
            if _below(request.path, prefix=renderer.prefix):
                try:
                    return renderer.render(error)
                except Exception as defect:
                    _log.exception("the error renderer of %s failed", renderer.prefix)
                    self._failed(request.path, defect)
                    break
        return problem(error, instance=instance)


def _below(path: str, *, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")


_FRAMEWORK_SENTENCES = {
    404: "There is nothing at this path.",
    413: "The request body is larger than this server accepts.",
}


def _translated(error: HTTPException) -> UcmError:
    if isinstance(error, WerkzeugMethodNotAllowed):
        return MethodNotAllowed(tuple(sorted(error.valid_methods or ())))
    match error.code:
        case 404:
            return errors.NotFound(
                _FRAMEWORK_SENTENCES[404], hint="The list of paths is in /api/docs/openapi.json."
            )
        case 413:
            return errors.TooLarge(_FRAMEWORK_SENTENCES[413])
        case 415:
            return UnsupportedMediaType("The body is of a kind that this path does not read.")
        case _:
            return RequestRefused(
                f"The request was refused: {error.name}.", status=error.code or 400
            )
