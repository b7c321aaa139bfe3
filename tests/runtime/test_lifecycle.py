"""Each plugin fails by itself, at every step, and says where and why."""

import sys
from collections.abc import Iterable
from types import ModuleType

import pytest

from ucm.api import Job, JobRun, PluginContext, PluginSettings, hookimpl, hookspec
from ucm.api.errors import KeyUnavailable, PluginUnavailable
from ucm.api.issuance import Operation
from ucm.api.keys import KeyBackend
from ucm.runtime.boot import BootError
from ucm.runtime.discovery import Candidate, Wanted, discover
from ucm.runtime.lifecycle import PluginHost
from ucm.runtime.registry import PluginRefused, Step
from ucm.testing.fakes import FakeClock, MemoryKeyBackend
from ucm.testing.hosting import a_host, a_manifest, a_running_host, bare_context, state_of


class Good:
    """Starts, stops, and remembers both."""

    def __init__(self, name: str = "good", *, log: list[str] | None = None, **manifest) -> None:
        self.manifest = a_manifest(name, **manifest)
        self.log = [] if log is None else log

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        self.log.append(f"start {self.manifest.name}")

    @hookimpl
    def ucm_stop(self, ctx: PluginContext) -> None:
        self.log.append(f"stop {self.manifest.name}")


class Bad(Good):
    """Raises in the hook that it is told."""

    def __init__(self, hook: str, name: str = "bad", **manifest) -> None:
        super().__init__(name, **manifest)
        self.hook = hook

    def _maybe(self, hook: str) -> None:
        if hook == self.hook:
            raise RuntimeError(f"broken in {hook}")

    @hookimpl
    def ucm_settings(self) -> type[PluginSettings] | None:
        self._maybe("ucm_settings")
        return None

    @hookimpl
    def ucm_jobs(self, ctx: PluginContext) -> Iterable[Job] | None:
        self._maybe("ucm_jobs")
        return None

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        self._maybe("ucm_start")


def host_of_candidates(*candidates: Candidate, wanted: str) -> PluginHost:
    host = a_host()
    return PluginHost(
        candidates,
        wanted=[Wanted(name) for name in wanted.split(",")],
        clock=FakeClock(),
        names=host._names,
    )


def test_a_plugin_runs_and_stops_in_reverse_order():
    log: list[str] = []
    one = Good("one", log=log, requires=("two",))
    host = a_running_host(one, Good("two", log=log))
    assert [state.state for state in host.states()] == ["running", "running"]
    host.stop()
    assert log == ["start two", "start one", "stop one", "stop two"]
    assert [state.state for state in host.states()] == ["stopped", "stopped"]


def test_after_orders_without_requiring():
    log: list[str] = []
    one = Good("one", log=log, after=("two", "absent"))
    a_running_host(one, Good("two", log=log))
    assert log == ["start two", "start one"]


def test_a_circle_of_after_harms_nobody():
    host = a_running_host(Good("one", after=("two",)), Good("two", after=("one",)))
    assert {state.state for state in host.states()} == {"running"}


def test_a_circle_of_requirements_fails_all_of_it_and_nothing_else():
    host = a_running_host(
        Good("one", requires=("two",)), Good("two", requires=("one",)), Good("three")
    )
    assert state_of(host, "one").state == "failed"
    assert "require each other: one, two" in state_of(host, "two").reason
    assert state_of(host, "three").state == "running"


@pytest.mark.parametrize(
    ("hook", "step"),
    [("ucm_settings", "contribute"), ("ucm_jobs", "contribute"), ("ucm_start", "start")],
)
def test_a_plugin_that_raises_is_failed_with_step_and_reason_and_the_other_runs(hook, step):
    host = a_running_host(Bad(hook), Good())
    bad = state_of(host, "bad")
    assert (bad.state, bad.step) == ("failed", step)
    assert bad.reason == f"RuntimeError: broken in {hook}"
    assert state_of(host, "good").state == "running"


def test_a_plugin_that_raises_at_import_is_contained(tmp_path, monkeypatch):
    (tmp_path / "raises_at_import.py").write_text("raise RuntimeError('broken at import')\n")
    monkeypatch.syspath_prepend(tmp_path)

    def load():
        import raises_at_import

        return raises_at_import.plugin

    broken = Candidate(
        name="broken", distribution="x", version="1", module="raises_at_import", load=load
    )
    host = host_of_candidates(broken, Candidate.of("good", plugin=Good()), wanted="broken,good")
    host.load()
    host.contribute(bare_context)
    host.start()
    assert state_of(host, "broken").step == "load"
    assert state_of(host, "broken").reason == "RuntimeError: broken at import"
    assert state_of(host, "good").state == "running"


def test_sys_exit_at_import_does_not_end_the_server():
    def load():
        sys.exit(3)

    broken = Candidate(name="quits", distribution="x", version="1", module="quits", load=load)
    host = host_of_candidates(broken, wanted="quits")
    host.load()
    assert state_of(host, "quits").reason == "SystemExit: 3"


def test_an_extra_that_is_not_installed_is_named():
    class Needy(Good):
        @hookimpl
        def ucm_start(self, ctx: PluginContext) -> None:
            import no_such_pkcs11  # noqa: F401

    host = a_running_host(Needy("needy", extra="hsm"))
    assert "run: pip install 'ucm[hsm]'" in state_of(host, "needy").reason


def test_a_plugin_for_another_api_is_incompatible():
    host = a_running_host(Good("later", api=">=9"), Good())
    later = state_of(host, "later")
    assert later.state == "incompatible"
    assert "wants plugin API >=9, this UCM has 1.0" in later.reason
    assert state_of(host, "good").state == "running"


def test_dependents_of_a_failed_plugin_are_blocked_with_the_cause():
    host = a_running_host(
        Bad("ucm_start"), Good("one", requires=("bad",)), Good("two", requires=("one",)), Good()
    )
    assert state_of(host, "one").state == "blocked"
    assert state_of(host, "one").reason.startswith("requires the plugin 'bad', which is failed")
    assert state_of(host, "two").state == "blocked"
    assert state_of(host, "good").state == "running"


def test_a_requirement_that_is_absent_or_disabled_says_so():
    host = a_host(
        Good("one", requires=("absent",)),
        Good("two", requires=("three",)),
        Good("three"),
        enabled=["one", "two"],
    )
    host.load()
    assert state_of(host, "one").reason.endswith("which is not installed")
    assert state_of(host, "two").reason.endswith("add it to UCM_PLUGINS")


def test_a_disabled_plugin_is_not_imported():
    def load():
        raise AssertionError("imported")

    off = Candidate(name="off", distribution="x", version="1", module="off", load=load)
    host = host_of_candidates(off, Candidate.of("good", plugin=Good()), wanted="good")
    host.load()
    assert state_of(host, "off").state == "disabled"


def test_strict_turns_a_failure_into_an_exception():
    host = a_host(Bad("ucm_settings"), strict=True)
    with pytest.raises(RuntimeError, match="broken in ucm_settings"):
        host.load()


def test_a_required_plugin_that_does_not_run_stops_the_start():
    host = PluginHost(
        [Candidate.of("bad", plugin=Bad("ucm_start"))],
        wanted=[Wanted("bad", required=True)],
        clock=FakeClock(),
        names=a_host()._names,
    )
    host.load()
    host.contribute(bare_context)
    with pytest.raises(BootError, match=r"requires 'bad' \(with '!'\), which is failed"):
        host.start()


def test_one_that_fails_to_start_may_still_release_what_it_opened():
    class HalfWay(Good):
        @hookimpl
        def ucm_start(self, ctx: PluginContext) -> None:
            raise RuntimeError("half way")

    half = HalfWay("half")
    host = a_running_host(half)
    host.stop()
    assert half.log == ["stop half"]


def test_a_plugin_that_hangs_or_raises_at_stop_does_not_hold_up_the_others(monkeypatch):
    import threading

    from ucm.runtime import lifecycle

    monkeypatch.setattr(lifecycle, "STOP_SECONDS", 0.05)
    released = threading.Event()

    class Hangs(Good):
        @hookimpl
        def ucm_stop(self, ctx: PluginContext) -> None:
            released.wait(5)

    class Raises(Good):
        @hookimpl
        def ucm_stop(self, ctx: PluginContext) -> None:
            raise RuntimeError("broken at stop")

    good = Good()
    host = a_running_host(good, Hangs("hangs"), Raises("raises"))
    host.stop()
    released.set()
    assert good.log == ["start good", "stop good"]


def test_a_failed_plugin_leaves_no_contribution_and_no_claimed_name():
    class WithBackend(Good):
        @hookimpl
        def ucm_key_backends(self, ctx: PluginContext) -> Iterable[KeyBackend] | None:
            return [MemoryKeyBackend(kind="shared")]

    class Fails(WithBackend):
        @hookimpl
        def ucm_start(self, ctx: PluginContext) -> None:
            raise RuntimeError("no")

        @hookimpl
        def ucm_jobs(self, ctx: PluginContext) -> Iterable[Job] | None:
            raise RuntimeError("no jobs")

    host = a_running_host(Fails("fails"), WithBackend("works"))
    assert state_of(host, "fails").step == "contribute"
    assert [b.kind for b in host.contributions.key_backends] == ["shared"]
    assert host.key_backend("shared").kind == "shared"


def test_the_key_backend_of_a_plugin_that_does_not_run_is_unavailable():
    host = a_running_host(Good())
    with pytest.raises(KeyUnavailable, match="'pkcs11'"):
        host.key_backend("pkcs11")


def test_a_guard_that_does_not_run_stops_its_operation_only():
    host = a_running_host(Bad("ucm_start", guards=frozenset({Operation.ISSUE})), Good())
    with pytest.raises(PluginUnavailable, match="'bad' must agree"):
        host.dispatcher.require(Operation.ISSUE)
    host.dispatcher.require(Operation.REVOKE)


def test_a_guard_that_cannot_even_be_imported_stops_its_operation(tmp_path, monkeypatch):
    (tmp_path / "broken_guard.py").write_text(
        "import no_such_module\n"
        "manifest = PluginManifest(name='guard', guards=frozenset({Operation.ISSUE}))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def load():
        import broken_guard

        return broken_guard.plugin

    broken = Candidate(name="guard", distribution="", version="", module="broken_guard", load=load)
    host = host_of_candidates(broken, wanted="guard")
    host.load()
    assert state_of(host, "guard").guards == ("issue",)
    with pytest.raises(PluginUnavailable):
        host.dispatcher.require(Operation.ISSUE)


def test_a_disabled_guard_guards_nothing():
    host = a_host(Good("guard", guards=frozenset({Operation.ISSUE})), enabled=[])
    host.load()
    host.dispatcher.require(Operation.ISSUE)


def test_a_shadowed_plugin_is_shown_as_failed():
    candidates = discover()
    shadow = Candidate(
        name="softkeys",
        distribution="other",
        version="1",
        module="other",
        load=lambda: None,
        shadowed_by="ucm",
    )
    host = PluginHost([*candidates, shadow], wanted=[], clock=FakeClock(), names=a_host()._names)
    shown = [state for state in host.states() if state.distribution == "other"]
    assert [state.state for state in shown] == ["failed"]
    assert "which is used instead" in shown[0].reason


def test_an_error_in_a_request_degrades_the_plugin_that_owns_the_path():
    clock = FakeClock()
    host = a_running_host(Good(url_prefixes=("/good",)), clock=clock)
    host.request_failed("/elsewhere", RuntimeError("core"))
    assert state_of(host, "good").state == "running"
    host.request_failed("/good/x", RuntimeError("secret text"))
    shown = state_of(host, "good")
    assert shown.state == "degraded"
    assert shown.faults == {"request": 1}
    assert "RuntimeError in request" in shown.reason
    assert "secret" not in shown.reason


def test_a_plugin_recovers_when_its_faults_are_old():
    from datetime import timedelta

    clock = FakeClock()
    host = a_running_host(Good(), clock=clock)
    host.request_failed("/good", RuntimeError("once"))
    clock.advance(timedelta(hours=1))
    assert state_of(host, "good").state == "running"
    assert state_of(host, "good").faults == {"request": 1}


def test_a_plugin_may_offer_hooks_to_others():
    offered = ModuleType("offered")

    def ucm_flavours(sweet: bool) -> list[str] | None: ...

    offered.ucm_flavours = hookspec(ucm_flavours)

    class Shop(Good):
        @hookimpl
        def ucm_hookspecs(self) -> Iterable[ModuleType] | None:
            return [offered]

    class Guest(Good):
        @hookimpl
        def ucm_flavours(self, sweet: bool) -> list[str] | None:
            return ["vanilla" if sweet else "lemon"]

    class Broken(Good):
        @hookimpl
        def ucm_flavours(self, sweet: bool) -> list[str] | None:
            raise RuntimeError("melted")

    host = a_running_host(
        Guest("guest", requires=("shop",)), Broken("broken", requires=("shop",)), Shop("shop")
    )
    assert host.dispatcher.offered("ucm_flavours", sweet=True) == (("guest", ["vanilla"]),)
    assert state_of(host, "broken").state == "degraded"


def test_a_hook_that_another_plugin_offers_is_unknown_without_it():
    class Guest(Good):
        @hookimpl
        def ucm_flavours(self, sweet: bool) -> list[str] | None:
            return None

    host = a_running_host(Guest("guest"))
    assert state_of(host, "guest").state == "failed"
    assert "there is no hook 'ucm_flavours'" in state_of(host, "guest").reason


def test_a_refusal_is_a_sentence_without_a_class_name():
    class Refuses(Good):
        @hookimpl
        def ucm_start(self, ctx: PluginContext) -> None:
            raise PluginRefused("the token is not there")

    host = a_running_host(Refuses("refuses"))
    assert state_of(host, "refuses").reason == "the token is not there"


def test_a_job_is_kept_with_its_plugin():
    def run(ctx: PluginContext, run: JobRun) -> None: ...

    class Works(Good):
        @hookimpl
        def ucm_jobs(self, ctx: PluginContext) -> Iterable[Job] | None:
            return [Job(id="works.tick", title="Tick", run=run, cron="*/5 * * * *")]

    host = a_running_host(Works("works"))
    [(plugin, parts)] = host.owned()
    assert (plugin.name, parts.jobs[0].id) == ("works", "works.tick")
    assert plugin.step is Step.RUN
