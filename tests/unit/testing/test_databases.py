"""Fresh databases: nobody else's tables, and copies that hold what was prepared."""

import pytest
import sqlalchemy as sa


def _tables(url):
    engine = sa.create_engine(url)
    try:
        return set(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def _create(url, table):
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(sa.text(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)"))
    finally:
        engine.dispose()


def test_a_database_is_of_the_dialect_that_was_asked_for(database_url, database_dialect):
    assert sa.make_url(database_url).get_backend_name() == database_dialect


def test_two_fresh_databases_share_nothing(databases, database_dialect):
    first, second = databases.fresh(database_dialect), databases.fresh(database_dialect)
    _create(first, "only_in_the_first")
    assert _tables(first) == {"only_in_the_first"}
    assert _tables(second) == set()


def test_a_prepared_database_is_prepared_once_and_copied(databases, database_dialect):
    calls = []

    def prepare(url):
        calls.append(url)
        _create(url, "prepared")

    first, second = (
        databases.prepared(database_dialect, label="once", prepare=prepare) for _ in range(2)
    )
    _create(first, "later")
    assert _tables(first) == {"prepared", "later"}
    assert _tables(second) == {"prepared"}
    assert len(calls) == 1


def test_a_discarded_database_is_gone_even_while_somebody_is_connected(databases, database_dialect):
    url = databases.fresh(database_dialect)
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            databases.discard(url)
            connection.invalidate()
    finally:
        engine.dispose()
    if database_dialect == "postgresql":
        with pytest.raises(sa.exc.OperationalError, match="does not exist"):
            _tables(url)
    else:
        assert not list(databases.directory.glob(sa.make_url(url).database.rpartition("/")[2]))
