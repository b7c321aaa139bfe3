"""Errors that exist in HTTP only; the domain knows none of them."""

from __future__ import annotations

from ucm.api.errors import Forbidden, Invalid, UcmError


class MethodNotAllowed(UcmError):
    """The path exists, the method does not (405); ``allowed`` are the methods that do."""

    code = "method-not-allowed"
    title = "Method not allowed"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        listed = ", ".join(allowed)
        super().__init__(f"This path answers to {listed} only.", hint=f"Use {listed}.")
        self.allowed = allowed


class UnsupportedMediaType(UcmError):
    """The body is of a kind that the view does not read (415)."""

    code = "unsupported-media-type"
    title = "Unsupported media type"


class MalformedJson(Invalid):
    """The body is not one JSON object in the sense of RFC 8259 (and I-JSON's unique names)."""

    code = "malformed-json"
    title = "Malformed JSON"


class CsrfFailed(Forbidden):
    """A state-changing request of a signed-in browser without a valid CSRF token."""

    code = "csrf-failed"
    title = "CSRF validation failed"


class PasswordChangeRequired(Forbidden):
    """The account must set a new password before it may do anything else."""

    code = "password-change-required"
    title = "Password change required"


class Internal(UcmError):
    """A defect; the caller gets an id to quote, the log has the rest."""

    code = "internal"
    title = "Internal server error"


class RequestRefused(UcmError):
    """Werkzeug refused the request for a reason without a class of its own here."""

    code = "bad-request"
    title = "Bad request"

    def __init__(self, detail: str, *, status: int) -> None:
        super().__init__(detail)
        self.status = status
