"""Plugins on disk that break at one step each: contained, shown, and found by the linter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ucm.api.actor import Actor
from ucm.api.errors import PluginUnavailable
from ucm.runtime.boot import BootError
from ucm.runtime.lint import lint_plugin
from ucm.runtime.worker import make_scheduler
from ucm.testing.builders import a_ca
from ucm.testing.hosting import state_of

SYSTEM = Actor.system("test")

HEAD = """
from collections.abc import Iterable
from datetime import timedelta
from flask import Blueprint
from sqlalchemy import Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from ucm.api import *
from ucm.api.db import plugin_base
from ucm.api.issuance import Denial, Hold, IssuanceRequest, Operation
from ucm.api.web import requires



class Plugin:
    manifest = PluginManifest({manifest})
"""
MANIFEST = {
    "title": "'T'",
    "summary": "'S.'",
    "api": "'>=1.0,<2'",
    "docs": "'README.md'",
}
TAIL = "\n\nplugin = Plugin()\n"


class Disk:
    """Writes plugin distributions that this process finds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[str] = []

    def install(
        self, name: str, body: str = "", *, manifest: dict[str, str] | None = None, **files: str
    ) -> str:
        package = self.folder / f"ucm_{name}"
        package.mkdir()
        fields = {"name": repr(name), "table_prefix": repr(f"{name}_"), **MANIFEST}
        written = ", ".join(f"{key}={text}" for key, text in {**fields, **(manifest or {})}.items())
        source = HEAD.format(manifest=written) + _indented(body) + TAIL
        (package / "__init__.py").write_text(source)
        (package / "README.md").write_text("# A plugin\n")
        for path, text in files.items():
            target = package / path.replace("__", "/").replace("_py", ".py")
            target.parent.mkdir(exist_ok=True)
            (target.parent / "__init__.py").touch()
            target.write_text(text)
        info = self.folder / f"ucm_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ucm-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[ucm.plugins]\n{name} = ucm_{name}:plugin\n")
        self.made.append(f"ucm_{name}")
        return name


def _indented(body: str) -> str:
    lines = body.strip("\n").splitlines()
    return "\n" + "\n".join(f"    {line}" if line else "" for line in lines)


@pytest.fixture
def disk(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    made = Disk(tmp_path)
    yield made
    for module in [m for m in sys.modules if m.partition(".")[0] in made.made]:
        del sys.modules[module]


REVISION = """
import sqlalchemy as sa
from alembic import op
revision = "{name}_0001"
down_revision = None
branch_labels = ("{name}",)
depends_on = None


def upgrade():
    op.create_table("{table}", sa.Column("id", sa.Integer(), primary_key=True))
    {then}


def downgrade():
    op.drop_table("{table}")
"""
MIGRATIONS = """
@hookimpl
def ucm_migrations(self) -> Migrations | None:
    return Migrations("ucm_{name}.migrations")
"""


def with_tables(disk: Disk, name: str, *, then: str = "pass", table: str = "") -> str:
    revision = REVISION.format(name=name, table=table or f"{name}_thing", then=then)
    body = MIGRATIONS.format(name=name)
    return disk.install(name, body, **{f"migrations__{name}_0001_py": revision})


def test_a_migration_that_breaks_half_way_leaves_nothing_and_fails_its_plugin(
    disk, ucm_installation
):
    from sqlalchemy import inspect

    with_tables(disk, "halfway", then="raise RuntimeError('half way')")
    container = ucm_installation.start(plugins="default,halfway")
    state = state_of(container.host, "halfway")
    assert (state.state, state.step) == ("failed", "migrate")
    assert "half way" in state.reason
    assert state_of(container.host, "softkeys").state == "running"
    assert not [t for t in inspect(container.engine).get_table_names() if "halfway" in t]
    a_ca().made_in(container)


def test_a_revision_under_another_name_is_refused(disk, ucm_installation):
    body = MIGRATIONS.format(name="misnamed")
    revision = REVISION.format(name="other", table="misnamed_thing", then="pass")
    disk.install("misnamed", body, **{"migrations__other_0001_py": revision})
    state = state_of(ucm_installation.start(plugins="misnamed").host, "misnamed")
    assert (state.state, state.step) == ("failed", "migrate")
    assert "must be named misnamed_0001" in state.reason


def test_a_plugin_for_a_newer_core_schema_is_incompatible(disk, ucm_installation):
    revision = REVISION.format(name="newer", table="newer_thing", then="pass")
    disk.install(
        "newer",
        MIGRATIONS.format(name="newer"),
        manifest={"needs_core_schema": "'core_9999'"},
        **{"migrations__newer_0001_py": revision},
    )
    state = state_of(ucm_installation.start(plugins="newer").host, "newer")
    assert state.state == "incompatible"
    assert "core_9999" in state.reason


def test_without_tables_the_core_schema_is_looked_at_too(disk, ucm_installation):
    disk.install("newer", manifest={"needs_core_schema": "'core_9999'"})
    state = state_of(ucm_installation.start(plugins="newer").host, "newer")
    assert state.state == "incompatible"


@pytest.mark.parametrize(
    ("body", "step"),
    [
        ("raise RuntimeError('broken')", "load"),
        ("@hookimpl\ndef ucm_strat(self) -> None: ...", "validate"),
        (
            "@hookimpl\ndef ucm_permissions(self) -> Iterable[Permission] | None:\n    1 / 0",
            "contribute",
        ),
        (
            "@hookimpl\ndef ucm_routes(self, ctx: PluginContext) -> Iterable[Routes] | None:\n"
            "    raise RuntimeError('broken')",
            "contribute",
        ),
        ("@hookimpl\ndef ucm_start(self, ctx: PluginContext) -> None:\n    1 / 0", "start"),
    ],
)
def test_installed_plugins_fail_at_their_step_only(disk, ucm_installation, body, step):
    disk.install("broken", body)
    container = ucm_installation.start(plugins="default,broken")
    state = state_of(container.host, "broken")
    assert (state.state, state.step) == ("failed", step)
    assert state_of(container.host, "softkeys").state == "running"
    a_ca().made_in(container)


def test_an_installed_plugin_that_is_not_named_is_not_imported(disk, ucm_installation):
    disk.install("quiet", "raise RuntimeError('imported')")
    container = ucm_installation.start(plugins="default")
    assert state_of(container.host, "quiet").state == "disabled"
    assert "ucm_quiet" not in sys.modules


def test_a_required_plugin_that_breaks_stops_the_start(disk, ucm_installation):
    disk.install("broken", "raise RuntimeError('broken')")
    with pytest.raises(BootError, match=r"requires 'broken' \(with '!'\)"):
        ucm_installation.start(plugins="default,broken!")


def test_a_guard_whose_import_fails_makes_issuance_unavailable(disk, ucm_installation):
    disk.install(
        "guard", "import absent_package", manifest={"guards": "frozenset({Operation.ISSUE})"}
    )
    container = ucm_installation.start(plugins="default,guard")
    assert state_of(container.host, "guard").guards == ("issue",)
    with pytest.raises(PluginUnavailable):
        a_ca().made_in(container)


JOB = """
@hookimpl
def ucm_jobs(self, ctx: PluginContext) -> Iterable[Job] | None:
    return [Job(id="jobs.tick", title="T", run=self._run, every=timedelta(hours=1), max_failures=1)]

def _run(self, ctx, run):
    raise RuntimeError("broken in a job")
"""


def test_a_job_that_raises_degrades_its_plugin_and_is_paused(disk, ucm_installation):
    disk.install("jobs", JOB)
    container = ucm_installation.start(plugins="default,jobs")
    scheduler = make_scheduler(container)
    scheduler.prepare()
    assert scheduler.run("jobs.tick")
    state = state_of(container.host, "jobs")
    assert state.state == "degraded"
    assert "jobs.tick" in state.reason
    other_process = ucm_installation.start(plugins="default,jobs")
    assert state_of(other_process.host, "jobs").state == "degraded"
    assert state_of(other_process.host, "softkeys").state == "running"


# --- the linter ----------------------------------------------------------------------------------


def findings(name: str) -> str:
    return "\n".join(str(finding) for finding in lint_plugin(name))


def test_the_linter_finds_nothing_in_a_good_plugin(disk):
    with_tables(disk, "fine")
    disk.install("plain")
    assert findings("plain") == ""


def test_the_linter_names_an_unknown_plugin(disk):
    with pytest.raises(BootError, match="Did you mean 'softkeys'"):
        lint_plugin("softkey")


def test_the_linter_shows_why_a_plugin_does_not_load(disk):
    disk.install("broken", "@hookimpl\ndef ucm_strat(self) -> None: ...")
    assert findings("broken").startswith("validate: there is no hook 'ucm_strat'")


GUARD = """
@hookimpl
def ucm_before_issue(self, request: IssuanceRequest) -> Iterable[Denial | Hold] | None: ...
"""


def test_the_linter_finds_a_guard_that_would_fail_open(disk):
    disk.install("opener", GUARD)
    assert "guards: ucm_before_issue is implemented" in findings("opener")
    disk.install("closer", GUARD, manifest={"guards": "frozenset({Operation.ISSUE})"})
    assert findings("closer") == ""


def test_the_linter_finds_claims_that_are_not_used(disk):
    disk.install(
        "greedy",
        manifest={"url_prefixes": "('/greedy',)", "permission_namespace": "'greedy'", "docs": "''"},
    )
    text = findings("greedy")
    assert "url prefix '/greedy' is claimed and never routed" in text
    assert "permission_namespace is claimed" in text
    assert "docs must say" in text


def test_the_linter_finds_an_extra_that_does_not_exist(disk):
    disk.install("wants", manifest={"extra": "'magic'"})
    assert "extra 'magic' is not an extra of 'ucm-wants'" in findings("wants")


def test_the_linter_finds_tables_beyond_the_prefix(disk):
    with_tables(disk, "stray", table="elsewhere_thing")
    assert "table 'elsewhere_thing' does not start with 'stray_'" in findings("stray")


def test_the_linter_finds_migrations_that_differ_from_the_models(disk):
    with_tables(disk, "drift")
    assert "models and migrations differ" in findings("drift")
