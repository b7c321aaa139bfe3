"""The ASGI application: hot paths first, then the WSGI application on a bounded pool of threads.

A thread is taken only when the whole request is there and is given back when the client is slow to
read: no thread ever waits on a socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from inspect import isawaitable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Protocol, cast

from uvicorn._types import ASGISendEvent, HTTPScope, Scope

from ucm.api.hotpath import Header, HotAnswer, HotPath, HotRequest
from ucm.server.body import ClientLeft, Receive, declared_length, read_body
from ucm.server.config import Limits
from ucm.server.environ import ProxyTrust, build_environ, decoded_path
from ucm.server.exchange import ApplicationThreads, Exchange, WSGIApplication
from ucm.server.liveness import Liveness
from ucm.server.problem import INTERNAL, PLAIN_HTTP_PATH, QUEUE_FULL, Refusal, Refused
from ucm.server.target import under

log = logging.getLogger("ucm.server")

Send = Callable[[ASGISendEvent], Awaitable[None]]

PIECE = 64 * 1024
_HEALTH_PREFIXES = ("/health", "/api/health")
_LIVE_PATHS = ("/health/live", "/api/health/live", "/api/v2/health/live")
# The server frames messages itself and does not say what it is made of.
_OURS = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "upgrade", "trailer", "te", "server", "date"}
)


class Connection(Protocol):
    """What the gateway needs of the client connection."""

    @property
    def gone(self) -> bool:
        """Nothing reaches the client any more."""
        ...

    @property
    def reading(self) -> bool:
        """The request's body is still on its way in."""
        ...

    def refuse(self, refusal: Refusal) -> None:
        """Answer without reading the rest, then close."""
        ...

    def abort(self) -> None:
        """Cut off."""
        ...


class Gateway:
    """Serves one worker's requests of both ports.

    Optional attributes of the application: ``protocol_prefixes`` (paths served on the plain port,
    besides health) and ``hot_paths``.
    """

    def __init__(
        self,
        application: WSGIApplication,
        *,
        limits: Limits,
        threads: ApplicationThreads,
        trust: ProxyTrust,
        spool_dir: Path,
    ) -> None:
        self._application = application
        self._limits = limits
        self._threads = threads
        self._trust = trust
        self._spool_dir = spool_dir
        self._plain = (*_HEALTH_PREFIXES, *getattr(application, "protocol_prefixes", ()))
        self._hot: Sequence[HotPath] = (
            *getattr(application, "hot_paths", ()),
            *(Liveness(path) for path in _LIVE_PATHS),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = cast("HTTPScope", scope)
        connection = cast("Connection", (request.get("extensions") or {})["ucm.connection"])
        try:
            await self._serve(request, receive, send, connection=connection)
        except ClientLeft:
            return
        except Refused as refused:
            refusal = refused.refusal
            if (
                connection.reading
                and declared_length(cast("list[Header]", request["headers"])) != 0
            ):
                connection.refuse(replace(refusal, close=True))
            else:
                await _send_refusal(refusal, send=send)

    async def _serve(
        self, scope: HTTPScope, receive: Receive, send: Send, *, connection: Connection
    ) -> None:
        path = decoded_path(scope["raw_path"])
        if scope["scheme"] == "http" and not any(under(path, prefix=p) for p in self._plain):
            raise Refused(PLAIN_HTTP_PATH)
        headers = cast("list[Header]", scope["headers"])
        declared = declared_length(headers)
        body: BinaryIO | None = None if declared != 0 else BytesIO()
        length = 0
        for hot in self._hot:
            if not under(path, prefix=hot.prefix) or not _hot_method(
                scope["method"], declared, hot
            ):
                continue
            if body is None:
                body, length = await self._read(receive, declared=declared)
            question = HotRequest(
                scope["method"], path, scope["query_string"], headers, body.read(), scope["scheme"]
            )
            body.seek(0)
            answer = hot.answer(question)
            if isawaitable(answer):
                answer = await answer
            if answer is not None:
                await _send_answer(answer, send=send)
                return
        if body is None:
            body, length = await self._read(receive, declared=declared)
        if self._threads.full:
            body.close()
            raise Refused(QUEUE_FULL)
        environ = build_environ(scope, path=path, body=body, length=length, trust=self._trust)
        exchange = Exchange(self._application, environ, loop=asyncio.get_running_loop())
        await self._answer(exchange, scope, send, connection=connection)

    async def _read(self, receive: Receive, *, declared: int | None) -> tuple[BinaryIO, int]:
        return await read_body(
            receive, declared=declared, limits=self._limits, spool_dir=self._spool_dir
        )

    async def _answer(
        self, exchange: Exchange, scope: HTTPScope, send: Send, *, connection: Connection
    ) -> None:
        step = self._threads.submit(exchange, exchange.start)
        try:
            await self._relay(exchange, step, scope, send, connection=connection)
        finally:
            exchange.abandoned = True
            if exchange.paused:
                self._threads.submit(exchange, exchange.close)

    async def _relay(
        self,
        exchange: Exchange,
        step: Future[None],
        scope: HTTPScope,
        send: Send,
        *,
        connection: Connection,
    ) -> None:
        sink: _Sink | None = None
        while True:
            await exchange.wake.wait()
            exchange.wake.clear()
            ended = step.done()  # before the chunks are taken: none can follow then
            data = exchange.take()
            error = step.exception() if ended else None
            if error is not None or (ended and not exchange.status):
                await _report(error, scope, send, connection=None if sink is None else connection)
                return
            if connection.gone:
                if ended:
                    connection.abort()
                    return
                continue
            whole = ended and not exchange.paused
            if sink is None:
                if not exchange.status:
                    continue
                sink = _Sink(exchange, scope, send, spool_dir=self._spool_dir)
                await sink.start(whole=len(data) if whole else None)
            await sink.write(data, last=whole)
            if whole:
                return
            if ended:
                step = self._threads.submit(exchange, exchange.resume())


async def _report(
    error: BaseException | None, scope: HTTPScope, send: Send, *, connection: Connection | None
) -> None:
    """Log a failed application; cut the connection when the answer had begun, else say so."""
    log.error(
        "%s %s failed in the application%s",
        scope["method"],
        scope["path"],
        "" if error is not None else ": it did not call start_response (PEP 3333)",
        exc_info=error,
    )
    if connection is not None:
        connection.abort()
    else:
        await _send_refusal(INTERNAL, send=send)


class _Sink:
    """Puts an answer on the wire, piece by piece as the client reads."""

    def __init__(
        self, exchange: Exchange, scope: HTTPScope, send: Send, *, spool_dir: Path
    ) -> None:
        self._exchange = exchange
        self._scope = scope
        self._send = send
        self._spool_dir = spool_dir
        self._held: BinaryIO | None = None
        self._status = int(exchange.status[:3])
        self._headers = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in exchange.headers
            if name.lower() not in _OURS
        ]
        self._bodiless = self._status in (204, 304) or scope["method"] == "HEAD"

    async def start(self, *, whole: int | None) -> None:
        """Send the header; `whole` is the length of the body when all of it is there."""
        self._exchange.headers_sent = True
        declared = any(name.lower() == b"content-length" for name, _ in self._headers)
        if self._status in (204, 304):
            self._headers = [item for item in self._headers if item[0].lower() != b"content-length"]
        elif not declared and whole is not None and not self._bodiless:
            self._headers.append((b"content-length", b"%d" % whole))
        elif not declared and self._scope["http_version"] == "1.0" and not self._bodiless:
            # HTTP/1.0 has no chunks: the body is collected in a file until its length is known.
            self._held = cast("BinaryIO", TemporaryFile(dir=self._spool_dir))  # noqa: SIM115
            return
        await self._send_start()

    async def _send_start(self) -> None:
        await self._send(
            {"type": "http.response.start", "status": self._status, "headers": self._headers}
        )

    async def write(self, data: bytes, *, last: bool) -> None:
        """Send a part of the body; returns when the client has taken enough for more to be made."""
        if self._held is not None:
            self._held.write(data)
            if last:
                await self._release(self._held)
            return
        if self._bodiless:
            data = b""
        if len(data) > PIECE:
            for begin in range(0, len(data), PIECE):
                await self._body(data[begin : begin + PIECE], more=True)
            data = b""
        if data or last:
            await self._body(data, more=not last)

    async def _release(self, held: BinaryIO) -> None:
        with held:
            self._headers.append((b"content-length", b"%d" % held.tell()))
            await self._send_start()
            held.seek(0)
            while data := held.read(PIECE):
                await self._body(data, more=True)
            await self._body(b"", more=False)

    async def _body(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


def _hot_method(method: str, declared: int | None, hot: HotPath) -> bool:
    if declared == 0:
        return method in ("GET", "HEAD")
    return method == "POST" and declared is not None and declared <= hot.body_bytes


async def _send_answer(answer: HotAnswer, *, send: Send) -> None:
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


async def _send_refusal(refusal: Refusal, *, send: Send) -> None:
    body = refusal.body()
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": refusal.headers(length=len(body)),
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})
