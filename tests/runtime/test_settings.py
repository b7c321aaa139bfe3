"""Settings: three sources, snapshots across processes, secrets sealed, refusals with pointers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import Field

from ucm.api import PluginSettings, Secret
from ucm.api.actor import Actor
from ucm.api.errors import Invalid, NotFound
from ucm.runtime.registry import PluginRefused
from ucm.runtime.settings import CORE, SettingsRegistry
from ucm.testing.fakes import FakeClock

SYSTEM = Actor.system("test")


def test_defaults(ucm_container):
    assert ucm_container.settings.general().site_name == "UCM"


def test_the_database_overrides_the_default_and_null_goes_back(ucm_container):
    settings = ucm_container.settings
    assert settings.update(CORE, {"site_name": "Lab"}, actor=SYSTEM) == ("general.site_name",)
    assert settings.general().site_name == "Lab"
    settings.update(CORE, {"site_name": None}, actor=SYSTEM)
    assert settings.general().site_name == "UCM"


def test_the_environment_overrides_the_database_and_locks(ucm_installation):
    container = ucm_installation.start(environ={"UCM_GENERAL__SITE_NAME": "From outside"})
    assert container.settings.general().site_name == "From outside"
    with pytest.raises(Invalid, match=r"UCM_GENERAL__SITE_NAME.*cannot be changed here") as caught:
        container.settings.update(CORE, {"site_name": "x"}, actor=SYSTEM)
    assert caught.value.fields[0].pointer == "/site_name"
    [shown] = [s for s in container.settings.describe(CORE) if s.name == "site_name"]
    assert (shown.source, shown.locked) == ("environment", True)


def test_another_process_sees_a_change_within_a_second(ucm_installation):
    one, two = ucm_installation.start(), ucm_installation.start()
    assert two.settings.general().site_name == "UCM"
    one.settings.update(CORE, {"site_name": "Changed"}, actor=SYSTEM)
    ucm_installation.clock.advance(timedelta(seconds=1))
    assert two.settings.general().site_name == "Changed"


def test_a_snapshot_costs_no_query_within_a_second(ucm_container):
    from sqlalchemy import event

    ucm_container.settings.general()
    statements: list[str] = []

    def count(connection, cursor, statement, *_):
        statements.append(statement)

    event.listen(ucm_container.engine, "before_cursor_execute", count)
    for _ in range(10):
        ucm_container.settings.general()
    assert statements == []


def test_a_wrong_value_is_refused_with_its_pointer_and_nothing_is_written(ucm_container):
    settings = ucm_container.settings
    with pytest.raises(Invalid) as caught:
        settings.update(CORE, {"site_name": "Lab", "session_timeout": 1}, actor=SYSTEM)
    assert [field.pointer for field in caught.value.fields] == ["/session_timeout"]
    assert settings.general().site_name == "UCM"


def test_fields_are_checked_together(ucm_container):
    with pytest.raises(Invalid, match="min_password_length must not exceed"):
        ucm_container.settings.update(
            CORE, {"min_password_length": 20, "max_password_length": 10}, actor=SYSTEM
        )


def test_an_unknown_key_names_the_nearest(ucm_container):
    with pytest.raises(Invalid, match="Did you mean 'site_name'"):
        ucm_container.settings.update(CORE, {"sitename": "x"}, actor=SYSTEM)


def test_an_owner_without_settings_is_not_found(ucm_container):
    with pytest.raises(NotFound):
        ucm_container.settings.describe("nobody")


def test_a_change_is_audited_by_key_without_its_value(ucm_container):
    from ucm.store.audit import AuditQuery

    ucm_container.settings.update(CORE, {"metrics_token": "hush-hush"}, actor=SYSTEM)
    with ucm_container.uow.read() as reader:
        rows = reader.audit_log.page(AuditQuery(actions=("settings_update",))).items
    assert rows[0].details == {"keys": ["general.metrics_token"]}
    assert "hush" not in repr(rows)


def test_a_secret_is_sealed_and_never_shown(ucm_container):
    settings = ucm_container.settings
    settings.update(CORE, {"metrics_token": "hush-hush"}, actor=SYSTEM)
    with ucm_container.uow.read() as reader:
        row = reader.settings.get("general.metrics_token")
    assert row.value is None
    assert row.sealed.startswith("ENC:")
    [shown] = [s for s in settings.describe(CORE) if s.name == "metrics_token"]
    assert (shown.value, shown.is_set, shown.secret) == (None, True, True)
    assert settings.general().metrics_token.get_secret_value() == "hush-hush"
    assert "hush" not in repr(settings.general()) + repr(shown)


def test_a_value_that_goes_wrong_meanwhile_leaves_the_last_good_snapshot(ucm_container):
    with ucm_container.uow.begin(SYSTEM) as tx:
        tx.settings.set("general.session_timeout", value="soon")
    ucm_container.clock.advance(timedelta(seconds=1))
    assert ucm_container.settings.general().session_timeout == 28_800


def test_a_stored_key_of_another_version_is_ignored(ucm_installation):
    first = ucm_installation.start()
    with first.uow.begin(SYSTEM) as tx:
        tx.settings.set("general.from_the_future", value=1)
    assert ucm_installation.start().settings.general().site_name == "UCM"


def registry(environ: dict[str, str]) -> SettingsRegistry:
    return SettingsRegistry(clock=FakeClock(), environ=environ)


class Shapes(PluginSettings):
    flag: bool = Field(False, description="f")
    names: tuple[str, ...] = Field((), description="n")
    ports: tuple[int, ...] = Field((), description="p")


def test_the_environment_is_read_by_type():
    settings = registry(
        {"UCM_PROBE__FLAG": "true", "UCM_PROBE__NAMES": "a, b", "UCM_PROBE__PORTS": "[1, 2]"}
    )
    settings.declare("probe", Shapes)
    assert settings.snapshot("probe") == Shapes(flag=True, names=("a", "b"), ports=(1, 2))


class Undescribed(PluginSettings):
    size: int = 1


class Required(PluginSettings):
    size: int = Field(description="s")


class Loose(PluginSettings, extra="ignore"):
    pass


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Undescribed, "needs a description"),
        (Required, "needs a default"),
        (Loose, "refuse unknown"),
    ],
)
def test_a_settings_class_that_breaks_the_rules_is_refused(model, says):
    with pytest.raises(PluginRefused, match=says):
        registry({}).declare("probe", model)


def test_a_secret_in_safe_mode_stays_unset_in_the_core(ucm_installation):
    Secret("")
    first = ucm_installation.start()
    first.settings.update(CORE, {"metrics_token": "hush-hush"}, actor=SYSTEM)
    first.close()
    (ucm_installation.data_dir / "master.key").unlink()
    second = ucm_installation.start()
    assert second.settings.general().metrics_token.get_secret_value() == ""
