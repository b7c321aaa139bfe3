"""Whether the event loop of this process turns, answered on the loop."""

from __future__ import annotations

from ucm.api.hotpath import HotAnswer, HotRequest


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
