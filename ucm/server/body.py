"""Request bodies: read whole, under a deadline and a minimum rate, before any thread is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from uvicorn._types import ASGIReceiveEvent

from ucm.server.config import Limits
from ucm.server.problem import BODY_TIMEOUT, Refused, body_too_large

Receive = Callable[[], Awaitable[ASGIReceiveEvent]]


class ClientLeft(Exception):
    """The client closed the connection before its request was complete."""


def declared_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """0 for a request without body, None for a chunked one; the parser has checked the digits."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            return None
    return 0


async def read_body(
    receive: Receive, *, declared: int | None, limits: Limits, spool_dir: Path
) -> tuple[BinaryIO, int]:
    """The body, rewound, and its length; above ``limits.body_memory`` it lies in an unnamed file.

    Raises Refused when it is too large or too slow, ClientLeft when it ends early.
    """
    if declared is not None and declared > limits.body_bytes:
        raise Refused(body_too_large(limit=limits.body_bytes))
    loop = asyncio.get_running_loop()
    begin = loop.time() + limits.body_grace
    length = 0
    # Both are closed by whoever runs the request, after the application is done with them.
    stream: BinaryIO = BytesIO()
    spooled = False
    try:
        async with asyncio.timeout_at(begin) as deadline:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientLeft
                chunk = message.get("body", b"")
                length += len(chunk)
                if length > limits.body_bytes:
                    raise Refused(body_too_large(limit=limits.body_bytes))
                if length > limits.body_memory and not spooled:
                    stream, spooled = _spill(cast("BytesIO", stream), spool_dir=spool_dir), True
                stream.write(chunk)
                if not message.get("more_body", False):
                    break
                deadline.reschedule(begin + length / limits.body_min_rate)
    except TimeoutError:
        stream.close()
        raise Refused(BODY_TIMEOUT) from None
    except (Refused, ClientLeft):
        stream.close()
        raise
    stream.seek(0)
    return stream, length


def _spill(memory: BytesIO, *, spool_dir: Path) -> BinaryIO:
    # The file has no name and mode 0600: nothing is left behind by a crash. Exchange.close closes
    # it.
    spool = cast("BinaryIO", TemporaryFile(dir=spool_dir))  # noqa: SIM115
    spool.write(memory.getbuffer())
    memory.close()
    return spool
