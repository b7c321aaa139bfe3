"""What a plugin's transactions give it: its own tables, and nothing of the core's."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table, Text, func, literal_column, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ucm.api import Job, JobRun, PluginContext, hookimpl
from ucm.api.actor import Actor
from ucm.api.errors import Forbidden
from ucm.api.issuance import IssuedCertificate
from ucm.api.keys import KeyPurpose, KeySpec
from ucm.runtime.worker import make_scheduler
from ucm.store import tables
from ucm.testing.builders import a_ca, a_request
from ucm.testing.hosting import a_manifest

SYSTEM = Actor.system("test")


class Base(DeclarativeBase):
    """Apart from the models of the product."""


class Note(Base):
    __tablename__ = "probe_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    core_key_id: Mapped[int | None] = mapped_column(Integer)


class CoreKey(Base):
    """The core's table, mapped by a plugin."""

    __table__ = Table(
        "core_key", Base.metadata, Column("id", Integer, primary_key=True), Column("label", Text)
    )


REFERENCE = Table(
    "probe_reference",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("key_id", ForeignKey("core_key.id")),
)


class Probe:
    manifest = a_manifest()

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        self.ctx = ctx

    @hookimpl
    def ucm_jobs(self, ctx: PluginContext) -> Iterable[Job] | None:
        return [Job(id="probe.look", title="Look", run=self.look, every=timedelta(minutes=5))]

    def look(self, ctx: PluginContext, run: JobRun) -> None:
        with ctx.uow.begin(SYSTEM) as tx:
            tx.session.add(Note(id=1, text="by a job"))
        with ctx.uow.begin(SYSTEM) as tx:
            try:
                tx.session.execute(select(tables.key))
            except Forbidden as error:
                self.refused = error


@pytest.fixture
def probe(ucm_installation):
    plugin = Probe()
    plugin.container = ucm_installation.start(plugins={"probe": plugin})
    with plugin.container.uow.begin(SYSTEM) as tx:
        for table in (Note.__table__, REFERENCE):
            table.create(tx.session.connection())
    yield plugin
    with plugin.container.uow.begin(SYSTEM) as tx:
        for table in (REFERENCE, Note.__table__):
            table.drop(tx.session.connection())


STATEMENTS = {
    "text": text("select sealed from core_key"),
    "quoted": text('SELECT sealed FROM "CORE_KEY"'),
    "table": select(tables.key),
    "column": select(tables.key.c.sealed),
    "mapped": select(CoreKey),
    "count": select(func.count()).select_from(tables.user),
    "joined": select(Note).join(tables.key, tables.key.c.id == Note.core_key_id),
    "subquery": select(select(tables.key.c.sealed).limit(1).scalar_subquery()),
    "exists": select(Note).where(select(tables.user.c.id).exists()),
    "literal": select(literal_column("(select max(sealed) from core_key)")),
    "textual": select(text("sealed from core_key")),
    "cte": select(select(tables.key.c.sealed).cte("innocent")),
    "union": select(Note.text).union_all(select(tables.key.c.sealed)),
    "insert": tables.setting.insert().values(key="x", value="y"),
    "update": tables.user.update().values(role="admin"),
    "delete": tables.audit.delete(),
    "from select": Note.__table__.insert().from_select(["text"], select(tables.key.c.sealed)),
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_statements_on_the_cores_tables_are_refused(probe, statement):
    with probe.ctx.uow.read() as reader, pytest.raises(Forbidden, match="is the core's"):
        reader.session.execute(statement)
    with probe.ctx.uow.begin(SYSTEM) as tx, pytest.raises(Forbidden, match="is the core's"):
        tx.session.execute(statement)


def test_objects_of_the_cores_tables_are_refused(probe):
    a_ca().made_in(probe.container)
    with probe.ctx.uow.read() as reader, pytest.raises(Forbidden):
        reader.session.get(CoreKey, 1)
    with probe.ctx.uow.begin(SYSTEM) as tx:
        tx.session.add(CoreKey(label="mine"))
        with pytest.raises(Forbidden):
            tx.session.flush()
        tx.session.rollback()


def test_a_session_gives_no_connection_and_makes_no_tables(probe):
    with probe.ctx.uow.read() as reader:
        with pytest.raises(Forbidden, match="no connection"):
            reader.session.connection()
        from sqlalchemy.schema import DropTable

        with pytest.raises(Forbidden, match="migrations"):
            reader.session.execute(DropTable(Note.__table__))


def test_a_transaction_shows_no_repository_of_the_core(probe):
    with probe.ctx.uow.begin(SYSTEM) as tx, probe.ctx.uow.read() as reader:
        for unit in (tx, reader):
            assert not [name for name in ("keys", "users", "secrets") if hasattr(unit, name)]


def test_own_tables_work_and_refer_to_the_cores(probe):
    with probe.ctx.uow.begin(SYSTEM) as tx:
        key = probe.ctx.keys.generate(KeySpec.ED25519, purpose=KeyPurpose.TSA, label="k", tx=tx)
        tx.session.add(Note(id=1, text="see core_key", core_key_id=key.id))
        tx.session.execute(REFERENCE.insert().values(id=1, key_id=key.id))
        tx.session.execute(text("UPDATE probe_note SET text = text || '!' WHERE core_key_id > 0"))
    with probe.ctx.uow.read() as reader:
        assert reader.session.scalars(select(Note.text)).all() == ["see core_key!"]
        assert reader.session.get(Note, 1).core_key_id == key.id
    with probe.ctx.uow.begin(SYSTEM) as tx:
        tx.session.delete(tx.session.get(Note, 1))
        tx.session.execute(REFERENCE.delete())
    with probe.ctx.uow.read() as reader:
        assert reader.session.scalars(select(Note)).all() == []


def test_the_unit_that_stores_a_certificate_is_a_plugins_too(probe):
    ca = a_ca().made_in(probe.container)
    refused = []

    def keep(tx, issued):
        with pytest.raises(Forbidden) as caught:
            tx.session.execute(select(tables.key))
        refused.append(caught.value)
        tx.session.add(Note(id=issued.id, text="issued"))

    issued = probe.ctx.issuance.issue(a_request(ca), actor=SYSTEM, on_stored=keep)
    assert isinstance(issued, IssuedCertificate)
    assert refused
    with probe.ctx.uow.read() as reader:
        assert reader.session.get(Note, issued.id).text == "issued"


def test_the_units_of_a_job_are_a_plugins_too(probe):
    scheduler = make_scheduler(probe.container)
    scheduler.prepare()
    assert scheduler.run("probe.look")
    assert "is the core's" in probe.refused.detail
    with probe.ctx.uow.read() as reader:
        assert reader.session.get(Note, 1).text == "by a job"
