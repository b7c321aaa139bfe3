"""Where a request came from: forwarding headers count from trusted proxies only."""

import pytest

from ucm.web.authn import client_address

PROXY = ("10.0.0.0/8", "::1")


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("192.0.2.1", {}, "192.0.2.1"),
        ("192.0.2.1", {"HTTP_X_FORWARDED_FOR": "198.51.100.7"}, "192.0.2.1"),
        ("192.0.2.1", {"HTTP_X_REAL_IP": "198.51.100.7"}, "192.0.2.1"),
        ("10.1.1.1", {"HTTP_X_FORWARDED_FOR": "198.51.100.7"}, "198.51.100.7"),
        ("10.1.1.1", {"HTTP_X_REAL_IP": "198.51.100.7"}, "198.51.100.7"),
        ("10.1.1.1", {}, "10.1.1.1"),
        # What the client itself wrote stands to the left and is not believed.
        ("10.1.1.1", {"HTTP_X_FORWARDED_FOR": "1.2.3.4, 198.51.100.7"}, "198.51.100.7"),
        ("10.1.1.1", {"HTTP_X_FORWARDED_FOR": "198.51.100.7, 10.2.2.2"}, "198.51.100.7"),
        ("10.1.1.1", {"HTTP_X_FORWARDED_FOR": "198.51.100.7, rubbish"}, "10.1.1.1"),
        ("10.1.1.1", {"HTTP_X_FORWARDED_FOR": "198.51.100.7:4711"}, "198.51.100.7"),
        ("::1", {"HTTP_X_FORWARDED_FOR": "[2001:db8::5]:4711"}, "2001:db8::5"),
        ("::1", {"HTTP_X_FORWARDED_FOR": "::ffff:198.51.100.7"}, "198.51.100.7"),
        ("", {}, None),
        ("rubbish", {"HTTP_X_FORWARDED_FOR": "198.51.100.7"}, None),
    ],
)
def test_client_address(peer, headers, expected):
    assert client_address({"REMOTE_ADDR": peer, **headers}, trusted=PROXY) == expected


def test_without_trusted_proxies_no_header_counts():
    environ = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "198.51.100.7"}
    assert client_address(environ, trusted=()) == "127.0.0.1"
