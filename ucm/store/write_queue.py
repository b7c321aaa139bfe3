"""Processes that write to one SQLite file take turns.

SQLite only lets writers sleep and retry, up to a tenth of a second at a time: a process that writes
all the time starves the others for seconds. Here a process first takes the place of the next one,
then the turn itself, and gives the place back: whoever wrote must queue behind those who wait. The
locks are the kernel's, so a process that dies gives up its own. SQLite's lock still decides.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from ucm.api.errors import Busy

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.002


class WriteQueue:
    """The turn of this process among all that write to the file. One thread uses it at a time."""

    def __init__(self, database: Path, *, patience: float) -> None:
        self._paths = (Path(f"{database}-next"), Path(f"{database}-turn"))
        self._patience = patience
        self._files: tuple[int, int] | None = None
        self._process = 0

    def enter(self) -> None:
        """Wait for the turn. Raises ``Busy`` when it does not come."""
        place, turn = self._opened()
        deadline = time.monotonic() + self._patience
        _lock(place, deadline)
        try:
            _lock(turn, deadline)
        finally:
            fcntl.flock(place, fcntl.LOCK_UN)

    def leave(self) -> None:
        """Give the turn back."""
        fcntl.flock(self._opened()[1], fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock files; the next turn opens them again."""
        files, self._files = self._files, None
        for file in files or ():
            os.close(file)

    def _opened(self) -> tuple[int, int]:
        # After a fork the locks of the copied files would be shared with the parent.
        if self._files is None or self._process != os.getpid():
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._files = (
                os.open(self._paths[0], flags, 0o600),
                os.open(self._paths[1], flags, 0o600),
            )
            self._process = os.getpid()
        return self._files


def _lock(file: int, deadline: float) -> None:
    pause = _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(
                    "The database is busy: other processes wrote to it all the time.",
                    hint="Try again. If it lasts, see which process writes for so long.",
                ) from None
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        else:
            return
