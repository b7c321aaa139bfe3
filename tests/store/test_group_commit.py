"""Concurrent write units on SQLite share one durable commit, and one unit's failure is its own."""

import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import event, text

from ucm.api.errors import Busy, StorageFailed
from ucm.store import migrate
from ucm.store.engine import READ_ONLY, create_engine
from ucm.store.group_commit import GroupCommit
from ucm.testing.fakes import FakeClock


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/ucm.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE owner (id INTEGER PRIMARY KEY)"))
        connection.execute(
            text("CREATE TABLE note (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES owner(id))")
        )
    yield engine
    engine.dispose()


@pytest.fixture
def commits(engine):
    """Times at which a transaction was committed."""
    seen = []
    event.listen(engine, "commit", lambda connection: seen.append(time.monotonic()))
    return seen


@pytest.fixture
def group(engine):
    group = GroupCommit(engine, monotonic=FakeClock().monotonic)
    yield group
    group.close()


def notes(engine):
    with engine.execution_options(**{READ_ONLY: True}).connect() as connection:
        return set(connection.execute(text("SELECT id FROM note")).scalars())


def write(connection, number, owner=None):
    connection.execute(text("INSERT INTO note VALUES (:n, :o)"), {"n": number, "o": owner})


class Crowd:
    """Threads that all wait for their turn while the first unit is still open."""

    def __init__(self, group):
        self.group = group
        self.outcomes = {}
        self.order = []
        self._threads = []

    def unit(self, number, body):
        def run():
            try:
                with self.group.unit() as connection:
                    self.order.append(number)
                    body(connection)
            except Exception as error:  # noqa: BLE001 the test looks at every outcome
                self.outcomes[number] = error
            else:
                self.outcomes[number] = None

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()

    def run_behind_an_open_unit(self, bodies, first=lambda connection: None):
        """Open unit 0, queue the others behind it, let it go on, wait for all."""
        everyone_waits = threading.Event()

        def hold(connection):
            first(connection)
            assert everyone_waits.wait(20)

        self.unit(0, hold)
        self._wait(lambda: self.order == [0])
        for number, body in enumerate(bodies, start=1):
            self.unit(number, body)
            self._wait(lambda n=number: len(self.group._waiting) == n)
        everyone_waits.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        return self.outcomes

    @staticmethod
    def _wait(condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_units_of_concurrent_threads_share_one_commit(engine, commits, group):
    crowd = Crowd(group)
    outcomes = crowd.run_behind_an_open_unit(
        [lambda connection, n=n: write(connection, n) for n in range(1, 11)]
    )
    assert set(outcomes.values()) == {None}
    assert notes(engine) == set(range(1, 11))
    assert len(commits) == 1
    assert crowd.order == list(range(11))  # first come, first served


def test_no_unit_returns_before_the_shared_commit(engine, commits, group):
    returned = []

    def unit(number):
        with group.unit() as connection:
            write(connection, number)
            time.sleep(0.01)
        returned.append(time.monotonic())

    threads = [threading.Thread(target=unit, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert notes(engine) == set(range(1, 9))
    assert len(commits) < 8
    for number, moment in enumerate(sorted(returned), start=1):
        kept_by_then = sum(1 for commit in commits if commit <= moment)
        assert kept_by_then >= 1, f"unit {number} returned before any commit"


def test_a_unit_alone_commits_at_once(engine, commits, group):
    for number in (1, 2, 3):
        with group.unit() as connection:
            write(connection, number)
        assert len(commits) == number


def test_a_bound_on_units_closes_the_batch(engine, commits):
    group = GroupCommit(engine, monotonic=FakeClock().monotonic, max_units=4)
    Crowd(group).run_behind_an_open_unit(
        [lambda connection, n=n: write(connection, n) for n in range(1, 12)]
    )
    assert len(commits) == 3
    assert len(notes(engine)) == 11
    group.close()


def test_a_bound_on_time_closes_the_batch(engine, commits):
    moments = iter(range(1000))
    group = GroupCommit(engine, monotonic=lambda: float(next(moments)), max_seconds=0.5)
    Crowd(group).run_behind_an_open_unit(
        [lambda connection, n=n: write(connection, n) for n in range(1, 4)]
    )
    assert len(commits) == 4
    group.close()


@pytest.mark.parametrize("position", [1, 5, 10])
def test_a_failing_unit_takes_nothing_from_the_others(engine, commits, group, position):
    def fail(connection):
        write(connection, 100)
        raise ValueError("mine alone")

    bodies = [lambda connection, n=n: write(connection, n) for n in range(1, 11)]
    bodies[position - 1] = fail
    outcomes = Crowd(group).run_behind_an_open_unit(bodies)
    assert isinstance(outcomes.pop(position), ValueError)
    assert set(outcomes.values()) == {None}
    assert notes(engine) == set(range(1, 11)) - {position}
    assert len(commits) == 1


def test_the_first_unit_may_fail_and_the_queued_ones_go_on(engine, commits, group):
    def fail(connection):
        write(connection, 100)

    crowd = Crowd(group)

    def hold_and_fail():
        with pytest.raises(ValueError, match="first"), group.unit() as connection:  # noqa: PT012 a whole unit
            fail(connection)
            assert go_on.wait(20)
            raise ValueError("first")

    go_on = threading.Event()
    first = threading.Thread(target=hold_and_fail)
    first.start()
    crowd._wait(lambda: group._taken)
    second = threading.Thread(target=lambda: write_one(group, 2))
    second.start()
    crowd._wait(lambda: len(group._waiting) == 1)
    go_on.set()
    first.join(20)
    second.join(20)
    assert notes(engine) == {2}
    assert len(commits) == 1


def write_one(group, number):
    with group.unit() as connection:
        write(connection, number)


def test_a_batch_in_which_all_fail_is_not_committed(engine, commits, group):
    with pytest.raises(ValueError, match="no"), group.unit() as connection:  # noqa: PT012 a whole unit
        write(connection, 1)
        raise ValueError("no")
    assert commits == []
    assert notes(engine) == set()
    write_one(group, 2)
    assert notes(engine) == {2}


def test_a_failed_commit_is_raised_in_every_unit_of_the_batch(engine, group):
    """A reference that dangles is only found by COMMIT when its check was deferred."""

    def dangle(connection):
        connection.execute(text("PRAGMA defer_foreign_keys=ON"))
        write(connection, 5, owner=404)

    outcomes = Crowd(group).run_behind_an_open_unit(
        [lambda c: write(c, 1), dangle, lambda c: write(c, 3)]
    )
    assert {type(outcome) for outcome in outcomes.values()} == {StorageFailed}
    assert notes(engine) == set()
    write_one(group, 6)
    assert notes(engine) == {6}


def test_a_full_disk_fails_units_without_a_trace_and_later_ones_succeed(engine, group):
    write_one(group, 1)
    with group.unit() as connection:
        connection.execute(text("CREATE TABLE filler (blob BLOB)"))
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 3}")

    def fill(connection):
        connection.execute(text("INSERT INTO filler VALUES (zeroblob(1000000))"))

    outcomes = Crowd(group).run_behind_an_open_unit(
        [lambda c: write(c, 2), fill, lambda c: write(c, 3)]
    )
    assert outcomes[2] is not None
    kept = {number for number in (1, 3) if outcomes[number] is None}
    assert notes(engine) == {1} | {{1: 2, 3: 3}[number] for number in kept}
    with group.unit() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    write_one(group, 9)
    assert 9 in notes(engine)


def test_a_turn_that_does_not_come_is_busy(engine):
    group = GroupCommit(engine, monotonic=FakeClock().monotonic, patience=0.05)
    done = []

    def late():
        with pytest.raises(Busy) as caught:
            write_one(group, 2)
        done.append(caught.value.retry_after)

    with group.unit() as connection:
        write(connection, 1)
        thread = threading.Thread(target=late)
        thread.start()
        thread.join(20)
    assert done == [1]
    assert notes(engine) == {1}
    write_one(group, 3)
    group.close()


def test_another_process_that_keeps_the_write_lock_makes_it_busy(engine, tmp_path):
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    impatient = create_engine(str(engine.url), busy_timeout=0.05)
    group = GroupCommit(impatient, monotonic=FakeClock().monotonic)
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "ucm.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(Busy):
            write_one(group, 1)
    finally:
        other.communicate(timeout=20)
    write_one(group, 2)
    assert notes(engine) == {2}
    group.close()
    impatient.dispose()


def test_readers_do_not_wait_for_writers_and_see_only_what_is_committed(engine, group):
    with group.unit() as connection:
        write(connection, 1)
        assert notes(engine) == set()
    assert notes(engine) == {1}


def test_the_write_connection_is_durable(engine, group):
    with group.unit() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("synchronous", "journal_mode", "foreign_keys")
        }
    assert settings == {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1}


def test_many_threads_in_a_storm_lose_nothing(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/storm.db")
    migrate.upgrade_core(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE note (id INTEGER PRIMARY KEY, owner INTEGER)"))
    group = GroupCommit(engine, monotonic=time.monotonic, max_units=5)
    kept, lost = set(), set()

    def worker(first):
        for number in range(first, first + 40):
            try:
                with group.unit() as connection:
                    write(connection, number)
                    if number % 7 == 0:
                        raise ValueError("told to fail")
                kept.add(number)
            except ValueError:
                lost.add(number)

    threads = [threading.Thread(target=worker, args=(n * 40,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert notes(engine) == kept
    assert kept | lost == set(range(640))
    group.close()
    engine.dispose()
