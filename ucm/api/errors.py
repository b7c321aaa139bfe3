"""Errors of the domain. They know no HTTP: ``ucm.web.problems`` and the protocols' renderers map
them.

``code`` is stable, kebab-case, and has a heading in ``docs/errors.md``. Raise them; do not return
flags.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from ucm.api.issuance import Denial
    from ucm.api.lint import LintFinding


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: RFC 6901 pointer into the body (``/san/0``), stable code, a sentence with
    the rule.
    """

    pointer: str
    code: str
    detail: str


class UcmError(Exception):
    """Anything UCM refuses or cannot do.
    ``detail`` is one sentence that may be shown to the caller.
    """

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Error"

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        fields: Iterable[FieldError] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.fields = tuple(fields)
        self.extra = dict(extra or {})
        self.audited = False
        """Set by who wrote an audit row about this refusal, so that nobody writes a second one."""


class Invalid(UcmError):
    """The request is malformed or breaks a rule; ``fields`` says where."""

    code = "invalid"
    title = "Invalid request"

    @classmethod
    def field(cls, pointer: str, code: str, detail: str, *, hint: str | None = None) -> Invalid:
        """An error about exactly one field."""
        return cls(detail, hint=hint, fields=(FieldError(pointer, code, detail),))


class TooLarge(UcmError):
    """An input exceeds its size limit (HTTP 413)."""

    code = "too-large"
    title = "Too large"


class NotFound(UcmError):
    """The object does not exist, or the caller may not know that it does."""

    code = "not-found"
    title = "Not found"


class Conflict(UcmError):
    """The object's state forbids it: duplicate, in use, wrong state, changed meanwhile."""

    code = "conflict"
    title = "Conflict"


class Unauthenticated(UcmError):
    """Nobody is signed in, or the credentials are wrong."""

    code = "unauthenticated"
    title = "Not authenticated"


class Forbidden(UcmError):
    """The caller is known and may not do this."""

    code = "forbidden"
    title = "Forbidden"


class RateLimited(UcmError):
    """Too many requests; ``retry_after`` in seconds."""

    code = "rate-limited"
    title = "Rate limit exceeded"

    def __init__(self, detail: str, *, retry_after: int, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint, extra={"retry_after": retry_after})
        self.retry_after = retry_after


class PolicyDenied(UcmError):
    """One or more policies refuse the operation; every denial says what would change it."""

    code = "policy-denied"
    title = "Refused by policy"

    def __init__(self, denials: Iterable[Denial]) -> None:
        self.denials = tuple(denials)
        super().__init__(
            "; ".join(d.detail for d in self.denials) or "Refused by policy",
            hint="; ".join(d.hint for d in self.denials if d.hint) or None,
            fields=[FieldError(d.pointer, d.code, d.detail) for d in self.denials],
        )


class LintFailed(UcmError):
    """Pre-issuance lint found an error in the certificate that was about to be signed."""

    code = "lint-failed"
    title = "Refused by lint"

    def __init__(self, findings: Iterable[LintFinding]) -> None:
        self.findings = tuple(findings)
        super().__init__(
            "; ".join(f"{f.lint}: {f.detail}" for f in self.findings),
            hint="Nothing was signed. Change the request or the template so that the rule holds.",
            extra={
                "findings": [
                    {"lint": f.lint, "severity": f.severity.value, "detail": f.detail, "ref": f.ref}
                    for f in self.findings
                ]
            },
        )


class CaOffline(UcmError):
    """The authority was taken offline; nothing may be signed with its key."""

    code = "ca-offline"
    title = "Authority is offline"


class KeyUnavailable(UcmError):
    """The key exists but cannot be used now (token removed, backend down); try again later."""

    code = "key-unavailable"
    title = "Key unavailable"

    def __init__(self, detail: str, *, retry_after: int = 30, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint, extra={"retry_after": retry_after})
        self.retry_after = retry_after


class SafeMode(KeyUnavailable):
    """Sealed keys exist but the master key is missing or wrong: what needs keys stops."""

    code = "safe-mode"
    title = "Safe mode"

    def __init__(self, detail: str, *, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.extra["safe_mode"] = True


class Busy(UcmError):
    """Another process holds the database for longer than a writer waits; nothing was changed."""

    code = "busy"
    title = "Database is busy"

    def __init__(self, detail: str, *, retry_after: int = 1, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint, extra={"retry_after": retry_after})
        self.retry_after = retry_after


class StorageFailed(UcmError):
    """The database could not be reached or could not commit; nothing of the unit was kept."""

    code = "storage-failed"
    title = "Storage failed"


class PluginUnavailable(UcmError):
    """A plugin that this operation must pass is not running; the operation stops rather than skip
    it.
    """

    code = "plugin-unavailable"
    title = "Plugin unavailable"


class Unsupported(UcmError):
    """Understood, but this installation cannot do it (algorithm, backend capability, format)."""

    code = "unsupported"
    title = "Not supported"


class UpstreamFailed(UcmError):
    """A system behind UCM answered with an error or not at all."""

    code = "upstream-failed"
    title = "Upstream failed"
