"""Start, stop and purge."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ucm.api import Blocker, Job, JobRun, PluginContext, hookimpl
from ucm.api.actor import Actor
from ucm.api.errors import Conflict, NotFound
from ucm.api.keys import KeyPurpose, KeySpec
from ucm.store import tables
from ucm.testing.builders import a_ca
from ucm.testing.hosting import a_manifest, a_running_host, state_of

SYSTEM = Actor.system("test")


class Plugin:
    """Notes its life, and answers the question before a purge."""

    def __init__(self, name: str = "probe", answer: object = None, **manifest) -> None:
        self.manifest = a_manifest(name, **manifest)
        self._answer = answer
        self.log: list[str] = []

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        assert ctx.manifest is self.manifest
        self.log.append("start")

    @hookimpl
    def ucm_stop(self, ctx: PluginContext) -> None:
        self.log.append("stop")

    @hookimpl
    def ucm_jobs(self, ctx: PluginContext) -> Iterable[Job] | None:
        def run(ctx: PluginContext, run: JobRun) -> None: ...

        name = self.manifest.name
        return [Job(id=f"{name}.tick", title="Tick", run=run, cron="* * * * *")]

    @hookimpl
    def ucm_before_purge(self, ctx: PluginContext) -> Iterable[Blocker] | None:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def test_ucm_start_and_stop_get_the_plugins_own_context():
    plugin = Plugin()
    host = a_running_host(plugin)
    host.stop()
    assert plugin.log == ["start", "stop"]


def test_ucm_stop_is_called_once():
    plugin = Plugin()
    host = a_running_host(plugin)
    host.stop()
    host.stop()
    assert plugin.log == ["start", "stop"]


def test_ucm_before_purge_may_refuse(ucm_installation):
    plugin = Plugin(answer=[Blocker("7 tokens are in use"), Blocker("a backup is missing")])
    container = ucm_installation.start(plugins={"probe": plugin})
    with pytest.raises(Conflict, match="7 tokens are in use; a backup is missing"):
        container.purge("probe", actor=SYSTEM)
    assert state_of(container.host).state == "running"


@pytest.mark.parametrize("answer", [RuntimeError("bug"), ["no"]])
def test_an_answer_that_cannot_be_understood_refuses(ucm_installation, answer):
    container = ucm_installation.start(plugins={"probe": Plugin(answer=answer)})
    with pytest.raises(Conflict):
        container.purge("probe", actor=SYSTEM)


def test_a_plugin_that_another_one_requires_is_not_purged(ucm_installation):
    container = ucm_installation.start(
        plugins={"probe": Plugin(), "other": Plugin("other", requires=("probe",))}
    )
    with pytest.raises(Conflict, match="the plugin 'other' requires it"):
        container.purge("probe", actor=SYSTEM)


def test_a_plugin_that_does_not_run_cannot_be_asked(ucm_installation):
    class Broken(Plugin):
        @hookimpl
        def ucm_start(self, ctx: PluginContext) -> None:
            raise RuntimeError("no token")

    container = ucm_installation.start(plugins={"probe": Broken()})
    with pytest.raises(Conflict, match="only a running plugin"):
        container.purge("probe", actor=SYSTEM)
    with pytest.raises(NotFound):
        container.purge("absent", actor=SYSTEM)


def test_purging_stops_the_plugin_and_forgets_its_settings_and_jobs(ucm_installation):
    from ucm.runtime.worker import make_scheduler

    plugin = Plugin()
    container = ucm_installation.start(plugins={"probe": plugin})
    make_scheduler(container).prepare()
    with container.uow.begin(SYSTEM) as tx:
        tx.settings.set("probe.size", value=1)
    container.purge("probe", actor=SYSTEM)
    assert plugin.log == ["start", "stop"]
    with container.uow.read() as reader:
        assert reader.settings.get("probe.size") is None
        assert reader.plugins.get("probe") is None
        assert all(job.owner != "probe" for job in reader.jobs.all())


class WithKeys(Plugin):
    """Makes two keys of its own."""

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        with ctx.uow.begin(SYSTEM) as tx:
            self.keys = [
                ctx.keys.generate(KeySpec.ED25519, purpose=purpose, label="own", tx=tx)
                for purpose in (KeyPurpose.TSA, KeyPurpose.SUBJECT)
            ]


def keys_of_owner(container, owner="probe"):
    with container.uow.read() as reader:
        return [key.ref for key in reader.keys.of_owner(owner)]


def test_purging_destroys_the_plugins_own_keys_and_no_others(ucm_installation):
    plugin = WithKeys()
    container = ucm_installation.start(plugins={"probe": plugin})
    ca = a_ca().made_in(container)
    assert keys_of_owner(container) == plugin.keys
    container.purge("probe", actor=SYSTEM)
    assert keys_of_owner(container) == []
    assert ca.key in keys_of_owner(container, "core")


def test_a_key_that_a_certificate_uses_stops_a_purge(ucm_installation):
    plugin = WithKeys()
    container = ucm_installation.start(plugins={"probe": plugin})
    a_ca().made_in(container)
    with container.uow.begin(SYSTEM) as tx:
        tx.session.execute(tables.certificate.update().values(key_id=plugin.keys[1].id))
    with pytest.raises(Conflict, match="1 of its keys are used in core_certificate"):
        container.purge("probe", actor=SYSTEM)
    assert state_of(container.host).state == "running"
    assert keys_of_owner(container) == plugin.keys
