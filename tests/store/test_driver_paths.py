"""Hot statements run on SQLite's driver, reads on kept connections: nobody can tell."""

from contextlib import contextmanager

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DatabaseError

from ucm.api.errors import Conflict, StorageFailed
from ucm.api.services import Target
from ucm.store.engine import create_engine


@contextmanager
def watched(engine):
    """While somebody listens, SQLAlchemy runs every statement."""
    seen = []

    def note(connection, cursor, statement, *rest):
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def unwatched(engine):
    yield None


@pytest.mark.parametrize("way", [unwatched, watched])
def test_what_was_stored_is_passed_out_as_it_reads_back(
    uow, engine, operator, certificate, add_ca, way
):
    with uow.begin(operator) as tx:
        ca_id = add_ca(tx)
    with way(engine) as seen:
        with uow.begin(operator) as tx:
            stored = tx.certificates.added(certificate(1, ca_id=ca_id), key=None)
            tx.audit("certificate_created", target=Target("certificate", stored.id))
        with uow.read() as reader:
            assert reader.certificates.get(stored.id) == stored
            assert reader.cas.standing(ca_id).is_of(reader.cas.get(ca_id))
    assert seen is None or any("INSERT INTO core_certificate " in sql for sql in seen)


@pytest.mark.parametrize("way", [unwatched, watched])
def test_a_violated_constraint_means_the_same(uow, engine, operator, certificate, add_ca, way):
    with uow.begin(operator) as tx:
        ca_id = add_ca(tx)
        tx.certificates.add(certificate(1, ca_id=ca_id))
    with way(engine), pytest.raises(Conflict, match="already"), uow.begin(operator) as tx:
        tx.certificates.add(certificate(1, ca_id=ca_id))
    with uow.read() as reader:
        assert reader.certificates.count_of_ca(ca_id) == 1


def test_a_changed_authority_no_longer_is_the_one_that_was_read(uow, operator, add_ca):
    with uow.begin(operator) as tx:
        ca_id = add_ca(tx)
    with uow.read() as reader:
        before = reader.cas.get(ca_id)
    for change in ({"is_active": False}, {"is_active": True}, {"name": "Another"}):
        with uow.begin(operator) as tx:
            after = tx.cas.update(ca_id, **change)
        with uow.read() as reader:
            standing = reader.cas.standing(ca_id)
        assert not standing.is_of(before)
        assert standing.is_of(after)


def test_a_read_sees_one_moment_and_the_next_read_a_later_one(uow, operator, certificate, add_ca):
    with uow.read() as early:
        assert early.certificates.sources() == []
        with uow.begin(operator) as tx:
            tx.certificates.add(certificate(1, ca_id=add_ca(tx)))
        assert early.certificates.sources() == []
        with uow.read() as late:
            assert late.certificates.sources() != []
    with uow.read() as reader:
        assert reader.certificates.sources() != []


def test_a_read_that_fails_leaves_a_usable_connection(uow, operator, certificate, add_ca):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), uow.read() as reader:
            _ = len(reader.certificates.sources()) / 0
        with pytest.raises(DatabaseError), uow.read() as reader:
            reader.session.execute(text("DELETE FROM core_certificate"))
    with uow.begin(operator) as tx:
        key = tx.certificates.add(certificate(1, ca_id=add_ca(tx)))
    with uow.read() as reader:
        assert reader.certificates.get(key).id == key


def test_reads_keep_their_connections_until_the_end(tmp_path, make_uow):
    engine = create_engine(f"sqlite:///{tmp_path}/kept.db")
    opened, closed = [], []
    event.listen(engine, "connect", lambda *args: opened.append(1))
    event.listen(engine, "close", lambda *args: closed.append(1))
    uow = make_uow(engine)
    for _ in range(20):
        with uow.read() as reader:
            reader.session.execute(text("SELECT 1"))
    assert len(opened) == 1
    with uow.read() as outer, uow.read() as inner:
        assert outer.session.connection() is not inner.session.connection()
    uow.close()
    assert len(opened) == len(closed) == 2
    with uow.read() as reader:
        assert reader.session.execute(text("SELECT 1")).scalar_one() == 1


def test_a_database_that_is_gone_is_told(tmp_path, make_uow):
    uow = make_uow(create_engine(f"sqlite:///{tmp_path}/no/such/folder/ucm.db"))
    with pytest.raises(StorageFailed, match="cannot be reached"), uow.read():
        pass
