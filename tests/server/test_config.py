"""A configuration that cannot be served is refused with what to do about it."""

from __future__ import annotations

import pytest

from ucm.server.config import Limits, ServerConfig


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"https_port": 70000}, "outside 0-65535"),
        ({"https_port": 8443, "http_port": 8443}, "cannot share port 8443"),
        ({"workers": 0}, "at least 1"),
        ({"threads": 0}, "at least 1"),
        ({"trusted_proxies": ("10.0.0.0/33",)}, "no address or CIDR"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, wrong, said):
    with pytest.raises(ValueError, match=said):
        ServerConfig(data_dir=tmp_path, **wrong)


def test_certificate_and_key_come_together(tmp_path):
    with pytest.raises(ValueError, match="give both paths or neither"):
        ServerConfig(data_dir=tmp_path, tls_certificate=tmp_path / "a")


def test_limits_are_above_zero():
    with pytest.raises(ValueError, match="header_bytes must be above zero"):
        Limits(header_bytes=0)


def test_two_ports_may_both_be_chosen_by_the_system(tmp_path):
    ServerConfig(data_dir=tmp_path, https_port=0, http_port=0)
