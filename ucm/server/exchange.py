"""One WSGI request between a pool thread that produces the answer and the loop that sends it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from types import TracebackType
from typing import Any

HIGH_WATER = 256 * 1024
"""Bytes a thread produces ahead before it leaves the request to the loop and takes other work."""

Environ = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
WSGIApplication = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class ApplicationThreads:
    """The bounded pool that the application runs on. Methods are called on the loop only."""

    def __init__(self, *, threads: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ucm-request")
        self._most = threads + queue
        self._jobs = 0

    @property
    def full(self) -> bool:
        """Whether a new request must be turned away."""
        return self._jobs >= self._most

    def submit(self, exchange: Exchange, job: Callable[[], None]) -> Future[None]:
        """Run a step of the exchange; its ``wake`` is set when the step ended, however it ended."""
        self._jobs += 1
        # One context for every step: what the application keeps in context variables follows the
        # request from thread to thread.
        future = self._pool.submit(exchange.context.run, job)
        future.add_done_callback(
            lambda _: exchange.loop.call_soon_threadsafe(self._ended, exchange)
        )
        return future

    def _ended(self, exchange: Exchange) -> None:
        self._jobs -= 1
        exchange.wake.set()

    def close(self) -> None:
        """Take no more work; running steps go on."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Exchange:
    """The state of one request. ``start``, ``produce`` and ``close`` run on a pool thread, one at
    a time; ``chunks`` carries bytes from there to the loop.

    After a step the application is done, unless ``paused`` says that it stopped at ``HIGH_WATER``:
    then ``resume`` and ``produce`` go on with it, on any thread. ``abandoned`` is set by the loop
    when nobody wants the rest.
    """

    def __init__(
        self, application: WSGIApplication, environ: Environ, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self.context = Context()
        self.wake = asyncio.Event()
        self.chunks: deque[bytes] = deque()
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.paused = False
        self.headers_sent = False
        self.closed = False
        self.abandoned = False
        self._application = application
        self._environ = environ
        self._head = environ["REQUEST_METHOD"] == "HEAD"
        self._length_declared = False
        self._woken = False
        self._result: Iterable[bytes] = ()
        self._iterator: Iterator[bytes] = iter(())

    # --- on a pool thread ------------------------------------------------------------------------

    def start(self) -> None:
        """Call the application and produce the first part of its answer."""
        self._result = self._application(self._environ, self.start_response)
        self._iterator = iter(self._result)
        self.produce()

    def produce(self) -> None:
        """Iterate until the end or until ``HIGH_WATER`` bytes are ahead."""
        ahead = 0
        try:
            for chunk in self._iterator:
                if self._head and self.status:
                    break
                if not chunk:
                    continue
                self.chunks.append(chunk)
                ahead += len(chunk)
                if ahead >= HIGH_WATER:
                    self.paused = not self.abandoned
                    return
                if not self._length_declared:
                    self._notify()
        finally:
            if not self.paused:
                self.close()

    def close(self) -> None:
        """End the application's iterable and drop the body; safe to call twice."""
        if self.closed:
            return
        self.closed = True
        close = getattr(self._result, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._environ["wsgi.input"].close()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333 `start_response`."""
        if exc_info is not None and exc_info[1] is not None and self.headers_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        if self.status and exc_info is None:
            raise RuntimeError(
                "start_response was called a second time without exc_info (PEP 3333)"
            )
        self.status = status
        self.headers = headers
        self._length_declared = any(name.lower() == "content-length" for name, _ in headers)
        return self.chunks.append

    def _notify(self) -> None:
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self.wake.set)

    # --- on the loop -----------------------------------------------------------------------------

    def resume(self) -> Callable[[], None]:
        """The next step of a paused exchange."""
        self.paused = False
        return self.produce

    def take(self) -> bytes:
        """What is there now, joined."""
        self._woken = False
        count = len(self.chunks)
        if count == 1:
            return self.chunks.popleft()
        return b"".join([self.chunks.popleft() for _ in range(count)])
