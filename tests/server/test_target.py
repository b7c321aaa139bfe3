"""Request targets in one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucm.server.environ import ProxyTrust, decoded_path
from ucm.server.target import origin_form, under


@pytest.mark.parametrize(
    ("target", "form"),
    [
        (b"/a/b?c=d", b"/a/b?c=d"),
        (b"/", b"/"),
        (b"/a/...b/.c", b"/a/...b/.c"),
        (b"/a?b=../..", b"/a?b=../.."),
        (b"/a//b", b"/a//b"),
        (b"http://host/a?b", b"/a?b"),
        (b"HTTPS://HOST", b"/"),
        (b"http://other/a", None),
        (b"ftp://host/a", None),
        (b"*", None),
        (b"host:443", None),
        (b"", None),
        (b"/a#b", None),
        (b"/a/../b", None),
        (b"/a/.", None),
        (b"/%2e%2E/b", None),
        (b"/a%2f..%2fb", None),
        (b"/a%00", None),
        (b"/\x00", None),
        (b"/\xff", None),
    ],
)
def test_origin_form(target, form):
    assert origin_form(target, host=b"host") == form


@given(st.binary(max_size=60))
def test_what_is_accepted_has_no_dot_segment_and_no_nul(rest):
    form = origin_form(b"/" + rest, host=b"host")
    if form is not None:
        segments = decoded_path(form.partition(b"?")[0]).split("/")
        assert segments[0] == ""
        assert "." not in segments
        assert ".." not in segments
        assert not any("\x00" in segment for segment in segments)


def test_under():
    assert under("/ocsp", prefix="/ocsp")
    assert under("/ocsp/x", prefix="/ocsp")
    assert under("/ocsp/", prefix="/ocsp/")
    assert not under("/ocspx", prefix="/ocsp")
    assert not under("/ocs", prefix="/ocsp")


def test_trust_covers_networks_of_both_families():
    from ipaddress import ip_network

    trust = ProxyTrust([ip_network("10.0.0.0/8"), ip_network("::1")])
    assert trust.covers("10.255.0.1")
    assert trust.covers("::1")
    assert not trust.covers("11.0.0.1")
    assert not trust.covers("::2")
    assert not ProxyTrust([]).covers("127.0.0.1")
