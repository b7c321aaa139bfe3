"""A running UCM, the CPU time that its processes use and the memory that they hold."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from ucm.testing.server import RunningServer, running_server


def tree(server: RunningServer) -> list[psutil.Process]:
    """The supervisor and all its children."""
    assert server.process is not None
    parent = psutil.Process(server.process.pid)
    return [parent, *parent.children(recursive=True)]


def cpu_seconds(server: RunningServer) -> float:
    """User and system time of the whole tree so far."""
    total = 0.0
    for process in tree(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def pss_megabytes(server: RunningServer) -> float:
    """Proportional set size of the whole tree."""
    return sum(process.memory_full_info().pss for process in tree(server)) / 1e6


@contextlib.contextmanager
def running(environment: Mapping[str, str] | None = None) -> Iterator[RunningServer]:
    """A signed-in server in a temporary directory."""
    with (
        tempfile.TemporaryDirectory(prefix="ucm-bench-") as name,
        running_server(Path(name), environment=environment) as server,
    ):
        yield server
