"""Rules for every test of this repository: none reaches beyond this machine."""

import ipaddress
import sys

import pytest

pytest_plugins = ["pytester"]

_WATCHED = {"socket.connect", "socket.sendto", "socket.sendmsg"}


def _refuse_other_machines(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _WATCHED:
        return
    address = arguments[1]
    if not isinstance(address, tuple) or not address:  # unix sockets; sendmsg on a connected socket
        return
    host = str(address[0])
    if host in ("", "localhost"):
        return
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        local = False
    else:
        local = parsed.is_loopback or parsed.is_unspecified
    if not local:
        raise RuntimeError(
            f"a test tried to reach {host}: tests talk to this machine only; "
            "start a peer on 127.0.0.1 or use a fake of ucm.testing"
        )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse sockets beyond loopback for the whole run."""
    sys.addaudithook(_refuse_other_machines)
