"""For how long a certificate may be valid (RFC 5280 4.1.2.5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ucm.api.errors import Invalid

BACKDATE = timedelta(minutes=5)
"""notBefore lies this far in the past, for clients whose clocks are slow."""

MAX_LEAF_VALIDITY = timedelta(days=3650)
"""No template makes an end-entity certificate live longer."""

MAX_CA_VALIDITY = timedelta(days=50 * 366)
"""No authority's certificate lives longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What was asked for: an end, or a duration, or neither (then the template's default)."""

    not_before: datetime | None = None
    not_after: datetime | None = None
    duration: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What limits it. ``issuer_*`` are ``None`` for a self-signed certificate.

    With ``clamp`` an end beyond the issuer's is cut to it, otherwise it is refused.
    """

    default: timedelta
    maximum: timedelta
    issuer_not_before: datetime | None = None
    issuer_not_after: datetime | None = None
    clamp: bool = True


@dataclass(frozen=True, slots=True)
class Period:
    """The planned validity; both ends are whole seconds. ``clamped``: shorter than asked for."""

    not_before: datetime
    not_after: datetime
    clamped: bool = False


def _refuse(pointer: str, code: str, detail: str, hint: str | None = None) -> Invalid:
    return Invalid.field(pointer, code, detail, hint=hint)


def _aware(moment: datetime, pointer: str) -> datetime:
    if moment.tzinfo is None:
        raise _refuse(pointer, "naive-time", "Times need a time zone; write them in UTC.")
    return moment.astimezone(UTC).replace(microsecond=0)


def _days(duration: timedelta) -> str:
    return f"{duration.days} days"


def _start(now: datetime, wish: Wish, bounds: Bounds) -> datetime:
    if wish.not_before is None:
        start = now - BACKDATE
    else:
        start = _aware(wish.not_before, "/not_before")
        if start > now:
            raise _refuse(
                "/not_before",
                "not-before-in-future",
                "notBefore lies in the future; certificates are valid from when they are issued.",
            )
    if bounds.issuer_not_before is not None:
        # Validity nests: path validation at a moment before the issuer's start fails anyway.
        start = max(start, bounds.issuer_not_before)
    return start


def plan(now: datetime, *, wish: Wish, bounds: Bounds) -> Period:
    """The validity of a certificate issued now. Raises ``Invalid`` at ``/validity_days``,
    ``/not_after`` or ``/not_before``.

    Durations count from notBefore, so that backdating never stretches a lifetime beyond what was
    asked for or allowed. Never later than the issuer's notAfter.
    """
    now = _aware(now, "")
    if wish.not_after is not None and wish.duration is not None:
        raise _refuse("/not_after", "ambiguous-validity", "Give either an end or a duration.")
    start = _start(now, wish, bounds)
    pointer = "/not_after" if wish.not_after is not None else "/validity_days"
    if wish.not_after is not None:
        end = _aware(wish.not_after, pointer)
        if wish.not_before is None:
            start = max(start, min(now, end - bounds.maximum))
    else:
        duration = wish.duration
        if duration is None:
            duration = min(bounds.default, bounds.maximum)
        if duration > bounds.maximum:
            raise _too_long(pointer, bounds.maximum)
        if duration <= timedelta(0):
            raise _refuse(pointer, "validity-not-positive", "The validity must be positive.")
        end = start + timedelta(seconds=int(duration.total_seconds()))
    if wish.not_after is not None and end - start > bounds.maximum:
        raise _too_long(pointer, bounds.maximum)
    clamped = False
    issuer_end = bounds.issuer_not_after
    if issuer_end is not None and end > issuer_end:
        if not bounds.clamp and (wish.not_after is not None or wish.duration is not None):
            raise _refuse(
                pointer,
                "validity-beyond-issuer",
                f"The certificate would outlive its issuer, which expires {issuer_end:%Y-%m-%d}.",
                f"Ask for at most {_days(issuer_end - now)}, or renew the authority.",
            )
        end, clamped = issuer_end, True
    if end <= now or end <= start:
        raise _refuse(pointer, "already-expired", "The certificate would already be expired.")
    return Period(start, end, clamped)


def _too_long(pointer: str, maximum: timedelta) -> Invalid:
    return _refuse(
        pointer,
        "validity-too-long",
        f"The validity is longer than the {_days(maximum)} that this kind of certificate may have.",
        f"Ask for at most {_days(maximum)}.",
    )
