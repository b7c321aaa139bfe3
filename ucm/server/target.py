"""Request targets and paths: one form for everything behind the parser."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes, urlsplit


def origin_form(target: bytes, *, host: bytes) -> bytes | None:
    """The target as absolute path and query (RFC 9112 3.2.1), or None when it must be refused.

    An absolute-form target is accepted when its authority equals the Host field. Refused are
    fragments, NUL, and dot segments also in percent-encoded form: a client resolves them itself
    (RFC 3986 5.2.4), and what compares path prefixes must not be fooled by them.
    """
    if not target.startswith(b"/"):
        parts = urlsplit(target)
        if parts.scheme not in (b"http", b"https") or parts.netloc.lower() != host.lower():
            return None
        target = (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
    if b"#" in target or not target.isascii():
        return None
    path = target.partition(b"?")[0]
    if b"%" in path:
        path = unquote_to_bytes(path)
    if b"\x00" in path:
        return None
    if b"/." in path and any(segment in (b".", b"..") for segment in path.split(b"/")):
        return None
    return target


def under(path: str, *, prefix: str) -> bool:
    """Whether a path equals the prefix or lies below it; `/ocsp` covers `/ocsp/x`, not `/ocspx`."""
    if not path.startswith(prefix):
        return False
    return len(path) == len(prefix) or prefix.endswith("/") or path[len(prefix)] == "/"
