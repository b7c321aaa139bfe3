"""Collect hooks: each result is checked by type and namespace before it counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from flask import Blueprint, Response
from pydantic import Field
from sqlalchemy.orm import DeclarativeBase

from ucm.api import (
    AuditAction,
    Auth,
    CliCommand,
    ErrorRenderer,
    HealthCheck,
    HealthResult,
    Job,
    JobRun,
    Metric,
    Migrations,
    Permission,
    PluginContext,
    PluginSettings,
    ProtocolInfo,
    Routes,
    hookimpl,
)
from ucm.api.db import plugin_base
from ucm.api.events import Event
from ucm.api.issuance import ExtensionKind, Profile, ProfileTemplate
from ucm.api.keys import KeyBackend, KeyCapability
from ucm.api.lint import Lint
from ucm.api.web import public, requires
from ucm.testing.fakes import MemoryKeyBackend
from ucm.testing.hosting import a_manifest, a_running_host, state_of


class Plugin:
    """Every collect hook answers what the test gives it, else nothing."""

    def __init__(self, name: str = "probe", *, manifest: dict[str, Any] | None = None, **answers):
        self.manifest = a_manifest(name, **(manifest or {}))
        self._answers = answers

    def _answer(self, hook: str) -> Any:
        answer = self._answers.get(hook)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @hookimpl
    def ucm_settings(self) -> type[PluginSettings] | None:
        return self._answer("settings")

    @hookimpl
    def ucm_models(self) -> Iterable[type[DeclarativeBase]] | None:
        return self._answer("models")

    @hookimpl
    def ucm_migrations(self) -> Migrations | None:
        return self._answer("migrations")

    @hookimpl
    def ucm_permissions(self) -> Iterable[Permission] | None:
        return self._answer("permissions")

    @hookimpl
    def ucm_audit_actions(self) -> Iterable[AuditAction] | None:
        return self._answer("audit_actions")

    @hookimpl
    def ucm_event_types(self) -> Iterable[type[Event]] | None:
        return self._answer("event_types")

    @hookimpl
    def ucm_cli_commands(self) -> Iterable[CliCommand] | None:
        return self._answer("cli_commands")

    @hookimpl
    def ucm_hookspecs(self) -> Iterable[ModuleType] | None:
        return self._answer("hookspecs")

    @hookimpl
    def ucm_routes(self, ctx: PluginContext) -> Iterable[Routes] | None:
        return self._answer("routes")

    @hookimpl
    def ucm_protocols(self, ctx: PluginContext) -> Iterable[ProtocolInfo] | None:
        return self._answer("protocols")

    @hookimpl
    def ucm_error_renderers(self, ctx: PluginContext) -> Iterable[ErrorRenderer] | None:
        return self._answer("error_renderers")

    @hookimpl
    def ucm_jobs(self, ctx: PluginContext) -> Iterable[Job] | None:
        return self._answer("jobs")

    @hookimpl
    def ucm_key_backends(self, ctx: PluginContext) -> Iterable[KeyBackend] | None:
        return self._answer("key_backends")

    @hookimpl
    def ucm_profiles(self, ctx: PluginContext) -> Iterable[ProfileTemplate] | None:
        return self._answer("profiles")

    @hookimpl
    def ucm_lints(self, ctx: PluginContext) -> Iterable[Lint] | None:
        return self._answer("lints")

    @hookimpl
    def ucm_extensions(self, ctx: PluginContext) -> Iterable[ExtensionKind] | None:
        return self._answer("extensions")

    @hookimpl
    def ucm_health_checks(self, ctx: PluginContext) -> Iterable[HealthCheck] | None:
        return self._answer("health_checks")

    @hookimpl
    def ucm_metrics(self, ctx: PluginContext) -> Iterable[Metric] | None:
        return self._answer("metrics")


ALL = {name.removeprefix("ucm_") for name in vars(Plugin) if name.startswith("ucm_")}


def accepted(**answers: Any) -> Any:
    """What the host keeps of a plugin that must run."""
    host = a_running_host(Plugin(**answers))
    assert state_of(host).state == "running", state_of(host).reason
    [(_, parts)] = host.owned()
    return parts


def refused(**answers: Any) -> str:
    """The reason for which the host refuses a plugin while another one runs."""
    host = a_running_host(Plugin(**answers), Plugin("other"))
    assert state_of(host, "other").state == "running"
    state = state_of(host)
    assert (state.state, state.step) == ("failed", "contribute"), state
    return state.reason


def clash(**answers: Any) -> str:
    """The reason for which the second of two plugins with the same answers is refused."""
    host = a_running_host(Plugin("one", **answers), Plugin("two", **answers))
    assert state_of(host, "one").state == "running", state_of(host, "one").reason
    return state_of(host, "two").reason


@pytest.mark.parametrize("hook", sorted(ALL))
def test_an_error_fails_the_plugin_alone(hook):
    assert refused(**{hook: RuntimeError("no")}) == "RuntimeError: no"


@pytest.mark.parametrize("hook", sorted(ALL - {"settings", "migrations"}))
@pytest.mark.parametrize("answer", ["text", {"a": 1}, 7, [object()]])
def test_an_answer_of_the_wrong_type_is_refused(hook, answer):
    assert f"ucm_{hook} must return" in refused(**{hook: answer})


@pytest.mark.parametrize("hook", sorted(ALL - {"settings", "migrations"}))
def test_nothing_and_an_empty_list_are_answers(hook):
    assert getattr(accepted(**{hook: []}), hook) == ()


class Typed(PluginSettings):
    size: int = Field(5, ge=1, description="A size.")


class TestUcmSettings:
    def test_ucm_settings(self):
        assert accepted(settings=Typed).settings is Typed

    @pytest.mark.parametrize("answer", [Typed(), PluginSettings, dict, "x"])
    def test_anything_but_a_subclass_is_refused(self, answer):
        assert "subclass of PluginSettings" in refused(settings=answer)


class TestUcmModelsAndMigrations:
    def test_ucm_models(self):
        base = plugin_base("probe_")
        migrations = Migrations("ucm.migrations.core")
        kept = accepted(models=[base], migrations=migrations)
        assert (kept.models, kept.migrations) == ((base,), migrations)

    def test_a_foreign_prefix_is_refused(self):
        assert "'elsewhere_'" in refused(models=[plugin_base("elsewhere_")])

    def test_models_without_migrations_are_refused(self):
        assert "without ucm_migrations" in refused(models=[plugin_base("probe_")])

    def test_ucm_migrations(self):
        assert "does not exist" in refused(migrations=Migrations("no_such.package"))
        assert "Migrations(package)" in refused(migrations="ucm.migrations.core")

    def test_a_table_prefix_belongs_to_one_plugin(self):
        manifest = {"table_prefix": "same_"}
        assert "table prefix same_ is already taken by 'one'" in clash(manifest=manifest)


class TestUcmPermissions:
    def test_ucm_permissions(self):
        permission = Permission("read:probe", "Read", frozenset({"viewer"}))
        assert accepted(permissions=[permission]).permissions == (permission,)

    @pytest.mark.parametrize("name", ["read:other", "read:certificates"])
    def test_another_namespace_is_refused(self, name):
        assert "permission_namespace 'probe'" in refused(permissions=[Permission(name, "x")])

    @pytest.mark.parametrize("name", ["fly:probe", "read", "read:*", "*"])
    def test_another_form_is_refused(self, name):
        assert "read, write, delete or admin" in refused(permissions=[Permission(name, "x")])

    def test_twice_is_refused(self):
        twice = [Permission("read:probe", "x")] * 2
        assert "already taken" in refused(permissions=twice)


class TestUcmAuditActions:
    def test_ucm_audit_actions(self):
        action = AuditAction("probe_done", "Done", "probe")
        assert accepted(audit_actions=[action]).audit_actions == (action,)

    def test_an_action_belongs_to_one_owner(self):
        action = AuditAction("shared_done", "Done", "x")
        assert "audit action shared_done is already taken by 'one'" in clash(audit_actions=[action])

    def test_a_name_with_spaces_is_refused(self):
        assert "lower-case" in refused(audit_actions=[AuditAction("Probe done", "", "")])


@dataclass(frozen=True, kw_only=True, slots=True)
class Happened(Event):
    name: ClassVar[str] = "probe.happened"


class TestUcmEventTypes:
    def test_ucm_event_types(self):
        assert accepted(event_types=[Happened]).event_types == (Happened,)

    def test_a_foreign_name_is_refused(self):
        @dataclass(frozen=True, kw_only=True, slots=True)
        class Foreign(Event):
            name: ClassVar[str] = "certificate.issued"

        assert "must start with 'probe.'" in refused(event_types=[Foreign])

    def test_an_event_that_can_change_is_refused(self):
        class Loose(Event):
            name: ClassVar[str] = "probe.loose"

        assert "frozen dataclass" in refused(event_types=[Loose])


def blueprint(
    rule: str = "/x", *, mark: Any = None, methods: Iterable[str] = ("GET",)
) -> Blueprint:
    made = Blueprint("x", __name__)

    def view(**_: object) -> str:
        return "ok"

    made.add_url_rule(rule, "view", mark(view) if mark else view, methods=list(methods))
    return made


class TestUcmRoutes:
    def test_ucm_routes(self):
        routes = Routes(blueprint=blueprint(mark=requires("read:certificates")), prefix="/probe")
        assert accepted(routes=[routes]).routes == (routes,)

    def test_an_unmarked_view_is_refused(self):
        routes = Routes(blueprint=blueprint(), prefix="/probe")
        assert "neither requires(...) nor public(...)" in refused(routes=[routes])

    def test_a_prefix_outside_the_manifest_is_refused(self):
        routes = Routes(blueprint=blueprint(mark=requires()), prefix="/elsewhere")
        assert "url_prefixes" in refused(routes=[routes])

    def test_a_prefix_that_only_begins_alike_is_refused(self):
        routes = Routes(blueprint=blueprint(mark=requires()), prefix="/probed")
        assert "url_prefixes" in refused(routes=[routes])

    def test_an_undeclared_permission_is_refused(self):
        routes = Routes(blueprint=blueprint(mark=requires("read:nothing")), prefix="/probe")
        assert "requires 'read:nothing'" in refused(routes=[routes])

    def test_the_plugins_own_permission_is_known(self):
        routes = Routes(blueprint=blueprint(mark=requires("read:probe")), prefix="/probe")
        assert accepted(routes=[routes], permissions=[Permission("read:probe", "x")])

    def test_a_protocol_view_must_be_public(self):
        routes = Routes(blueprint=blueprint(mark=requires()), prefix="/probe", auth=Auth.PROTOCOL)
        assert "mark the view public(reason)" in refused(routes=[routes])
        routes = Routes(
            blueprint=blueprint(mark=public("the protocol authenticates")),
            prefix="/probe",
            auth=Auth.PROTOCOL,
        )
        assert accepted(routes=[routes])

    def test_one_rule_twice_is_refused_even_with_other_converters(self):
        mark = requires()
        entries = [
            Routes(blueprint=blueprint("/<int:a>", mark=mark), prefix="/probe"),
            Routes(blueprint=blueprint("/<b>", mark=mark), prefix="/probe"),
        ]
        assert "routed twice" in refused(routes=entries)

    def test_other_methods_on_one_rule_are_fine(self):
        mark = requires()
        entries = [
            Routes(blueprint=blueprint(mark=mark), prefix="/probe"),
            Routes(blueprint=blueprint(mark=mark, methods=["POST"]), prefix="/probe"),
        ]
        assert len(accepted(routes=entries).routes) == 2

    def test_a_blueprint_without_routes_is_refused(self):
        routes = Routes(blueprint=Blueprint("empty", __name__), prefix="/probe")
        assert "has no routes" in refused(routes=[routes])

    @pytest.mark.parametrize(
        "reach",
        ["before_app_request", "after_app_request", "teardown_app_request", "app_url_defaults"],
    )
    def test_a_blueprint_that_reaches_beyond_itself_is_refused(self, reach):
        made = blueprint(mark=requires())
        getattr(made, reach)(lambda *_: None)
        assert f"uses {reach}" in refused(routes=[Routes(blueprint=made, prefix="/probe")])

    def test_an_error_handler_for_the_whole_application_is_refused(self):
        made = blueprint(mark=requires())
        made.app_errorhandler(404)(lambda error: "mine")
        assert "app_errorhandler" in refused(routes=[Routes(blueprint=made, prefix="/probe")])

    def test_handlers_of_the_blueprint_alone_are_fine(self):
        made = blueprint(mark=requires())
        made.before_request(lambda: None)
        made.errorhandler(LookupError)(lambda error: ("no", 404))
        assert accepted(routes=[Routes(blueprint=made, prefix="/probe")])

    def test_url_prefixes_of_two_plugins_must_not_overlap(self):
        one = Plugin("one", manifest={"url_prefixes": ("/shared",)})
        two = Plugin("two", manifest={"url_prefixes": ("/shared/below",)})
        host = a_running_host(one, two)
        assert "overlaps with /shared of plugin 'one'" in state_of(host, "two").reason

    @pytest.mark.parametrize("prefix", ["/api/v2/cas", "/api/v2/cas/mine", "/api", "/health"])
    def test_url_prefixes_of_the_core_are_taken(self, prefix):
        host = a_running_host(Plugin(manifest={"url_prefixes": (prefix,)}))
        assert "of the core" in state_of(host).reason


class TestUcmProtocols:
    def test_ucm_protocols(self):
        info = ProtocolInfo(id="probe", title="P", standard="RFC 0", rehearse=lambda ca, csr: None)
        assert accepted(protocols=[info]).protocols == (info,)
        assert "protocol probe is already taken" in clash(protocols=[info])


class TestUcmErrorRenderers:
    def test_ucm_error_renderers(self):
        renderer = ErrorRenderer("/probe/x", lambda error: Response())
        assert accepted(error_renderers=[renderer]).error_renderers == (renderer,)

    def test_a_foreign_prefix_is_refused(self):
        renderer = ErrorRenderer("/api", lambda error: Response())
        assert "outside the manifest's url_prefixes" in refused(error_renderers=[renderer])


def run(ctx: PluginContext, run: JobRun) -> None: ...


def job(**fields: Any) -> Job:
    values: dict[str, Any] = {"id": "probe.tick", "title": "Tick", "run": run}
    return Job(**{**values, **fields})


class TestUcmJobs:
    def test_ucm_jobs(self):
        tick = job(every=timedelta(minutes=5))
        assert accepted(jobs=[tick]).jobs == (tick,)

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"id": "other.tick", "cron": "* * * * *"}, "must be 'probe.'"),
            ({}, "either every or cron"),
            ({"every": timedelta(1), "cron": "* * * * *"}, "either every or cron"),
            ({"every": timedelta(milliseconds=1)}, "at least one second"),
            ({"cron": "61 * * * *"}, "cron '61"),
            ({"cron": "often"}, "cron 'often'"),
            ({"cron": "* * * * *", "max_failures": 0}, "must be positive"),
            ({"cron": "* * * * *", "max_runtime": timedelta(0)}, "must be positive"),
        ],
    )
    def test_a_wrong_schedule_is_refused(self, fields, says):
        assert says in refused(jobs=[job(**fields)])


class TestUcmKeyBackends:
    def test_ucm_key_backends(self):
        backend = MemoryKeyBackend()
        assert accepted(key_backends=[backend]).key_backends == (backend,)
        assert "key backend memory is already taken" in clash(key_backends=[backend])

    def test_a_capability_without_its_method_is_refused(self):
        class Boasts(MemoryKeyBackend):
            capabilities = frozenset({KeyCapability.SIGN, KeyCapability.IMPORT})

        assert "declares IMPORT" in refused(key_backends=[Boasts()])

    def test_a_backend_that_cannot_sign_is_refused(self):
        class Mute(MemoryKeyBackend):
            capabilities = frozenset()

        assert "capability SIGN" in refused(key_backends=[Mute()])

    def test_a_kind_must_be_a_word(self):
        assert "lower-case word" in refused(key_backends=[MemoryKeyBackend(kind="My Keys")])

    def test_an_object_that_lacks_methods_is_refused(self):
        half = SimpleNamespace(kind="half", capabilities=frozenset(), local=True)
        assert "must return KeyBackend" in refused(key_backends=[half])


class TestUcmProfiles:
    def test_ucm_profiles(self):
        template = ProfileTemplate(profile=Profile(name="probe-signer"), title="P")
        assert accepted(profiles=[template]).profiles == (template,)
        assert "profile probe-signer is already taken" in clash(profiles=[template])


class TestUcmLints:
    def test_ucm_lints(self):
        lint = Lint("probe_names", "RFC 5280", lambda certificate, draft: ())
        assert accepted(lints=[lint]).lints == (lint,)
        assert "lint probe_names is already taken" in clash(lints=[lint])


class TestUcmExtensions:
    def test_ucm_extensions(self):
        kind = ExtensionKind("1.3.6.1.4.1.99999.1", "Probe")
        assert accepted(extensions=[kind]).extensions == (kind,)
        assert "is already taken" in clash(extensions=[kind])

    @pytest.mark.parametrize("oid", ["", "1", "1.02", "9.1", "id-ce"])
    def test_a_text_that_is_no_oid_is_refused(self, oid):
        assert "no dotted OID" in refused(extensions=[ExtensionKind(oid, "x")])


class TestUcmHealthChecks:
    def test_ucm_health_checks(self):
        check = HealthCheck(name="token", check=lambda: HealthResult(True, "fine"))
        host = a_running_host(Plugin(health_checks=[check]))
        [wrapped] = host.health_checks
        assert wrapped.name == "probe.token"
        assert wrapped.check() == HealthResult(True, "fine")

    def test_a_check_that_raises_is_unhealthy_and_counted(self):
        def broken() -> HealthResult:
            raise RuntimeError("secret detail")

        host = a_running_host(Plugin(health_checks=[HealthCheck(name="token", check=broken)]))
        result = host.health_checks[0].check()
        assert not result.ok
        assert "secret" not in result.detail
        assert state_of(host).faults == {"health check token": 1}

    def test_a_check_must_be_limited_in_time(self):
        check = HealthCheck(name="x", check=lambda: HealthResult(True), timeout=timedelta(hours=1))
        assert "timeout" in refused(health_checks=[check])


class TestUcmMetrics:
    def test_ucm_metrics(self):
        metric = Metric(name="ucm_probe_size", help="Size", read=lambda: {(): 3.0})
        host = a_running_host(Plugin(metrics=[metric]))
        assert host.metrics[0].read() == {(): 3.0}

    def test_a_metric_that_raises_has_no_samples_and_is_counted(self):
        def broken() -> dict[tuple[str, ...], float]:
            raise RuntimeError

        metric = Metric(name="ucm_probe_size", help="Size", read=broken)
        host = a_running_host(Plugin(metrics=[metric]))
        assert host.metrics[0].read() == {}
        assert state_of(host).state == "degraded"

    def test_a_foreign_name_is_refused(self):
        metric = Metric(name="ucm_core_size", help="", read=dict)
        assert "must start with 'ucm_probe_'" in refused(metrics=[metric])

    def test_a_counter_must_end_in_total(self):
        metric = Metric(name="ucm_probe_size", help="", read=dict, counter=True)
        assert "_total" in refused(metrics=[metric])


class TestUcmCliCommands:
    def test_ucm_cli_commands(self):
        command = CliCommand("show", "Show it.", "no_such_module:show")
        assert accepted(cli_commands=[command]).cli_commands == (command,)

    @pytest.mark.parametrize("target", ["module", ":x", "module:", "module:a.b"])
    def test_a_target_must_name_module_and_command(self, target):
        assert "module:click_command" in refused(cli_commands=[CliCommand("x", "", target)])


class TestUcmHookspecs:
    def test_ucm_hookspecs(self):
        module = ModuleType("empty")
        # pluggy refuses a module in which it finds no specification
        assert "empty" in refused(hookspecs=[module])
