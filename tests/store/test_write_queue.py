"""Processes take turns at the database file, and a dead one gives its turn up."""

import subprocess
import sys
import threading
import time

import pytest

from ucm.api.errors import Busy
from ucm.store.write_queue import WriteQueue

_HOLDER = """
import sys
from pathlib import Path
from ucm.store.write_queue import WriteQueue
queue = WriteQueue(Path(sys.argv[1]), patience=10)
queue.enter()
print("mine", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the turn."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path / "ucm.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"mine\n"
    yield process
    process.kill()
    process.communicate(timeout=20)


def test_a_turn_that_does_not_come_is_busy_and_that_of_a_dead_process_is_free(tmp_path, holder):
    queue = WriteQueue(tmp_path / "ucm.db", patience=0.05)
    for _ in range(2):
        with pytest.raises(Busy):
            queue.enter()
    holder.kill()
    holder.wait(20)
    queue.enter()
    queue.leave()
    queue.close()


def test_who_wrote_queues_behind_who_waits(tmp_path):
    """A writer that asks again at once does not get in before the one that waits."""
    greedy, patient = (WriteQueue(tmp_path / "ucm.db", patience=20) for _ in range(2))
    order, waiting = [], threading.Event()

    def wait_for_a_turn():
        waiting.set()
        patient.enter()
        order.append("patient")
        patient.leave()

    greedy.enter()
    thread = threading.Thread(target=wait_for_a_turn)
    thread.start()
    assert waiting.wait(20)
    time.sleep(0.1)
    for _ in range(3):
        order.append("greedy")
        greedy.leave()
        greedy.enter()
    greedy.leave()
    thread.join(20)
    assert order == ["greedy", "patient", "greedy", "greedy"]
    greedy.close()
    patient.close()


def test_the_lock_files_are_the_owners_alone(tmp_path):
    queue = WriteQueue(tmp_path / "ucm.db", patience=1)
    queue.enter()
    queue.close()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"ucm.db-next": 0o600, "ucm.db-turn": 0o600}
