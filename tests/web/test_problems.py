"""Errors as problem documents: status, type, what to do, and nothing that should stay inside."""

import logging

import pytest
from flask import Flask, Response, abort, request

from ucm.api import errors
from ucm.api.contributions import ErrorRenderer
from ucm.api.errors import FieldError, UcmError
from ucm.api.issuance import Denial
from ucm.api.lint import LintFinding, Severity
from ucm.runtime.clock import SystemIds
from ucm.web.errors import CsrfFailed, PasswordChangeRequired
from ucm.web.problems import Problems
from ucm.web.requests import StrictRequest

CASES = [
    (errors.Invalid("no"), 400, "invalid"),
    (errors.TooLarge("no"), 413, "too-large"),
    (errors.NotFound("no"), 404, "not-found"),
    (errors.Conflict("no"), 409, "conflict"),
    (errors.Unauthenticated("no"), 401, "unauthenticated"),
    (errors.Forbidden("no"), 403, "forbidden"),
    (errors.RateLimited("no", retry_after=7), 429, "rate-limited"),
    (errors.PolicyDenied([Denial("names", "no")]), 400, "policy-denied"),
    (errors.PolicyDenied([Denial("permission-missing", "no")]), 403, "policy-denied"),
    (errors.LintFailed([LintFinding("x", Severity.ERROR, "no", "RFC")]), 422, "lint-failed"),
    (errors.CaOffline("no"), 409, "ca-offline"),
    (errors.KeyUnavailable("no"), 503, "key-unavailable"),
    (errors.SafeMode("no"), 503, "safe-mode"),
    (errors.Busy("no"), 503, "busy"),
    (errors.StorageFailed("no"), 503, "storage-failed"),
    (errors.PluginUnavailable("no"), 503, "plugin-unavailable"),
    (errors.Unsupported("no"), 400, "unsupported"),
    (errors.UpstreamFailed("no"), 502, "upstream-failed"),
    (CsrfFailed("no"), 403, "csrf-failed"),
    (PasswordChangeRequired("no"), 403, "password-change-required"),
]


def an_app(*, renderers=(), failures=None):
    app = Flask("problems", static_folder=None)
    app.request_class = StrictRequest
    app.config["MAX_CONTENT_LENGTH"] = 1000
    to_raise = {}

    @app.get("/raise/<name>")
    @app.get("/acme/<name>")
    def fail(name):
        raise to_raise[name]

    @app.get("/abort/<int:code>")
    def stop(code):
        abort(code)

    @app.post("/read")
    def read():
        return {"length": len(request.get_data())}

    failed = (lambda path, error: failures.append((path, error))) if failures is not None else print
    Problems(renderers=renderers, ids=SystemIds(), failed=failed).register(app)
    return app, to_raise


@pytest.mark.parametrize(("error", "status", "code"), CASES, ids=lambda value: str(value)[:20])
def test_each_error_has_its_status(error, status, code):
    app, to_raise = an_app()
    to_raise["x"] = error
    answer = app.test_client().get("/raise/x")
    document = answer.get_json(force=True)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert document["type"] == f"urn:ucm:error:{code}"
    assert document["status"] == document["code"] == status
    assert document["success"] is False
    assert document["error"] == document["detail"] == document["message"] == error.detail
    assert document["title"] == error.title
    assert document["instance"] == "/raise/x"


def test_every_error_class_of_the_api_is_among_the_cases():
    covered = {type(case[0]) for case in CASES}
    known = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, UcmError) and value is not UcmError
    }
    assert known <= covered


def test_fields_hints_and_extras_are_shown():
    app, to_raise = an_app()
    to_raise["x"] = errors.Invalid(
        "Wrong.",
        hint="Do it right.",
        fields=[FieldError("/a/0", "form", "Not like this."), FieldError("?page", "range", "No.")],
        extra={"detail": "not over the real one", "more": 1},
    )
    document = app.test_client().get("/raise/x").get_json(force=True)
    assert document["hint"] == "Do it right."
    assert document["errors"] == [
        {"pointer": "/a/0", "code": "form", "detail": "Not like this."},
        {"parameter": "page", "code": "range", "detail": "No."},
    ]
    assert document["detail"] == "Wrong."
    assert document["more"] == 1


def test_waiting_time_and_safe_mode():
    app, to_raise = an_app()
    to_raise["limited"] = errors.RateLimited("Slow down.", retry_after=45)
    to_raise["safe"] = errors.SafeMode("No key.")
    limited = app.test_client().get("/raise/limited")
    assert limited.headers["Retry-After"] == "45"
    assert limited.get_json(force=True)["retry_after"] == 45
    safe = app.test_client().get("/raise/safe")
    assert safe.headers["Retry-After"] == "30"
    assert safe.get_json(force=True)["safe_mode"] is True


@pytest.mark.parametrize("error", [ValueError("secret text"), UcmError("secret text")])
def test_an_unforeseen_error_shows_an_id_and_the_log_has_the_rest(error, caplog):
    failures = []
    app, to_raise = an_app(failures=failures)
    to_raise["x"] = error
    with caplog.at_level(logging.ERROR, logger="ucm.web"):
        answer = app.test_client().get("/raise/x")
    document = answer.get_json(force=True)
    assert answer.status_code == 500
    assert "secret text" not in answer.get_data(as_text=True)
    identity = document["instance"].removeprefix("/errors/")
    assert identity in document["hint"]
    [record] = caplog.records
    assert identity in record.getMessage()
    assert record.exc_info[1] is error
    assert failures == [("/raise/x", error)]


@pytest.mark.parametrize(
    ("code", "type_"),
    [(404, "not-found"), (413, "too-large"), (415, "unsupported-media-type"), (418, "bad-request")],
)
def test_refusals_of_the_framework_are_problems_too(code, type_):
    app, _ = an_app()
    answer = app.test_client().get(f"/abort/{code}")
    assert answer.status_code == code
    assert answer.get_json(force=True)["type"] == f"urn:ucm:error:{type_}"


def test_unknown_paths_and_methods():
    app, _ = an_app()
    assert app.test_client().get("/nowhere").status_code == 404
    answer = app.test_client().post("/raise/x")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_a_body_over_the_cap_is_refused():
    app, _ = an_app()
    answer = app.test_client().post("/read", data=b"x" * 1001)
    assert answer.status_code == 413
    assert answer.content_type == "application/problem+json"


def test_a_renderer_speaks_below_its_prefix_only():
    def render(error):
        return Response(f"acme {error.code}", status=418)

    app, to_raise = an_app(renderers=[ErrorRenderer("/acme", render)])
    to_raise["x"] = errors.Conflict("no")
    client = app.test_client()
    assert client.get("/acme/x").get_data(as_text=True) == "acme conflict"
    assert client.get("/acme/x/y").get_data(as_text=True) == "acme not-found"
    assert client.get("/raise/x").status_code == 409
    assert client.get("/acmeology").status_code == 404
    to_raise["bug"] = KeyError("x")
    assert client.get("/acme/bug").get_data(as_text=True) == "acme internal"


def test_a_broken_renderer_leaves_the_plain_problem():
    failures = []

    def render(error):
        raise ZeroDivisionError

    app, to_raise = an_app(renderers=[ErrorRenderer("/acme", render)], failures=failures)
    to_raise["x"] = errors.Conflict("no")
    answer = app.test_client().get("/acme/x")
    assert answer.status_code == 409
    assert answer.content_type == "application/problem+json"
    assert [type(error) for _, error in failures] == [ZeroDivisionError]
