"""For how long: bounds, durations from notBefore, and never beyond the issuer."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucm.api.errors import Invalid
from ucm.domain.validity import BACKDATE, MAX_LEAF_VALIDITY, Bounds, Wish, plan

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def bounds(**more):
    return Bounds(**{"default": 365 * DAY, "maximum": MAX_LEAF_VALIDITY} | more)


def test_the_default_starts_a_little_earlier():
    period = plan(NOW, wish=Wish(), bounds=bounds())
    assert period.not_before == NOW - BACKDATE
    assert period.not_after - period.not_before == 365 * DAY


def test_the_longest_explicit_end_is_not_stretched_by_backdating():
    end = NOW + MAX_LEAF_VALIDITY
    period = plan(NOW, wish=Wish(not_after=end), bounds=bounds())
    assert period.not_after == end
    assert period.not_after - period.not_before == MAX_LEAF_VALIDITY


def test_validity_nests_within_the_issuers_start():
    start = NOW - timedelta(minutes=1)
    period = plan(NOW, wish=Wish(), bounds=bounds(issuer_not_before=start))
    assert period.not_before == start


def test_fractions_of_seconds_are_dropped():
    wish = Wish(not_after=NOW.replace(microsecond=7) + DAY)
    period = plan(NOW.replace(microsecond=5), wish=wish, bounds=bounds())
    assert period.not_before.microsecond == period.not_after.microsecond == 0


def test_an_end_and_a_duration_are_ambiguous():
    with pytest.raises(Invalid, match="either"):
        plan(NOW, wish=Wish(not_after=NOW + DAY, duration=DAY), bounds=bounds())


@given(
    duration=st.integers(-10, 5000),
    issuer_days=st.integers(1, 8000),
    maximum=st.integers(1, 3650),
    clamp=st.booleans(),
)
def test_a_plan_keeps_every_bound(duration, issuer_days, maximum, clamp):
    limits = bounds(
        default=min(90, maximum) * DAY,
        maximum=maximum * DAY,
        issuer_not_before=NOW - DAY,
        issuer_not_after=NOW + issuer_days * DAY,
        clamp=clamp,
    )
    wish = Wish(duration=duration * DAY)
    # Counted from notBefore, five minutes ago: that many whole days always fit, one more never.
    if duration <= 0 or duration > maximum or (duration > issuer_days and not clamp):
        with pytest.raises(Invalid) as error:
            plan(NOW, wish=wish, bounds=limits)
        assert error.value.fields[0].pointer == "/validity_days"
        return
    period = plan(NOW, wish=wish, bounds=limits)
    assert period.not_before <= NOW < period.not_after
    assert period.not_after <= NOW + issuer_days * DAY
    assert period.not_after - period.not_before <= min(maximum, duration) * DAY
    assert period.clamped == (period.not_after - period.not_before < duration * DAY)
