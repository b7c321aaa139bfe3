"""HTTP/1.1 on one connection: uvicorn's protocol with deadlines, limits and the client's
certificate.

uvicorn parses and frames; this subclass refuses what RFC 9112 forbids and llhttp lets pass, bounds
what one connection may cost, and tells the application about TLS.
``tests/server/test_uvicorn_surface.py`` fails when a name that is used here moves.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import TypedDict, cast

import httptools
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ucm.server.config import Limits
from ucm.server.problem import (
    BAD_HOST,
    BAD_TARGET,
    BAD_TRANSFER_CODING,
    BAD_VERSION,
    HEADER_TIMEOUT,
    HEADER_TOO_LARGE,
    MALFORMED,
    TARGET_TOO_LONG,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_PIPELINED,
    Refusal,
    Refused,
)
from ucm.server.target import origin_form

LINGER = 5.0
QUIET = 0.3
"""Seconds in which what a refused client still sends is thrown away: closing at once would
reset the connection and destroy the answer on its way (RFC 9112 9.6). Once it is quiet, the
connection closes.
"""

_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")


class TLSInfo(TypedDict):
    """What the handshake told. ``peer_certificate`` is DER of a certificate that chains to a
    trusted CA; ``tls_unique`` (RFC 5929) exists up to TLS 1.2 only, Python has no exporter for
    TLS 1.3.
    """

    peer_certificate: bytes | None
    version: str
    tls_unique: bytes | None


class EdgeProtocol(HttpToolsProtocol):
    """One client connection. The worker calls ``sweep`` a few times a second and ``drain`` on
    stop.
    """

    def __init__(
        self,
        config: Config,
        *,
        server_state: ServerState,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, server_state, {}, loop)
        self.limits = limits
        self.active: RequestResponseCycle | None = None
        self._extensions: dict[str, object] = {"ucm.connection": self}
        self._refusal: Refusal | None = None
        self._header_bytes = 0
        self._raw_bytes = 0
        self._headers_done = False
        self._hosts = 0
        self._host = b""
        self._coded = False
        self._header_since: float | None = None
        self._stalled_since: float | None = None
        self._closing_since: float | None = None
        self._discard_since: float | None = None
        self._heard = 0.0
        self._linger = LINGER
        self._draining = False

    # --- connection ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_since = self.loop.time()
        if self.client is not None and self.client[0].startswith("::ffff:"):
            self.client = (self.client[0][7:], self.client[1])
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._extensions["ucm.tls"] = _tls_info(tls)
        if len(self.connections) > self.limits.connections:
            self._write_refusal(TOO_MANY_CONNECTIONS, head=False)
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._discard_since is not None:
            self._heard = self.loop.time()
            return
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No protocol to upgrade to: the request is answered as it stands, and what follows it
            # is not HTTP.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self.refuse(self._refusal or MALFORMED)
            return
        if self._header_since is not None:
            # The parser holds an unfinished field back, so what has arrived is counted as well.
            self._raw_bytes += len(data)
            if self._raw_bytes > self.limits.header_bytes + self.limits.target_bytes:
                self.refuse(HEADER_TOO_LARGE)
        elif self.active is not None and self.cycle.response_complete:
            # Bytes that begin no message (stray line ends) must not hold the connection open.
            self._header_since = self.loop.time()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a half-closed plain connection until its answer is out; TLS has no half-close
        here.
        """
        active = self.active
        if self.scheme == "https" or active is None or active.response_complete or active.more_body:
            return False
        active.keep_alive = False
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_since = None

    @property
    def gone(self) -> bool:
        """True when nothing that is written reaches the client any more."""
        return self.transport.is_closing()

    @property
    def busy(self) -> bool:
        """True while a request is on its way in or an answer on its way out."""
        answering = self.active is not None and not self.active.response_complete
        return answering or (self._header_since is not None and self._raw_bytes > 0)

    @property
    def reading(self) -> bool:
        """True while the body of the request that is being answered is still on its way in."""
        return self.active is not None and self.active is self.cycle and self.active.more_body

    def abort(self) -> None:
        """Cut the connection: the only way to say that an answer which has begun is not
        complete.
        """
        if self.active is not None:
            self.active.disconnected = True
        self.transport.abort()

    def drain(self) -> None:
        """Answer what comes, and say with each answer that the connection closes."""
        self._draining = True
        for cycle in (self.active, self.cycle, *(queued for queued, _ in self.pipeline)):
            if cycle is not None:
                cycle.keep_alive = False

    def leave(self, *, at_once: bool) -> None:
        """Close an idle connection; `at_once` does not wait for the client to agree (TLS)."""
        if at_once and not self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def sweep(self, now: float) -> None:
        """Enforce the deadlines; `now` is the loop's time."""
        limits = self.limits
        if self._discard_since is not None and now > min(
            self._discard_since + self._linger, max(self._discard_since, self._heard) + QUIET
        ):
            self.transport.close()
        if self.transport.is_closing():
            if self._closing_since is None:
                self._closing_since = now
            elif now - self._closing_since > limits.write_stall:
                self.transport.abort()
        elif self._stalled_since is not None and now - self._stalled_since > limits.write_stall:
            self.transport.abort()
        elif self._header_since is not None and now - self._header_since > limits.header_time:
            self.refuse(HEADER_TIMEOUT)

    # --- refusing --------------------------------------------------------------------------------

    def refuse(self, refusal: Refusal) -> None:
        """Answer the request that is being read and close; requests before it are still
        answered.
        """
        if self._discard_since is not None:
            return  # refused before, for an earlier fault
        self._header_since = None
        self._discard_since = self.loop.time()
        self._linger = (
            QUIET if refusal.status == 408 else LINGER
        )  # a slow client has little under way
        self._unset_keepalive_if_required()
        active = self.active
        if active is not None and not active.response_complete:
            if not self.reading:
                # The fault lies in a later message: an answer now would be taken for the earlier
                # one's.
                self.pipeline.clear()
                active.keep_alive = False
                self._discard_since = float("inf")
                return
            active.disconnected = True
            active.message_event.set()
            if active.response_started:
                self.transport.close()
                return
        self._write_refusal(
            refusal, head=self._headers_done and self.parser.get_method() == b"HEAD"
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _write_refusal(self, refusal: Refusal, *, head: bool) -> None:
        body = refusal.body()
        lines = [b"HTTP/1.1 %d %s" % (refusal.status, refusal.phrase)]
        for name, value in (
            *self.server_state.default_headers,
            *refusal.headers(length=len(body)),
        ):
            lines.append(name + b": " + value)
        self.transport.write(b"\r\n".join([*lines, b"", b"" if head else body]))

    def _fail(self, refusal: Refusal) -> None:
        # Raised through the parser, which stops; data_received then answers.
        self._refusal = refusal
        raise Refused(refusal)

    # --- parser callbacks ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= self.limits.pipelined:
            self._fail(TOO_MANY_PIPELINED)
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]
        if self._header_since is None:
            self._header_since = self.loop.time()
        self._header_bytes = 0
        self._raw_bytes = 0
        self._headers_done = False
        self._hosts = 0
        self._host = b""
        self._coded = False

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.limits.target_bytes:
            self._fail(TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._headers_done:
            return  # a trailer field is never promoted to a header field (RFC 9110 6.5.1)
        self._header_bytes += len(name) + len(value) + 4
        if (
            self._header_bytes > self.limits.header_bytes
            or len(self.headers) >= self.limits.header_count
        ):
            self._fail(HEADER_TOO_LARGE)
        if b"_" in name:
            return  # X_Real_Ip and X-Real-Ip are one key in a WSGI environ
        name = name.lower()
        if name == b"host":
            self._hosts += 1
            self._host = value
        elif name == b"transfer-encoding":
            self._coded = True
            if value.strip().lower() != b"chunked":
                self._fail(BAD_TRANSFER_CODING)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._headers_done = True
        self._check_message()
        self._header_since = None
        super().on_headers_complete()
        if self._draining:
            self.cycle.keep_alive = False

    def _check_message(self) -> None:
        version = self.parser.get_http_version()
        if version == "1.1":
            if self._hosts != 1 or _HOST.fullmatch(self._host) is None:
                self._fail(BAD_HOST)
        elif version != "1.0":
            self._fail(BAD_VERSION)
        elif self._coded:
            self._fail(MALFORMED)  # RFC 9112 6.1: such framing is faulty
        elif self._hosts > 1:
            self._fail(BAD_HOST)
        target = origin_form(self.url, host=self._host)
        if target is None:
            self._fail(BAD_TARGET)
        self.url = cast("bytes", target)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.active = cycle
        super()._start_asgi_task(cycle, app)


def _tls_info(tls: ssl.SSLObject) -> TLSInfo:
    version = tls.version() or ""
    return {
        "peer_certificate": tls.getpeercert(binary_form=True),
        "version": version,
        "tls_unique": None if version == "TLSv1.3" else tls.get_channel_binding("tls-unique"),
    }
