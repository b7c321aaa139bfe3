"""What every plugin must do, as tests: subclass ``PluginContract`` and define ``plugin``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from ucm.api.actor import Actor
from ucm.api.manifest import PluginManifest

if TYPE_CHECKING:
    from ucm.runtime.container import Container
    from ucm.runtime.registry import Plugin
    from ucm.testing.app import Installation

_ACTOR = Actor.system("contract")


class PluginContract:
    """Subclass it in the plugin's tests and define the fixture ``plugin``: the object of the entry
    point.

    ``beside`` names the plugins that it requires, by object; ``environ`` the settings without which
    it cannot start. ``jobs_run_alone`` false leaves out running its jobs, for those that need a
    peer.

        class TestMyPlugin(PluginContract):
            @pytest.fixture
            def plugin(self):
                return MyPlugin()
    """

    jobs_run_alone = True

    @pytest.fixture
    def plugin(self) -> object:
        """Return the plugin object."""
        raise NotImplementedError("define the fixture 'plugin': see PluginContract")

    @pytest.fixture
    def beside(self) -> Mapping[str, object]:
        """Return the plugins that this one requires."""
        return {}

    @pytest.fixture
    def environ(self) -> Mapping[str, str]:
        """Return the environment that the plugin's settings are read from."""
        return {}

    @pytest.fixture
    def manifest(self, plugin: object) -> PluginManifest:
        """The plugin's manifest."""
        manifest = getattr(plugin, "manifest", None)
        assert isinstance(manifest, PluginManifest)
        return manifest

    @pytest.fixture
    def built(
        self,
        ucm_installation: Installation,
        plugin: object,
        manifest: PluginManifest,
        beside: Mapping[str, object],
        environ: Mapping[str, str],
    ) -> Callable[[], Container]:
        """Return a maker of containers with the plugin, not started."""
        plugins = {**beside, manifest.name: plugin}
        return lambda: ucm_installation.build(plugins=plugins, environ=environ)

    @pytest.fixture
    def running(self, built: Callable[[], Container], manifest: PluginManifest) -> Container:
        """A started container in which the plugin runs."""
        container = built()
        container.start(role="web")
        hosted = _hosted(container, manifest)
        assert hosted.state.value == "running", f"{hosted.step.value}: {hosted.reason}"
        return container

    # --- loading -------------------------------------------------------------------------------

    def test_it_runs_and_stops(self, running: Container, manifest: PluginManifest) -> None:
        running.close()
        assert _hosted(running, manifest).state.value == "stopped"

    def test_it_runs_again_over_the_same_data(
        self, running: Container, built: Callable[[], Container], manifest: PluginManifest
    ) -> None:
        running.close()
        again = built()
        again.start(role="web")
        assert _hosted(again, manifest).state.value == "running"

    def test_disabled_it_leaves_no_trace(
        self, ucm_installation: Installation, manifest: PluginManifest
    ) -> None:
        container = ucm_installation.start()
        assert not _tables(container, manifest.table_prefix)
        assert (
            container.host.registry.get(manifest.name) is None
            or not _hosted(container, manifest).enabled
        )

    def test_failing_it_hurts_nobody_else(
        self, built: Callable[[], Container], manifest: PluginManifest
    ) -> None:
        from ucm.runtime.registry import Hook

        def fails(ctx: Any) -> None:
            raise RuntimeError("made to fail")

        container = built()
        hosted = _hosted(container, manifest)
        hosted.hooks["ucm_start"] = Hook(fails, ("ctx",))
        container.start(role="web")
        assert hosted.state.value == "failed"
        others = [p for p in container.host.registry if p.enabled and p is not hosted]
        assert all(
            other.state.value == "running"
            for other in others
            if other.manifest is None or manifest.name not in other.manifest.requires
        )
        if not manifest.guards:
            from ucm.testing.builders import a_ca

            assert a_ca().made_in(container).id

    def test_its_guards_stop_what_they_guard_while_it_is_down(
        self, built: Callable[[], Container], manifest: PluginManifest
    ) -> None:
        from ucm.api.errors import PluginUnavailable

        container = built()  # not started
        for operation in manifest.guards:
            with pytest.raises(PluginUnavailable):
                container.dispatcher.require(operation)

    def test_hooks_that_may_refuse_are_named_as_guards(
        self, built: Callable[[], Container], manifest: PluginManifest
    ) -> None:
        from ucm.runtime.dispatch import GUARD_HOOKS

        for hook, operation in GUARD_HOOKS.items():
            if hook in _hosted(built(), manifest).hooks:
                assert operation in manifest.guards, (
                    f"{hook} needs guards={{Operation.{operation.name}}}: when the plugin does not "
                    "start, the operation would go on without it"
                )

    # --- tables --------------------------------------------------------------------------------

    def test_it_makes_tables_under_its_prefix_only(
        self,
        ucm_installation: Installation,
        built: Callable[[], Container],
        manifest: PluginManifest,
        beside: Mapping[str, object],
    ) -> None:
        before = _tables(ucm_installation.start(plugins=beside), "")
        made = _tables(built(), "") - before
        assert all(table.startswith(manifest.table_prefix) for table in made), made

    def test_its_migrations_make_what_its_models_say(
        self, running: Container, manifest: PluginManifest
    ) -> None:
        from ucm.store import migrate

        assert migrate.differences(running.engine, prefix=manifest.table_prefix) == []

    def test_its_migrations_can_be_undone_and_done_again(
        self, running: Container, manifest: PluginManifest
    ) -> None:
        from ucm.store import migrate

        migrations = _hosted(running, manifest).contributions.migrations
        if migrations is None:
            pytest.skip("the plugin has no tables")
        owner = {"owner": manifest.name, "prefix": manifest.table_prefix}
        migrate.downgrade_owner(running.engine, **owner, package=migrations.package)
        assert not _tables(running, manifest.table_prefix)
        migrate.upgrade_owner(running.engine, **owner, package=migrations.package)
        assert _tables(running, manifest.table_prefix)

    def test_it_can_be_purged(self, running: Container, manifest: PluginManifest) -> None:
        running.purge(manifest.name, actor=_ACTOR)
        assert not _tables(running, manifest.table_prefix)

    # --- what it serves ------------------------------------------------------------------------

    def test_nobody_reaches_its_views_without_signing_in_but_the_public_ones(
        self, running: Container, manifest: PluginManifest
    ) -> None:
        from ucm.api.web import access_of
        from ucm.testing.app import make_app

        app = make_app(running)
        client = app.test_client()
        for rule in app.url_map.iter_rules():
            if not rule.rule.startswith(manifest.url_prefixes or ("\0",)):
                continue
            access = access_of(app.view_functions[rule.endpoint])
            assert access is not None
            if access.public_reason is not None:
                continue
            url = app.url_map.bind("localhost").build(
                rule.endpoint, {name: 1 for name in rule.arguments}, force_external=False
            )
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                assert client.open(url, method=method).status_code == 401, f"{method} {url}"

    def test_its_permissions_reach_the_administrator(
        self, running: Container, manifest: PluginManifest
    ) -> None:
        admin = Actor.system()
        for permission in _hosted(running, manifest).contributions.permissions:
            assert admin.may(permission.name)
            for role in permission.roles:
                assert permission.name in running.roles().permissions(role)

    def test_its_settings_are_described(self, running: Container, manifest: PluginManifest) -> None:
        if _hosted(running, manifest).contributions.settings is None:
            pytest.skip("the plugin has no settings")
        assert all(field.description for field in running.settings.describe(manifest.name))

    def test_its_health_checks_and_metrics_answer(
        self, running: Container, manifest: PluginManifest
    ) -> None:
        for check in running.host.health_checks:
            check.check()
        for metric in running.host.metrics:
            assert all(len(labels) == len(metric.labels) for labels in metric.read())
        assert not _hosted(running, manifest).faults.counts

    def test_its_jobs_can_run_twice(self, running: Container, manifest: PluginManifest) -> None:
        from ucm.runtime.worker import make_scheduler

        jobs = _hosted(running, manifest).contributions.jobs
        if not jobs or not self.jobs_run_alone:
            pytest.skip("no jobs that run alone")
        scheduler = make_scheduler(running)
        scheduler.prepare()
        for job in [*jobs, *jobs]:
            running.jobs.request(job.id, actor=_ACTOR)
            assert scheduler.run(job.id)
        with running.uow.read() as reader:
            assert all(reader.jobs.get(job.id).last_error == "" for job in jobs)

    def test_its_context_and_settings_show_no_secret(
        self, running: Container, manifest: PluginManifest
    ) -> None:
        hosted = _hosted(running, manifest)
        shown = repr(hosted.context) + repr(hosted)
        assert running.master_key.usable_keys().newest.reveal() not in shown


def _hosted(container: Container, manifest: PluginManifest) -> Plugin:
    plugin = container.host.registry.get(manifest.name)
    assert plugin is not None
    return plugin


def _tables(container: Container, prefix: str) -> set[str]:
    from sqlalchemy import inspect

    names = inspect(container.engine).get_table_names()
    return {name for name in names if name.startswith(prefix)}
