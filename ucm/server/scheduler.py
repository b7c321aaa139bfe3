"""The one scheduler process beside the workers."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

log = logging.getLogger("ucm.server")

STEADY = 10.0
"""Seconds after which a start counts as a success and the back-off begins anew."""
MOST_DELAY = 60.0


STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


@contextmanager
def signals_held() -> Iterator[None]:
    """Keep stop signals pending around a fork.

    Until the child has put its own handlers in place, a signal would run the parent's and be lost;
    the child ends the block with SIG_UNBLOCK of ``STOPS``.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


class SchedulerProcess:
    """Forks ``body``, watches it, and starts it again, later each time when it ends soon after
    its start.
    """

    def __init__(self, body: Callable[[], None]) -> None:
        self._body = body
        self.pid: int | None = None
        self._started = 0.0
        self._due = 0.0
        self._delay = 1.0
        self._restarting = False
        self._retired = False

    def ensure(self, *, inherited: Iterable[int]) -> None:
        """Start the process unless it runs or its back-off lasts; `inherited` descriptors are
        closed in it.
        """
        self.poll()
        if self._retired or self.pid is not None or time.monotonic() < self._due:
            return
        self._started = time.monotonic()
        parent = os.getpid()
        with signals_held():
            pid = os.fork()
            if pid == 0:
                _run(self._body, parent=parent, inherited=inherited)
        self.pid = pid

    def poll(self) -> None:
        """Notice the end of the process. Call it before anything reaps children in general."""
        if self.pid is None:
            return
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self.pid, 0  # reaped by someone else
        if pid == 0:
            return
        self.pid = None
        now = time.monotonic()
        if self._restarting or self._retired:
            self._restarting, self._due = False, now
            return
        self._delay = 1.0 if now - self._started > STEADY else min(self._delay * 2, MOST_DELAY)
        self._due = now + self._delay
        log.error(
            "the scheduler process ended (status %d); it is started again in %.0f s",
            os.waitstatus_to_exitcode(status),
            self._delay,
        )

    def restart(self) -> None:
        """End the process gracefully; the next ``ensure`` starts it again."""
        if self.pid is not None:
            self._restarting = True
            self.kill(signal.SIGTERM)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal if the process lives."""
        self.poll()
        if self.pid is not None:
            os.kill(self.pid, number)

    def retire(self) -> None:
        """End the process gracefully and for good."""
        self._retired = True
        self.kill(signal.SIGTERM)

    def wait(self, *, deadline: float) -> None:
        """Wait for the end, and force it at the `deadline` (monotonic seconds)."""
        while self.pid is not None and time.monotonic() < deadline:
            time.sleep(0.05)
            self.poll()
        self.kill(signal.SIGKILL)


def _run(body: Callable[[], None], *, parent: int, inherited: Iterable[int]) -> None:
    code = 1
    try:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        # Ctrl-C reaches the whole process group; the parent decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        for descriptor in inherited:
            os.close(descriptor)
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
        body()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    finally:
        # Nothing of the parent's stack may run on in this process, whatever happened.
        if sys.exc_info()[1] is not None:
            log.critical("the scheduler process failed", exc_info=True)
        logging.shutdown()
        os._exit(code)


def _follow(parent: int) -> None:
    # A killed parent must not leave a second scheduler behind for the next server to meet.
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
