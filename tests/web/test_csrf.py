"""CSRF tokens: their form, their owner, their age."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from ucm.testing.fakes import FakeClock, SequenceIds
from ucm.web.csrf import CsrfTokens
from ucm.web.errors import CsrfFailed


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def tokens(clock):
    return CsrfTokens(b"k" * 32, clock=clock, ids=SequenceIds())


def test_form(tokens, clock):
    token = tokens.issue(7)
    assert re.fullmatch(r"\d+:[0-9a-f]{32}:[0-9a-f]{64}", token)
    assert int(token.split(":")[0]) == int(clock.now().timestamp())
    tokens.check(token, user_id=7)


def test_a_token_belongs_to_one_user_and_one_server(tokens, clock):
    token = tokens.issue(7)
    with pytest.raises(CsrfFailed):
        tokens.check(token, user_id=8)
    other = CsrfTokens(b"x" * 32, clock=clock, ids=SequenceIds())
    with pytest.raises(CsrfFailed):
        other.check(token, user_id=7)


def test_a_token_lives_a_day(tokens, clock):
    token = tokens.issue(7)
    clock.advance(timedelta(hours=24) - timedelta(seconds=1))
    tokens.check(token, user_id=7)
    clock.advance(timedelta(seconds=2))
    with pytest.raises(CsrfFailed, match="expired"):
        tokens.check(token, user_id=7)


def test_a_token_of_the_future_is_refused():
    start = datetime(2030, 1, 1, tzinfo=UTC)
    later = CsrfTokens(b"k", clock=FakeClock(start + timedelta(hours=1)), ids=SequenceIds())
    now = CsrfTokens(b"k", clock=FakeClock(start), ids=SequenceIds())
    with pytest.raises(CsrfFailed, match="expired"):
        now.check(later.issue(7), user_id=7)


@pytest.mark.parametrize("bad", [None, "", "a", "a:b", "a:b:c", "1:2:3:4", "é:b:c", "x" * 300])
def test_rubbish_is_refused(tokens, bad):
    with pytest.raises(CsrfFailed):
        tokens.check(bad, user_id=7)


def test_each_part_is_signed(tokens):
    issued, nonce, signature = tokens.issue(7).split(":")
    for forged in (
        f"{int(issued) + 1}:{nonce}:{signature}",
        f"{issued}:{'0' * 32}:{signature}",
        f"{issued}:{nonce}:{'0' * 64}",
    ):
        with pytest.raises(CsrfFailed):
            tokens.check(forged, user_id=7)
