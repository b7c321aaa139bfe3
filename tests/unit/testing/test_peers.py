"""A missing peer is a skip with a reason on a developer's machine, and a failure in CI."""

import pytest

_NEEDS_A_PEER = """
    import pytest

    @pytest.mark.peer("no-such-program")
    def test_against_a_peer():
        raise AssertionError("ran without its peer")
"""


@pytest.mark.parametrize(("ci", "outcome"), [("", "skipped"), ("true", "errors")])
def test_a_missing_peer(pytester, monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    pytester.makepyfile(_NEEDS_A_PEER)
    result = pytester.runpytest_inprocess("-rs", "-p", "no:randomly", "-p", "no:cacheprovider")
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines(["*no-such-program is not installed*"])


@pytest.mark.peer("openssl")
def test_a_present_peer_lets_the_test_run():
    from ucm.testing import peers

    assert peers.find("openssl") == peers.require("openssl")


def test_a_socket_beyond_this_machine_is_refused():
    import socket

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
        pytest.raises(RuntimeError, match=r"tried to reach 192\.0\.2\.1"),
    ):
        probe.connect(("192.0.2.1", 9))
