"""The parent process: gunicorn's arbiter, which keeps the workers, plus the scheduler process."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from math import ceil
from socket import socket
from types import FrameType
from typing import Any, cast

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger

from ucm.server.config import ServerConfig
from ucm.server.exchange import WSGIApplication
from ucm.server.scheduler import SchedulerProcess, signals_held
from ucm.server.tls import TLSContexts
from ucm.server.worker import EdgeWorker

QUICK = 2.0
"""Seconds that processes get to end after a second stop signal."""


class ArbiterLog(Logger):  # type: ignore[misc]
    """Sends gunicorn's messages through the server's own logging configuration."""

    def setup(self, cfg: Any) -> None:
        """Add no handlers."""
        self.error_log = logging.getLogger("ucm.server.processes")
        self.error_log.setLevel(logging.WARNING)
        self.access_log = logging.getLogger("ucm.server.access")
        self.cfg = cfg


class ServerApplication(BaseApplication):  # type: ignore[misc]
    """What gunicorn calls the application: settings, and the factory that each worker calls
    once.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        application: Callable[[], WSGIApplication],
        contexts: TLSContexts,
        banner: str,
    ) -> None:
        self.config = config
        self.contexts = contexts
        self._application = application
        self._banner = banner
        # The first worker that serves takes the token and says so; the pipe stays empty from then
        # on.
        self._token_out, token_in = os.pipe()
        os.write(token_in, b"1")
        os.close(token_in)
        self._ready_out, self._ready_in = os.pipe()
        os.set_blocking(self._ready_out, False)
        self.was_ready = False
        super().__init__()

    def load_config(self) -> None:
        """gunicorn's settings."""
        config = self.config
        settings: dict[str, Any] = {
            "worker_class": EdgeWorker,
            "workers": config.workers,
            "timeout": config.worker_timeout,
            "graceful_timeout": ceil(config.drain_delay + config.graceful_timeout + QUICK),
            "control_socket_disable": True,
            "logger_class": ArbiterLog,
            "proc_name": "ucm",
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """Called in each worker after the fork."""
        return self._application()

    def announce_ready(self) -> None:
        """Print the start-up line, once in the life of the server."""
        if os.read(self._token_out, 1):
            print(self._banner, flush=True)  # noqa: T201
            os.write(self._ready_in, b"1")

    def note_ready(self) -> None:
        """In the parent: remember whether the server has been up."""
        if not self.was_ready:
            try:
                self.was_ready = bool(os.read(self._ready_out, 1))
            except BlockingIOError:
                return


class ServerArbiter(Arbiter):  # type: ignore[misc]
    """SIGTERM or SIGINT stops gracefully, a second one quickly; SIGHUP replaces workers and
    scheduler.
    """

    def __init__(
        self, app: ServerApplication, *, sockets: list[socket], scheduler: SchedulerProcess
    ) -> None:
        self._scheduler = scheduler
        self._stops = 0
        self._ending = False
        super().__init__(app)
        self.LISTENERS = list(sockets)

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """Queue a signal."""
        if sig in (signal.SIGTERM, signal.SIGINT):
            self._stops += 1
            sig = signal.SIGTERM if self._stops == 1 else signal.SIGQUIT
        super().signal(sig, frame)

    def handle_hup(self) -> None:
        """Replace the workers, then the scheduler."""
        super().handle_hup()
        self._scheduler.restart()

    def handle_usr2(self) -> None:
        """Refused: a second parent would run a second scheduler."""
        self.log.warning("SIGUSR2 is not supported; restart the service to change the program")

    def spawn_worker(self) -> int:
        """Fork a worker; returns in the parent only."""
        with signals_held():
            return cast("int", super().spawn_worker())

    def manage_workers(self) -> None:
        """Start what is missing."""
        self.app.note_ready()
        super().manage_workers()
        inherited = [listener.fileno() for listener in self.LISTENERS]
        inherited += [worker.tmp.fileno() for worker in self.WORKERS.values()]
        self._scheduler.ensure(inherited=inherited)

    def reap_workers(self) -> None:
        """Collect ended children."""
        self._scheduler.poll()
        try:
            super().reap_workers()
        except HaltServer:
            # A second worker that cannot start says nothing new to an arbiter that is ending.
            if not self._ending:
                raise

    def stop(self, graceful: bool = True) -> None:
        """End every child."""
        self._ending = True
        graceful = graceful and self._stops < 2
        self._scheduler.retire()  # first, so that it ends while the workers drain
        begin = time.monotonic()
        super().stop(graceful)
        patience = self.cfg.graceful_timeout if graceful and self._stops < 2 else 0.0
        self._scheduler.wait(deadline=max(begin + patience, time.monotonic() + QUICK))
