"""Rules for every test of this repository: none reaches beyond this machine."""

import ipaddress
import os
import sys

import hypothesis
import pytest

pytest_plugins = ["pytester"]

# No deadline: the machine's load is not what these tests are about. In CI the same examples every
# time, so that a red run says something about the change; elsewhere new ones are tried.
hypothesis.settings.register_profile("ucm", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "ucm")

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
