"""State, audit rows and events commit together or not at all, on both databases."""

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, mapped_column

from ucm.api.actor import Actor
from ucm.api.db import plugin_base
from ucm.api.errors import Conflict, Invalid, NotFound, StorageFailed
from ucm.api.events import CaDeleted, CertificateIssued, CertificateRevoked
from ucm.api.services import Target
from ucm.store.audit import AuditQuery
from ucm.store.engine import create_engine
from ucm.store.outbox import event_from


def issued(number):
    return CertificateIssued(
        certificate_id=number,
        ca_id=None,
        serial="ab",
        subject="CN=x",
        origin="api",
        not_after=_noon(),
    )


def _noon():
    from ucm.testing.fakes import START

    return START


def everything(uow):
    with uow.read() as reader:
        return (
            [view.serial for view in reader.certificates.stream()],
            [row.action for row in reader.audit_log.page(AuditQuery()).items],
            [row.name for row in reader.outbox.pending(100)],
        )


def test_state_audit_row_and_event_commit_together(uow, operator, certificate, published):
    with uow.begin(operator) as tx:
        key = tx.certificates.add(certificate(1))
        tx.audit("certificate_created", target=Target("certificate", key, "CN=x"), ca=3)
        tx.emit(issued(key))
        assert published == []
    assert everything(uow) == (
        [certificate(1).serial],
        ["certificate_created"],
        ["certificate.issued"],
    )
    assert published == [issued(key)]


def test_nothing_of_a_failing_unit_remains(uow, operator, certificate, published):
    called = []
    with pytest.raises(ValueError, match="late"), uow.begin(operator) as tx:  # noqa: PT012 a whole unit
        key = tx.certificates.add(certificate(1))
        tx.audit("certificate_created", target=Target("certificate", key))
        tx.emit(issued(key))
        tx.after_commit(lambda: called.append(1))
        raise ValueError("late")
    assert everything(uow) == ([], [], [])
    assert published == called == []


def test_an_audit_row_tells_who_what_and_from_where(uow, operator, clock):
    with uow.begin(operator) as tx:
        tx.audit(
            "cert_revoked", target=Target("certificate", 5, "CN=x"), success=False, reason="policy"
        )
    with uow.read() as reader:
        (row,) = reader.audit_log.page(AuditQuery()).items
    assert row.timestamp == clock.now()
    assert (row.actor_kind, row.username, row.user_id) == ("user", "olga", 7)
    assert (row.action, row.resource_type, row.resource_id) == ("cert_revoked", "certificate", "5")
    assert (row.resource_name, row.details, row.success) == ("CN=x", {"reason": "policy"}, False)
    assert (row.ip_address, row.user_agent) == ("192.0.2.9", "tests/1.0")


def test_undeclared_actions_and_events_are_refused(uow, operator):
    with pytest.raises(LookupError, match="ucm_audit_actions"), uow.begin(operator) as tx:
        tx.audit("invented", target=Target("x"))
    with pytest.raises(LookupError, match="ucm_event_types"), uow.begin(operator) as tx:
        tx.emit(CaDeleted(ca_id=1, subject="CN=x"))


def test_calls_and_observers_run_after_the_commit_in_the_units_own_thread(
    make_uow, engine, operator, certificate
):
    seen = []

    def observe(events):
        seen.append((threading.get_ident(), everything(uow)[0]))

    uow = make_uow(engine, observe)
    with uow.begin(operator) as tx:
        key = tx.certificates.add(certificate(1))
        tx.emit(issued(key))
        tx.after_commit(lambda: seen.append((threading.get_ident(), everything(uow)[0])))
    assert seen == [(threading.get_ident(), [certificate(1).serial])] * 2


def test_an_observer_that_raises_keeps_neither_the_commit_nor_the_other_calls_away(
    uow, operator, certificate
):
    called = []

    def fail():
        raise ValueError("observer")

    with pytest.raises(ValueError, match="observer"), uow.begin(operator) as tx:  # noqa: PT012 a whole unit
        tx.certificates.add(certificate(1))
        tx.after_commit(fail)
        tx.after_commit(lambda: called.append(1))
    assert called == [1]
    assert everything(uow)[0] == [certificate(1).serial]


def test_a_write_unit_within_another_is_a_mistake(uow, operator):
    with uow.begin(operator):
        with pytest.raises(RuntimeError, match="already open"), uow.begin(operator):
            pass
        with uow.read():
            pass
    with uow.begin(operator):
        pass


def test_a_savepoint_takes_back_its_rows_audit_rows_and_events_alone(
    uow, operator, certificate, published
):
    with uow.begin(operator) as tx:
        first = tx.certificates.add(certificate(1))
        tx.audit("certificate_created", target=Target("certificate", first))
        with pytest.raises(ValueError, match="inner"), tx.savepoint():  # noqa: PT012 a whole unit
            second = tx.certificates.add(certificate(2))
            tx.audit("cert_revoked", target=Target("certificate", second))
            tx.emit(issued(second))
            raise ValueError("inner")
        with tx.savepoint():
            third = tx.certificates.add(certificate(3))
            tx.emit(issued(third))
    assert everything(uow)[0] == [certificate(1).serial, certificate(3).serial]
    assert everything(uow)[1] == ["certificate_created"]
    assert [fact.certificate_id for fact in published] == [third]


def test_a_conflict_in_a_savepoint_leaves_the_unit_usable(uow, operator, certificate):
    with uow.begin(operator) as tx:
        tx.certificates.add(certificate(1))
        with pytest.raises(Conflict), tx.savepoint():
            tx.certificates.add(certificate(1))
        tx.certificates.add(certificate(2))
    assert len(everything(uow)[0]) == 2


def test_a_read_is_one_snapshot_and_refuses_writes(uow, make_uow, store_url, operator, certificate):
    other = make_uow(create_engine(store_url))
    with uow.read() as reader:
        assert list(reader.certificates.stream()) == []
        with other.begin(operator) as tx:
            tx.certificates.add(certificate(1))
        assert list(reader.certificates.stream()) == []
    with uow.read() as reader:
        assert len(list(reader.certificates.stream())) == 1
    with pytest.raises(DBAPIError), uow.read() as reader:
        reader.settings.set("site_name", value="x")
    with uow.begin(operator) as tx:  # the refusal does not outlast the read
        tx.settings.set("site_name", value="x")


Base = plugin_base("probe_")


class Probe(Base):
    __tablename__ = "probe_row"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture
def probe_table(engine):
    with engine.begin() as connection:
        Probe.__table__.create(connection)


def test_an_owners_own_tables_are_part_of_the_unit(uow, operator, certificate, probe_table):
    with uow.begin(operator) as tx:
        tx.session.add(Probe(id=1, text="kept"))
        tx.certificates.add(certificate(1))
    with pytest.raises(ValueError, match="no"), uow.begin(operator) as tx:  # noqa: PT012 a whole unit
        tx.session.add(Probe(id=2, text="lost"))
        tx.session.flush()
        tx.session.commit()  # ends a savepoint, no more
        raise ValueError("no")
    with uow.read() as reader:
        assert [row.id for row in reader.session.query(Probe)] == [1]
        reader.session.add(Probe(id=3, text="refused"))
        with pytest.raises(DBAPIError):
            reader.session.flush()


def test_an_owners_rollback_does_not_undo_what_the_core_did(
    uow, operator, certificate, probe_table
):
    with uow.begin(operator) as tx:
        tx.certificates.add(certificate(1))
        tx.session.add(Probe(id=1, text="undone"))
        tx.session.flush()
        tx.session.rollback()
    with uow.read() as reader:
        assert list(reader.session.query(Probe)) == []
    assert len(everything(uow)[0]) == 1


def test_an_owners_constraint_error_undoes_the_unit(uow, operator, certificate, probe_table):
    with pytest.raises(DBAPIError), uow.begin(operator) as tx:  # noqa: PT012 a whole unit
        tx.certificates.add(certificate(1))
        tx.session.add_all([Probe(id=1, text="a")])
        tx.session.flush()
        tx.session.execute(text("INSERT INTO probe_row VALUES (1, 'b')"))
    assert everything(uow) == ([], [], [])


def test_events_come_back_from_the_outbox_as_they_were(uow, operator, clock):
    facts = [
        issued(4),
        CertificateRevoked(
            certificate_id=4,
            ca_id=2,
            serial="ab",
            reason="superseded",
            revoked_at=clock.now() - timedelta(microseconds=7),
        ),
    ]
    with uow.begin(operator) as tx:
        for fact in facts:
            tx.emit(fact)
    with uow.read() as reader:
        rows = reader.outbox.pending(10)
    assert [event_from(row, type(fact)) for row, fact in zip(rows, facts, strict=True)] == facts
    with uow.begin(operator) as tx:
        tx.outbox.mark_delivered([rows[0].id], at=clock.now())
        tx.outbox.mark_failed(rows[1].id, error="observer raised")
    with uow.read() as reader:
        (left,) = reader.outbox.pending(10)
        assert reader.outbox.pending_count() == 1
        assert reader.outbox.pending(10, before=clock.now()) == []
    assert (left.id, left.attempts, left.last_error) == (rows[1].id, 1, "observer raised")


def test_issuing_takes_few_statements(uow, engine, operator, certificate, add_ca):
    with uow.begin(operator) as tx:
        ca_id = add_ca(tx)
    seen = []
    event.listen(engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    with uow.begin(operator) as tx:
        tx.cas.get(ca_id)
        key = tx.certificates.add(certificate(1, ca_id=ca_id))
        tx.audit("certificate_created", target=Target("certificate", key))
        tx.audit("certificate_created", target=Target("certificate", key))
        tx.emit(issued(key))
    written = [statement for statement in seen if not statement.startswith("BEGIN")]
    assert len(written) == 5, written


def test_a_database_that_cannot_be_reached_says_what_to_check(make_uow, operator):
    for url in ("sqlite:////nowhere/at/all/ucm.db", "postgresql://u@/x?host=/nowhere"):
        uow = make_uow(create_engine(url))
        with pytest.raises(StorageFailed), uow.begin(operator):
            pass
        with pytest.raises(StorageFailed), uow.read():
            pass


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_other_databases_are_refused_with_the_ones_that_work(url):
    with pytest.raises(Invalid) as caught:
        create_engine(url)
    assert "sqlite" in caught.value.hint


_WRITER = """
import sys
from ucm.api.actor import Actor
from ucm.api.events import CertificateIssued
from ucm.api.services import Target
from ucm.store.engine import create_engine
from ucm.store.uow import UnitOfWork
from ucm.testing.bulk import a_certificate
from ucm.testing.fakes import FakeClock, SequenceIds
import threading
clock = FakeClock()
uow = UnitOfWork(create_engine(sys.argv[1]), clock=clock, ids=SequenceIds(), audit_actions=bool,
                 event_types=bool, publish=lambda events: None)
lock = threading.Lock()
def work(first):
    for number in range(first, first + 100_000):
        row = a_certificate(number, now=clock.now(), der=b"der")
        with uow.begin(Actor.system()) as tx:
            key = tx.certificates.add(row)
            tx.audit("certificate_created", target=Target("certificate", key))
            tx.emit(CertificateIssued(certificate_id=key, ca_id=None, serial=row.serial,
                                      subject=row.subject, origin="api", not_after=row.not_after))
        with lock:
            print(key, flush=True)
for n in range(4):
    threading.Thread(target=work, args=(n * 1_000_000 + 1,)).start()
"""


def test_kill_leaves_whole_units_and_all_that_were_confirmed(store_url, uow):
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, store_url],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    confirmed = {int(writer.stdout.readline()) for _ in range(60)}
    writer.send_signal(signal.SIGKILL)
    confirmed |= {int(line) for line in writer.communicate(timeout=20)[0].splitlines() if line}
    with uow.read() as reader:
        stored = {view.id for view in reader.certificates.stream()}
        audited = {
            int(row.resource_id) for row in reader.audit_log.stream(AuditQuery(), limit=10**6)
        }
        told = {row.payload["certificate_id"] for row in reader.outbox.pending(10**6)}
    assert confirmed <= stored
    assert stored == audited == told
    with uow.begin(Actor.system()) as tx:  # the next process goes on
        tx.certificates.rename(min(stored), description="after the crash")
    with uow.read() as reader, pytest.raises(NotFound):
        reader.certificates.get(10**9)
