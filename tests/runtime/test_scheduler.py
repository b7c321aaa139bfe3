"""Jobs: one run per due time, back-off and a pause after failures, leases that fence."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from ucm.api import Job, Overlap
from ucm.api.actor import Actor
from ucm.api.errors import Conflict
from ucm.runtime.scheduler import Scheduled, Scheduler, back_off, next_run, schedule_text
from ucm.store.jobs import ABANDONED, FAILED, SUCCEEDED
from ucm.testing.fakes import FakeClock

SYSTEM = Actor.system("test")
MINUTE = timedelta(minutes=1)


def unused(ctx, run): ...


def a_job(**fields) -> Job:
    values = {"id": "probe.tick", "title": "Tick", "run": unused, "every": 5 * MINUTE}
    return Job(**{**values, **fields})


class Bench:
    """Schedulers of several workers over one installation."""

    def __init__(self, container) -> None:
        self.container = container
        self.clock: FakeClock = container.clock
        self.runs: list[str] = []
        self.failures: list[BaseException] = []

    def scheduler(self, call=None, *, worker: str = "one", **fields) -> Scheduler:
        def default(run, uow):
            self.runs.append(worker)

        entry = Scheduled(
            job=a_job(**fields), owner="probe", call=call or default, failed=self.failures.append
        )
        made = Scheduler([entry], uow=self.container.uow, clock=self.clock, worker=worker)
        made.prepare()
        return made

    def row(self):
        with self.container.uow.read() as reader:
            return reader.jobs.get("probe.tick")

    def history(self):
        with self.container.uow.read() as reader:
            return reader.jobs.runs("probe.tick")


@pytest.fixture
def bench(ucm_container) -> Bench:
    return Bench(ucm_container)


def test_a_new_interval_job_is_due_at_once_and_then_again(bench):
    scheduler = bench.scheduler()
    assert scheduler.due() == ["probe.tick"]
    assert scheduler.run("probe.tick")
    assert scheduler.due() == []
    bench.clock.advance(5 * MINUTE)
    assert scheduler.due() == ["probe.tick"]


def test_cron_is_in_utc():
    job = a_job(every=None, cron="30 4 * * *")
    after = datetime(2030, 1, 1, 4, 30, tzinfo=UTC)
    assert next_run(job, after=after) == datetime(2030, 1, 2, 4, 30, tzinfo=UTC)
    assert next_run(job, after=after - MINUTE) == after


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"every": timedelta(days=1)}, "every 1 d"),
        ({"every": timedelta(minutes=90)}, "every 90 min"),
        ({"every": timedelta(seconds=61)}, "every 61 s"),
        ({"every": None, "cron": "0 3 * * *"}, "cron 0 3 * * * UTC"),
    ],
)
def test_schedules_are_shown_as_people_say_them(fields, text):
    assert schedule_text(a_job(**fields)) == text


def test_a_new_cron_job_waits_for_its_time(bench):
    scheduler = bench.scheduler(every=None, cron="0 13 * * *")
    assert scheduler.due() == []
    bench.clock.advance(timedelta(hours=1))
    assert scheduler.due() == ["probe.tick"]


def test_a_restart_does_not_run_a_job_again(bench):
    bench.scheduler().run("probe.tick")
    assert bench.scheduler().due() == []


def test_a_shorter_interval_counts_from_the_next_start(bench):
    bench.scheduler(every=timedelta(days=7)).run("probe.tick")
    scheduler = bench.scheduler(every=MINUTE)
    assert bench.row().next_run_at <= bench.clock.now() + MINUTE
    bench.clock.advance(MINUTE)
    assert scheduler.due() == ["probe.tick"]


def test_of_two_workers_that_see_a_job_due_one_runs_it(bench):
    one, two = bench.scheduler(worker="one"), bench.scheduler(worker="two")
    assert one.due() == two.due() == ["probe.tick"]
    assert one.run("probe.tick")
    assert not two.run("probe.tick")
    assert bench.runs == ["one"]


def test_two_workers_at_the_same_moment(bench):
    barrier = threading.Barrier(2)
    schedulers = [bench.scheduler(worker=name) for name in ("one", "two")]

    def race(scheduler):
        barrier.wait(5)
        scheduler.run("probe.tick")

    threads = [threading.Thread(target=race, args=(s,)) for s in schedulers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(bench.runs) == 1


def test_outcomes_are_recorded(bench):
    def call(run, uow):
        run.progress("half way")
        bench.clock.advance(timedelta(seconds=2))

    bench.scheduler(call).run("probe.tick")
    [run] = bench.history()
    assert (run.status, run.progress, run.duration_ms) == (SUCCEEDED, "half way", 2000)
    assert (bench.row().run_count, bench.row().holder) == (1, None)


def test_a_failure_rests_longer_each_time_and_then_pauses(bench):
    def call(run, uow):
        raise RuntimeError("password 1234")

    scheduler = bench.scheduler(call, max_failures=3)
    for failures in (1, 2):
        assert scheduler.run("probe.tick")
        row = bench.row()
        assert row.failures == failures
        assert row.next_run_at == bench.clock.now() + back_off(failures)
        bench.clock.advance(back_off(failures))
    assert scheduler.run("probe.tick")
    row = bench.row()
    assert row.paused
    assert row.pause_reason == "3 failures in a row"
    assert row.last_error == "RuntimeError; the server's log says more"
    bench.clock.advance(timedelta(days=30))
    assert scheduler.due() == []
    assert {run.status for run in bench.history()} == {FAILED}
    assert len(bench.failures) == 3


def test_a_success_forgets_the_failures(bench):
    broken = [True]

    def call(run, uow):
        if broken.pop() if broken else False:
            raise RuntimeError

    scheduler = bench.scheduler(call)
    scheduler.run("probe.tick")
    bench.clock.advance(back_off(1))
    scheduler.run("probe.tick")
    assert (bench.row().failures, bench.row().failure_count) == (0, 1)


def test_an_error_of_the_domain_is_recorded_as_its_sentence(bench):
    def call(run, uow):
        raise Conflict("The list is being written.")

    bench.scheduler(call).run("probe.tick")
    assert bench.row().last_error == "The list is being written."


def test_sys_exit_in_a_job_does_not_end_the_worker(bench):
    def call(run, uow):
        raise SystemExit(1)

    bench.scheduler(call).run("probe.tick")
    assert bench.row().failures == 1


def test_a_paused_job_runs_when_it_is_asked_for(bench):
    scheduler = bench.scheduler()
    with bench.container.uow.begin(SYSTEM) as tx:
        tx.jobs.pause("probe.tick", reason="test")
    assert scheduler.due() == []
    bench.container.jobs.request("probe.tick", actor=SYSTEM)
    assert scheduler.due() == ["probe.tick"]
    scheduler.run("probe.tick")
    assert bench.runs == ["one"]
    assert bench.row().requested_at is None


@pytest.mark.parametrize(("overlap", "due"), [(Overlap.SKIP, []), (Overlap.QUEUE, ["probe.tick"])])
def test_a_due_run_beside_a_running_one_is_skipped_or_waits(bench, overlap, due):
    seen = []

    def call(run, uow):
        other = bench.scheduler(worker="other", overlap=overlap)
        bench.clock.advance(5 * MINUTE)
        scheduler.renew_leases()
        assert not other.run("probe.tick")
        seen.append(other.due())

    scheduler = bench.scheduler(call, overlap=overlap)
    scheduler.run("probe.tick")
    assert seen == [due]


def test_a_worker_that_lost_its_lease_cannot_write(bench):
    uow = bench.container.uow
    taken_over = bench.scheduler(worker="two")

    def frozen(run, fenced):
        bench.clock.advance(timedelta(hours=2))  # longer than runtime and grace
        assert run.stopping()
        assert taken_over.run("probe.tick")
        with pytest.raises(Conflict, match="took over"), fenced.begin(SYSTEM) as tx:
            tx.settings.set("probe.x", value=1)
        with pytest.raises(Conflict, match="took over"):
            run.progress("still here")

    bench.scheduler(frozen).run("probe.tick")
    assert bench.runs == ["two"]
    with uow.read() as reader:
        assert reader.settings.get("probe.x") is None
    newer, older = bench.history()
    assert (newer.worker, newer.status) == ("two", SUCCEEDED)
    assert (older.worker, older.status) == ("one", ABANDONED)


def test_with_its_lease_a_job_writes(bench):
    def call(run, fenced):
        with fenced.begin(SYSTEM) as tx:
            tx.settings.set("probe.x", value=1)
        with fenced.read() as reader:
            assert reader.settings.get("probe.x").value == 1

    bench.scheduler(call).run("probe.tick")
    assert bench.history()[0].status == SUCCEEDED


def test_stopping_turns_true_after_the_maximum_runtime(bench):
    seen = []

    def call(run, uow):
        seen.append(run.stopping())
        bench.clock.advance(MINUTE)
        seen.append(run.stopping())

    bench.scheduler(call, max_runtime=MINUTE).run("probe.tick")
    assert seen == [False, True]


def test_a_job_of_a_plugin_that_is_gone_has_no_due_time(bench):
    bench.scheduler()
    empty = Scheduler([], uow=bench.container.uow, clock=bench.clock, worker="one")
    empty.prepare()
    assert bench.row().next_run_at is None
    assert empty.due() == []


def test_the_loop_runs_what_is_due_and_stops(bench):
    ran = threading.Event()

    def call(run, uow):
        ran.set()

    scheduler = bench.scheduler(call)
    thread = threading.Thread(target=scheduler.loop)
    thread.start()
    assert ran.wait(10)
    scheduler.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert bench.history()[0].status == SUCCEEDED


def test_work_beside_the_jobs_survives_its_errors(bench):
    calls = []

    def work():
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("database away")
        scheduler.stop()

    scheduler = bench.scheduler()
    thread = scheduler.beside(work, name="work")
    thread.join(10)
    assert len(calls) == 2


def test_a_killed_workers_job_is_taken_over_soon_and_a_living_ones_never(bench):
    other = bench.scheduler(worker="other")

    def call(run, uow):
        for _ in range(6):
            bench.clock.advance(timedelta(seconds=10))
            scheduler.renew_leases()
            bench.container.jobs.request("probe.tick", actor=SYSTEM)
            assert not other.run("probe.tick")
        bench.clock.advance(timedelta(seconds=21))  # as if killed: nobody renews
        assert other.run("probe.tick")

    scheduler = bench.scheduler(call, max_runtime=timedelta(hours=1))
    scheduler.run("probe.tick")
    assert [run.status for run in bench.history()] == [SUCCEEDED, ABANDONED]


def test_a_job_that_ignores_its_time_limit_loses_its_lease(bench):
    other = bench.scheduler(worker="other")

    def call(run, uow):
        for _ in range(10):
            bench.clock.advance(timedelta(seconds=10))
            scheduler.renew_leases()
        bench.container.jobs.request("probe.tick", actor=SYSTEM)
        assert other.run("probe.tick")

    scheduler = bench.scheduler(call, max_runtime=MINUTE)
    scheduler.run("probe.tick")
    assert bench.runs == ["other"]
