"""Schemas go up and down per owner, whole or not at all, and touch nobody else's tables."""

import ast
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

import ucm.migrations
from ucm.api.errors import Invalid, StorageFailed
from ucm.store import migrate
from ucm.store.engine import create_engine
from ucm.store.revisions import folder


@pytest.fixture
def engine(database_url):
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def make_owner(tmp_path, monkeypatch):
    """Packages of revisions, as a plugin brings them."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(name, *upgrades):
        package = tmp_path / f"{name}_migrations"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
        for number, upgrade in enumerate(upgrades, start=1):
            before = repr(f"{name}_{number - 1:04}") if number > 1 else None
            (package / f"{name}_{number:04}.py").write_text(
                f"import sqlalchemy as sa\nfrom alembic import op\n"
                f"revision = '{name}_{number:04}'\ndown_revision = {before}\n"
                f"branch_labels = {(name,) if number == 1 else None}\n"
                f"def upgrade():\n{textwrap.indent(textwrap.dedent(upgrade), '    ')}\n"
                f"def downgrade():\n    op.drop_table('{name}_row{number}')\n"
            )
        made.append(package.name)
        return {"owner": name, "prefix": f"{name}_", "package": package.name}

    yield make
    for name in made:
        sys.modules.pop(name, None)


def tables(engine, prefix=""):
    return {name for name in inspect(engine).get_table_names() if name.startswith(prefix)}


ROW = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True))"


def test_the_core_goes_up_and_agrees_with_its_models(engine):
    core = {"prefix": migrate.CORE_PREFIX, "package": migrate.CORE_PACKAGE}
    assert migrate.current(engine, prefix="core_") is None
    assert migrate.pending(engine, **core)[0] == "core_0001"
    migrate.upgrade_core(engine)
    newest = migrate.current(engine, prefix="core_")
    assert newest is not None
    assert migrate.pending(engine, **core) == ()
    assert migrate.differences(engine, prefix="core_") == []
    migrate.upgrade_core(engine)
    assert migrate.current(engine, prefix="core_") == newest


def test_a_difference_between_models_and_database_is_seen(engine):
    migrate.upgrade_core(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE core_ca ADD COLUMN surplus TEXT"))
        connection.execute(text("DROP INDEX ix_core_certificate_by_subject"))
    found = {difference[0] for difference in migrate.differences(engine, prefix="core_")}
    assert found == {"remove_column", "add_index"}


def test_the_core_goes_down_without_a_trace(engine):
    migrate.upgrade_core(engine)
    migrate.downgrade_owner(engine, owner="core", prefix="core_", package=migrate.CORE_PACKAGE)
    assert tables(engine) == set()
    migrate.upgrade_core(engine)
    assert migrate.differences(engine, prefix="core_") == []


def test_owners_come_and_go_without_touching_each_other(engine, make_owner):
    migrate.upgrade_core(engine)
    core = tables(engine)
    one, two = make_owner("one", ROW.format("one_row1")), make_owner("two", ROW.format("two_row1"))
    migrate.upgrade_owner(engine, **one)
    migrate.upgrade_owner(engine, **two)
    assert tables(engine) == core | {
        "one_row1",
        "one_alembic_version",
        "two_row1",
        "two_alembic_version",
    }
    assert migrate.differences(engine, prefix="core_") == []
    migrate.downgrade_owner(engine, **one)
    assert tables(engine) == core | {"two_row1", "two_alembic_version"}
    migrate.upgrade_core(engine)
    assert migrate.current(engine, prefix="two_") == "two_0001"


def test_an_owner_whose_package_is_gone_does_not_keep_the_others_back(engine, make_owner):
    gone = make_owner("gone", ROW.format("gone_row1"))
    migrate.upgrade_owner(engine, **gone)
    migrate.upgrade_core(engine)
    with pytest.raises(LookupError):
        migrate.upgrade_owner(engine, owner="gone", prefix="gone_", package="no_such_package")
    assert migrate.current(engine, prefix="core_") is not None


def test_an_upgrade_that_fails_half_way_leaves_nothing(engine, make_owner):
    broken = make_owner(
        "broken", ROW.format("broken_row1"), ROW.format("broken_row2") + "\nop.execute('NONSENSE')"
    )
    with pytest.raises(Exception, match="NONSENSE"):
        migrate.upgrade_owner(engine, **broken)
    assert tables(engine) == set()
    mended = make_owner("broken", ROW.format("broken_row1"), ROW.format("broken_row2"))
    migrate.upgrade_owner(engine, **mended)
    assert migrate.pending(engine, prefix="broken_", package=mended["package"]) == ()


def test_dangling_references_stop_a_migration(engine, make_owner):
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL checks each statement")
    dangling = make_owner(
        "loose",
        """
        op.create_table('loose_row1', sa.Column('id', sa.Integer, primary_key=True),
                        sa.Column('up', sa.Integer, sa.ForeignKey('loose_row1.id')))
        op.execute('INSERT INTO loose_row1 VALUES (1, 404)')
        """,
    )
    with pytest.raises(StorageFailed, match="loose_row1"):
        migrate.upgrade_owner(engine, **dangling)
    assert tables(engine) == set()


def test_a_database_of_a_newer_version_is_left_alone(engine):
    migrate.upgrade_core(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE core_alembic_version SET version_num = 'core_9999'"))
    for act in (
        lambda: migrate.upgrade_core(engine),
        lambda: migrate.pending(engine, prefix="core_", package=migrate.CORE_PACKAGE),
    ):
        with pytest.raises(StorageFailed, match="core_9999") as caught:
            act()
        assert "newer version" in caught.value.hint


def test_processes_that_start_together_migrate_once(database_url):
    engines = [create_engine(database_url) for _ in range(4)]
    errors = []

    def run(engine):
        try:
            migrate.upgrade_core(engine)
        except Exception as error:  # noqa: BLE001 any of them fails the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert migrate.differences(engines[0], prefix="core_") == []
    for engine in engines:
        engine.dispose()


def test_revisions_import_nothing_of_ucm():
    """They must mean the same for ever, whatever becomes of the models."""
    revisions = list(Path(ucm.migrations.__path__[0]).rglob("core_*.py"))
    assert revisions
    for path in revisions:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            for name in names:
                assert name.partition(".")[0] != "ucm", f"{path.name} imports {name}"


def test_revisions_are_read_as_alembic_reads_them(make_owner):
    made = make_owner("line", ROW.format("line_row1"), ROW.format("line_row2"), "pass")
    for package in (migrate.CORE_PACKAGE, made["package"]):
        script = ScriptDirectory(
            str(folder("ucm.migrations")), version_locations=[str(folder(package))]
        )
        assert list(migrate.revisions(package)) == [
            step.revision for step in reversed(list(script.walk_revisions()))
        ]


def test_a_part_of_the_revisions_is_pending(engine, make_owner):
    one = make_owner("part", ROW.format("part_row1"))
    migrate.upgrade_owner(engine, **one)
    where = {"prefix": "part_", "package": one["package"]}
    assert migrate.pending(engine, **where) == ()
    make_owner("part", ROW.format("part_row1"), ROW.format("part_row2"), ROW.format("part_row3"))
    assert migrate.pending(engine, **where) == ("part_0002", "part_0003")
    migrate.upgrade_owner(engine, **one)
    assert migrate.pending(engine, **where) == ()
    assert tables(engine, "part_row") == {"part_row1", "part_row2", "part_row3"}


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("revision = 'odd_0002'\ndown_revision = None\n", "odd_0002 both follow None"),
        ("revision = 'odd_0002'\ndown_revision = 'odd_0009'\n", "odd_0002 cannot be reached"),
        ("revision = 'odd_0002'\n", "needs revision"),
        ("revision = 'odd_' + str(2)\ndown_revision = 'odd_0001'\n", "written as a literal"),
        ("revision = 'odd_0002'\ndown_revision = ('odd_0001', 'x')\n", "needs revision"),
        ("", "needs revision"),
    ],
)
def test_revisions_that_are_not_one_line_are_refused(engine, make_owner, source, complaint):
    odd = make_owner("odd", ROW.format("odd_row1"))
    (folder(odd["package"]) / "odd_0002.py").write_text(source)
    for act in (
        lambda: migrate.pending(engine, prefix="odd_", package=odd["package"]),
        lambda: migrate.upgrade_owner(engine, **odd),
    ):
        with pytest.raises(Invalid, match=complaint):
            act()
    assert tables(engine) == set()


def test_annotated_revisions_are_read(make_owner):
    typed = make_owner("typed", ROW.format("typed_row1"))
    (folder(typed["package"]) / "typed_0002.py").write_text(
        '"""The second.\n\nRevises: typed_0001\n"""\n'
        'revision: str = "typed_0002"\ndown_revision: str | None = "typed_0001"  # before\n'
    )
    assert migrate.revisions(typed["package"]) == ("typed_0001", "typed_0002")


def test_a_start_without_pending_revisions_does_without_alembic(database_url):
    program = (
        "import sys\nfrom ucm.store import migrate\nfrom ucm.store.engine import create_engine\n"
        f"engine = create_engine({database_url!r})\n"
        "core = {'prefix': migrate.CORE_PREFIX, 'package': migrate.CORE_PACKAGE}\n"
        "left = migrate.pending(engine, **core)\n"
        "assert 'alembic' not in sys.modules\n"
        "migrate.upgrade_core(engine)\n"
        "print(left, migrate.pending(engine, **core))\n"
    )
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith(") ()"), done.stderr
