"""Answers from memory, given on the server's event loop before the application is entered."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

Header = tuple[bytes, bytes]
"""Name in lower case, and value."""


@dataclass(frozen=True, slots=True)
class HotRequest:
    """What a hot path sees: `path` is percent-decoded latin-1, header names are lower case."""

    method: str
    path: str
    query: bytes
    headers: list[Header]
    body: bytes
    port: str


@dataclass(frozen=True, slots=True)
class HotAnswer:
    """A whole response; content-length is added."""

    status: int
    headers: tuple[Header, ...]
    body: bytes


class HotPath(Protocol):
    """Answers GET, HEAD, and POST up to ``body_bytes``, below ``prefix``.

    ``answer`` runs on the loop: it may not block and takes microseconds. None hands the request on
    to the application. The application object lists its hot paths, in order, in an attribute
    ``hot_paths``.
    """

    prefix: str
    body_bytes: int

    def answer(self, request: HotRequest) -> HotAnswer | Awaitable[HotAnswer | None] | None:
        """The response, or None."""
        ...
