"""A worker process: one event loop that serves both ports."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, cast

import uvloop
from gunicorn.errors import AppImportError
from gunicorn.workers.base import Worker
from uvicorn import Config
from uvicorn.server import ServerState

from ucm.server.authorities import ClientAuthorities
from ucm.server.config import ServerConfig
from ucm.server.environ import ProxyTrust
from ucm.server.exchange import ApplicationThreads, WSGIApplication
from ucm.server.gateway import Gateway
from ucm.server.protocol import EdgeProtocol
from ucm.server.scheduler import STOPS
from ucm.server.tls import TLSContexts

log = logging.getLogger("ucm.server")

TICK = 0.1
IDLE_GRACE = 1.0
"""Seconds in which idle connections may still send a request after the listeners closed: a
client that keeps its connection alive must not find it cut under a request that is already on
its way.
"""
SWITCH_INTERVAL = 0.001
"""Seconds after which a computing thread hands the interpreter lock over. Four threads that
compute hold an answer of the loop up by 170 ms (99th percentile) with Python's 0.005, by 50 ms
with 0.001; that costs a tenth more CPU per request, and 0.0005 another tenth.
"""


class CannotStart(Exception):
    """The application cannot start as the operator configured it; ``str`` is all they need to
    read. A server that was never up ends with it.
    """


class EdgeWorker(Worker):  # type: ignore[misc]
    """gunicorn's worker contract around ``WorkerLoop``."""

    def init_signals(self) -> None:
        """Leave the signals to the loop; Ctrl-C reaches the whole process group, but the
        arbiter decides.
        """
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        faulthandler.enable()  # the arbiter ends a hung worker with SIGABRT: show where it hung

    def load_wsgi(self) -> None:
        """Make the application, after the fork."""
        # A server that has been up is not stopped because one replacement cannot start (a database
        # that is away for a moment): gunicorn halts for workers that never booted, and starts
        # others again.
        self.booted = bool(self.app.was_ready)
        made = False
        try:
            super().load_wsgi()
            made = True
        except CannotStart as error:
            if self.booted:
                raise
            raise AppImportError(str(error)) from error  # gunicorn prints it and ends the server
        finally:
            if not made and self.booted:
                time.sleep(1.0)

    def run(self) -> None:
        """Serve until told to stop."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        application = cast("WSGIApplication", self.wsgi)
        serving = WorkerLoop(
            self.app.config,
            application=application,
            sockets=self.sockets,
            contexts=self.app.contexts,
            worker=self,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            clean = runner.run(serving.run())
        close = getattr(application, "close", None)
        if clean and close is not None:
            close()


class WorkerLoop:
    """Listens, keeps deadlines, drains. The first socket speaks TLS, the second, if any, plain
    http.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        application: WSGIApplication,
        sockets: list[Any],
        contexts: TLSContexts,
        worker: EdgeWorker,
    ) -> None:
        self._config = config
        self._application = application
        self._sockets = sockets
        self._contexts = contexts
        self._worker = worker
        self._state = ServerState()
        self._connections = cast("set[EdgeProtocol]", self._state.connections)
        self._stop = asyncio.Event()
        self._quick = False
        read = getattr(application, "client_ca_certificates", None)
        self._authorities = ClientAuthorities(read, contexts=contexts) if read else None

    async def run(self) -> bool:
        """Serve until SIGTERM, SIGQUIT or the death of the parent. True when every request was
        finished.
        """
        config = self._config
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGQUIT, self._stop_now)
        threads = ApplicationThreads(threads=config.threads, queue=config.limits.queue)
        gateway = Gateway(
            self._application,
            limits=config.limits,
            threads=threads,
            trust=ProxyTrust(config.proxy_networks()),
            spool_dir=config.data_dir,
        )
        self._date()
        following = None
        if self._authorities is not None:
            await self._authorities.refresh()
            following = loop.create_task(self._authorities.follow())
        servers = await self._listen(loop, _uvicorn_config(gateway, config))
        self._worker.app.announce_ready()
        await self._serve_until(loop, stopped=self._stop.is_set)
        shutting_down = getattr(self._application, "shutting_down", None)
        if shutting_down is not None:
            shutting_down.set()
        end = loop.time() + config.drain_delay
        await self._serve_until(loop, stopped=lambda: self._quick or loop.time() >= end)
        for server in servers:
            server.close()
        clean = await self._drain(loop)
        if following is not None:
            following.cancel()
        threads.close()
        return clean

    async def _listen(
        self, loop: asyncio.AbstractEventLoop, config: Config
    ) -> list[asyncio.base_events.Server]:
        limits = self._config.limits

        def plain() -> EdgeProtocol:
            return EdgeProtocol(config, server_state=self._state, limits=limits, loop=loop)

        def secure() -> EdgeProtocol:
            self._contexts.refresh()  # before the handshake begins, see TLSContexts
            return plain()

        backlog = self._config.backlog
        servers = [
            await loop.create_server(
                secure,
                sock=self._sockets[0],
                ssl=self._contexts.listener,
                ssl_handshake_timeout=limits.handshake_time,
                ssl_shutdown_timeout=10.0,
                backlog=backlog,
            )
        ]
        servers += [
            await loop.create_server(plain, sock=sock, backlog=backlog)
            for sock in self._sockets[1:]
        ]
        return servers

    async def _serve_until(
        self, loop: asyncio.AbstractEventLoop, *, stopped: Callable[[], bool]
    ) -> None:
        ticks = 0
        while not stopped():
            await asyncio.sleep(TICK)
            now = loop.time()
            for connection in list(self._connections):
                connection.sweep(now)
            ticks += 1
            if ticks % 10 == 0:
                self._date()
                self._worker.notify()
                if os.getppid() != self._worker.ppid:
                    log.warning("the parent process is gone; this worker stops")
                    self._stop.set()

    async def _drain(self, loop: asyncio.AbstractEventLoop) -> bool:
        begin = loop.time()
        while self._connections and not self._quick:
            now = loop.time()
            if now - begin > self._config.graceful_timeout:
                break
            for connection in list(self._connections):
                connection.drain()
                connection.sweep(now)
                if not connection.busy and now - begin > IDLE_GRACE:
                    connection.leave(at_once=now - begin > 2 * IDLE_GRACE)
            self._date()
            self._worker.notify()
            await asyncio.sleep(0.05)
        clean = not self._connections
        for connection in list(self._connections):
            connection.abort()
        if not clean:
            log.warning("the time for a graceful stop ran out; connections were cut")
        await asyncio.sleep(0)
        return clean

    def _stop_now(self) -> None:
        self._quick = True
        self._stop.set()

    def _date(self) -> None:
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]


def _uvicorn_config(gateway: Gateway, config: ServerConfig) -> Config:
    made = Config(
        cast("Any", gateway),
        http=EdgeProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=cast("int", config.limits.idle_time),
    )
    made.load()
    return made
