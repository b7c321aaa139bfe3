"""The WSGI environment of a request (PEP 3333), and whose headers are believed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

from uvicorn._types import HTTPScope

_REMEMBERED = 512
_keys: dict[bytes, str] = {
    b"content-type": "CONTENT_TYPE",
    b"content-length": "CONTENT_LENGTH",
}
# Not passed on: the body is no longer chunked, and HTTP_PROXY would steer outbound libraries of
# the application.
_HOP = frozenset({b"transfer-encoding", b"content-length", b"proxy", b"expect"})
_FORWARDED = (b"x-forwarded-", b"x-ssl-", b"x-client-cert", b"x-real-ip", b"forwarded")


class ProxyTrust:
    """Decides whether a peer may speak for others."""

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self._known: dict[str, bool] = {}

    def covers(self, address: str) -> bool:
        """Whether the peer lies in a trusted network."""
        if not self._networks:
            return False
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            ip = ip_address(address)
            known = any(ip in network for network in self._networks)
            self._known[address] = known
        return known


def decoded_path(raw_path: bytes) -> str:
    """The percent-decoded path in the latin-1 form that PEP 3333 asks for."""
    if b"%" in raw_path:
        raw_path = unquote_to_bytes(raw_path)
    return raw_path.decode("latin-1")


def build_environ(
    scope: HTTPScope, *, path: str, body: BinaryIO, length: int, trust: ProxyTrust
) -> dict[str, Any]:
    """The environment, with three keys of our own.

    ``ucm.tls`` is a ``TLSInfo`` or None, ``ucm.port`` is "https" or "http", ``ucm.client`` the
    (address, port) of the real peer. Forwarding headers are there only when that peer is a trusted
    proxy; otherwise ``ucm.forwarded_dropped`` lists the ones that were taken away.
    """
    client = scope["client"] or ("", 0)
    server = scope["server"] or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "RAW_URI": scope["raw_path"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": "HTTP/" + scope["http_version"],
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "ucm.tls": (scope.get("extensions") or {}).get("ucm.tls"),
        "ucm.port": scope["scheme"],
        "ucm.client": client,
    }
    if length:
        environ["CONTENT_LENGTH"] = str(length)
    trusted = trust.covers(client[0])
    for name, value in scope["headers"]:
        if name in _HOP:
            continue
        if not trusted and name.startswith(_FORWARDED):
            environ.setdefault("ucm.forwarded_dropped", []).append(name.decode("latin-1"))
            continue
        key = _keys.get(name) or _remember(name)
        text = value.decode("latin-1")
        if key in environ:
            # RFC 9110 5.3; cookies are the exception (RFC 6265 5.4).
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text
    return environ


def _remember(name: bytes) -> str:
    key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    if len(_keys) < _REMEMBERED:
        _keys[name] = key
    return key
