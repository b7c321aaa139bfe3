"""The tests' own PostgreSQL: nobody reaches it over the network, and nothing of it stays."""

import sqlalchemy as sa

from ucm.testing import peers
from ucm.testing.postgres import running_cluster


def _scalar(url, statement):
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            return connection.execute(sa.text(statement)).scalar_one()
    finally:
        engine.dispose()


def test_it_listens_on_no_network_address_and_orders_text_by_code_point(postgres_cluster):
    url = postgres_cluster.url("postgres")
    assert _scalar(url, "SHOW listen_addresses") == ""
    assert _scalar(url, "SELECT 'a' < 'B'") is False


def test_it_is_gone_after_use():
    with running_cluster(peers.require("initdb").resolve().parent) as cluster:
        url = cluster.url("postgres")
        directory = sa.make_url(url).query["host"]
        assert _scalar(url, "SELECT 1") == 1
    from pathlib import Path

    assert not Path(directory).exists()
