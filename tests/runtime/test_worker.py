"""Real worker processes share the work, end when told, and leave it to the next when killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ucm.api.actor import Actor
from ucm.api.events import CaDeleted
from ucm.runtime.container import Substitutes, build_container
from ucm.testing.app import boot_settings

SYSTEM = Actor.system("test")
PROGRAM = """
import logging, pathlib, sys
logging.basicConfig(level=logging.INFO)
from ucm.runtime.container import build_container
from ucm.runtime.worker import run_worker
from ucm.testing.app import boot_settings
run_worker(build_container(boot_settings(pathlib.Path(sys.argv[1]))))
"""


@pytest.fixture
def workers(tmp_path):
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        log = (tmp_path / f"worker{len(started)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "data")], stderr=log, stdout=log
        )
        log.close()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def container_of(tmp_path: Path):
    return build_container(boot_settings(tmp_path / "data"), substitutes=Substitutes(environ={}))


def wait_until(condition, *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def finished(container) -> dict[str, int]:
    return {job.id: job.run_count for job in container.jobs.all()}


def test_two_workers_share_the_jobs_and_end_when_told(workers, tmp_path):
    container = container_of(tmp_path)
    pair = [workers(), workers()]
    wait_until(lambda: len(finished(container)) == 4 and all(finished(container).values()))
    time.sleep(2.5)  # both have looked again meanwhile
    assert set(finished(container).values()) == {1}
    for process in pair:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(20) for process in pair] == [0, 0]
    container.close()


def test_after_a_kill_the_next_worker_goes_on(workers, tmp_path):
    container = container_of(tmp_path)
    first = workers()
    wait_until(lambda: all(finished(container).values()) and finished(container))
    os.kill(first.pid, signal.SIGKILL)
    first.wait(10)
    with container.uow.begin(SYSTEM) as tx:
        tx.emit(CaDeleted(ca_id=1, subject="CN=Gone"))
    container.jobs.request("core.sessions", actor=SYSTEM)
    workers()
    wait_until(lambda: finished(container)["core.sessions"] == 2)

    def delivered() -> bool:
        with container.uow.read() as reader:
            return reader.outbox.pending_count() == 0

    wait_until(delivered)
    container.close()
