"""Answers from memory, given on the event loop before the application is entered."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from ucm.server.problem import Header


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


class Liveness:
    """`GET .../health/live`: the loop of this worker turns."""

    body_bytes = 0

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._answer = HotAnswer(
            200,
            ((b"content-type", b"application/json"), (b"cache-control", b"no-store")),
            b'{"status": "alive"}\n',
        )

    def answer(self, request: HotRequest) -> HotAnswer | None:
        """The same for everyone."""
        return self._answer if request.path == self.prefix else None
