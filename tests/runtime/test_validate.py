"""Hooks that would silently never be called, or be called wrongly, are refused with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from ucm.api import PluginContext, hookimpl
from ucm.api.actor import Actor
from ucm.api.issuance import Denial, Hold, IssuanceRequest
from ucm.api.manifest import ManifestError
from ucm.api.views import CaView
from ucm.testing.hosting import a_host, a_manifest, a_running_host, state_of

if TYPE_CHECKING:
    from ucm.api.contributions import Job as TypeCheckersOnly


def refused(plugin: object) -> str:
    host = a_host(plugin)
    host.load()
    state = state_of(host)
    assert state.state == "failed", state
    return state.reason


def test_an_object_without_a_manifest():
    assert "without an attribute 'manifest'" in refused(object())


def test_a_manifest_with_another_name_than_the_entry_point():
    from ucm.runtime.discovery import Candidate, Wanted
    from ucm.runtime.lifecycle import PluginHost
    from ucm.testing.fakes import FakeClock

    class Plugin:
        manifest = a_manifest("other")

    host = PluginHost(
        [Candidate.of("probe", plugin=Plugin())],
        wanted=[Wanted("probe")],
        clock=FakeClock(),
        names=a_host()._names,
    )
    host.load()
    assert "name='other'" in state_of(host).reason


def test_a_misspelt_hook():
    class Plugin:
        manifest = a_manifest()

        @hookimpl
        def ucm_strat(self, ctx: PluginContext) -> None: ...

    assert refused(Plugin()) == "there is no hook 'ucm_strat'. Did you mean 'ucm_start'?"


def test_a_hook_without_its_marker():
    class Plugin:
        manifest = a_manifest()

        def ucm_start(self, ctx: PluginContext) -> None: ...

    assert "ucm_start is not marked with @hookimpl" in refused(Plugin())


def test_a_default():
    class Plugin:
        manifest = a_manifest()

        @hookimpl
        def ucm_start(self, ctx: PluginContext | None = None) -> None: ...

    assert "must not have a default" in refused(Plugin())


def test_keyword_arguments():
    class Plugin:
        manifest = a_manifest()

        @hookimpl
        def ucm_start(self, **kwargs: object) -> None: ...

    assert "name the arguments you use instead" in refused(Plugin())


def test_an_unknown_argument():
    class Plugin:
        manifest = a_manifest()

        @hookimpl
        def ucm_start(self, context: PluginContext) -> None: ...

    reason = refused(Plugin())
    assert "ucm_start(context" in reason
    assert "can not be found in the hookspec" in reason


def test_an_argument_without_annotation():
    class Plugin:
        manifest = a_manifest()

        @hookimpl
        def ucm_start(self, ctx) -> None: ...

    assert refused(Plugin()) == "ucm_start: annotate 'ctx' as PluginContext"


def test_a_missing_return_annotation():
    class Plugin:
        manifest = a_manifest()

        @hookimpl
        def ucm_start(self, ctx: PluginContext): ...

    assert "ucm_start has no return annotation" in refused(Plugin())


def test_a_wrong_annotation():
    class Plugin:
        manifest = a_manifest()

        @hookimpl
        def ucm_before_issue(
            self, request: IssuanceRequest, actor: str, ca: CaView | None
        ) -> Iterable[Denial | Hold] | None: ...

    assert "'actor' is annotated as str, the specification says Actor" in refused(Plugin())


def test_a_wrapper():
    class Plugin:
        manifest = a_manifest()

        @hookimpl(wrapper=True)
        def ucm_start(self, ctx: PluginContext) -> None:
            yield

    assert "may answer for itself only" in refused(Plugin())


def test_a_class_instead_of_an_instance():
    class Plugin:
        manifest = a_manifest()

        @hookimpl
        def ucm_start(self, ctx: PluginContext) -> None: ...

    assert "'self'" in refused(Plugin)


def test_fewer_arguments_are_allowed():
    seen: list[Actor] = []

    class Plugin:
        manifest = a_manifest()

        @hookimpl
        def ucm_before_issue(self, actor: Actor) -> Iterable[Denial | Hold] | None:
            seen.append(actor)
            return None

    host = a_running_host(Plugin())
    assert state_of(host).state == "running"
    host.dispatcher.before_issue(None, Actor.system(), None)
    assert seen == [Actor.system()]


def test_annotations_for_type_checkers_only_are_compared_by_name():
    class Plugin:
        manifest = a_manifest()

        @hookimpl
        def ucm_start(self, ctx: PluginContext) -> TypeCheckersOnly | None: ...

    assert state_of(a_running_host(Plugin())).state == "running"


def test_a_module_can_be_a_plugin(tmp_path, monkeypatch):
    import importlib

    (tmp_path / "module_plugin.py").write_text(
        "from ucm.api import PluginContext, PluginManifest, hookimpl\n"
        "manifest = PluginManifest(name='probe', title='P', summary='', api='>=1', "
        "table_prefix='probe_')\n"
        "started = []\n"
        "@hookimpl\n"
        "def ucm_start(ctx: PluginContext) -> None:\n"
        "    started.append(ctx.manifest.name)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("module_plugin")
    assert state_of(a_running_host(module)).state == "running"
    assert module.started == ["probe"]


def test_properties_of_a_plugin_are_not_run():
    class Plugin:
        manifest = a_manifest()

        @property
        def ucm_trap(self) -> None:
            pytest.fail("the host ran a property")

    assert state_of(a_running_host(Plugin())).state == "running"


@pytest.mark.parametrize("prefix", ["/<path:rest>", "/acme/<name>", "/acme/name>"])
def test_a_url_prefix_is_a_fixed_path(prefix):
    with pytest.raises(ManifestError, match="fixed path"):
        a_manifest(url_prefixes=(prefix,))
