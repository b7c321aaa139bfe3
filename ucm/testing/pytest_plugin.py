"""Pytest plugin of the test kit; imports nothing of ucm before a fixture is used.

`--database sqlite|postgresql|both` says where tests run that use `database_dialect`, directly or
through another fixture such as `database_url`; with `both` each of them runs once on each.
`@pytest.mark.peer("openssl")` names a program that a test runs against: without it the test is
skipped with that reason, and fails when CI=true.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Flask

    from ucm.runtime.container import Container
    from ucm.testing.app import ApiClient, Installation
    from ucm.testing.databases import DatabaseFactory, Dialect
    from ucm.testing.postgres import PostgresCluster


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of database."""
    parser.getgroup("ucm").addoption(
        "--database",
        choices=("sqlite", "postgresql", "both"),
        default="sqlite",
        help="where tests that need a database run (default: sqlite)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers of the test kit."""
    config.addinivalue_line(
        "markers", "peer(program, ...): a program of the distribution that the test runs against"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that reaches `database_dialect` once per database."""
    if "database_dialect" in metafunc.fixturenames:
        dialects = _dialects(metafunc.config)
        metafunc.parametrize("database_dialect", dialects, indirect=True, scope="session")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose peer programs are missing."""
    programs = [program for mark in item.iter_markers("peer") for program in mark.args]
    if programs:
        from ucm.testing import peers

        for program in programs:
            peers.require(program)


@pytest.fixture(scope="session")
def database_dialect(request: pytest.FixtureRequest) -> "Dialect":
    """Return "sqlite" or "postgresql", as `--database` says."""
    # A test that asks for it at run time (getfixturevalue) was not parametrised: it gets the first.
    dialect: Dialect = getattr(request, "param", _dialects(request.config)[0])
    return dialect


@pytest.fixture(scope="session")
def postgres_cluster(
    request: pytest.FixtureRequest,
) -> "Iterator[PostgresCluster]":
    """Start a PostgreSQL cluster of the tests' own for this test process."""
    from ucm.testing import peers
    from ucm.testing.postgres import running_cluster

    with running_cluster(peers.require("initdb").resolve().parent) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "DatabaseFactory":
    """Return a maker of databases, for fixtures that live longer than one test."""
    from ucm.testing.databases import DatabaseFactory

    return DatabaseFactory(
        tmp_path_factory.mktemp("databases"),
        cluster=lambda: request.getfixturevalue("postgres_cluster"),
    )


@pytest.fixture
def database_url(databases: "DatabaseFactory", database_dialect: "Dialect") -> "Iterator[str]":
    """Return the URL of an empty database of this test's own, removed afterwards."""
    with contextlib.ExitStack() as cleanup:
        url = databases.fresh(database_dialect)
        cleanup.callback(databases.discard, url)
        yield url


@pytest.fixture
def ucm_installation(
    databases: "DatabaseFactory", database_dialect: "Dialect", tmp_path: "Path"
) -> "Iterator[Installation]":
    """Return a maker of containers over one migrated database, with a clock that stands still."""
    from ucm.testing.app import Installation, prepare_database

    with contextlib.ExitStack() as cleanup:
        url = databases.prepared(database_dialect, label="ucm core", prepare=prepare_database)
        cleanup.callback(databases.discard, url)
        installation = Installation(tmp_path / "ucm-data", url)
        cleanup.callback(installation.close)
        yield installation


@pytest.fixture
def ucm_container(ucm_installation: "Installation") -> "Container":
    """Return a started container with the default plugins."""
    return ucm_installation.start()


@pytest.fixture
def ucm_app(ucm_container: "Container") -> "Flask":
    """Return the application of `ucm_container`."""
    from ucm.testing.app import make_app

    return make_app(ucm_container)


@pytest.fixture
def ucm_api(ucm_app: "Flask", ucm_container: "Container") -> "ApiClient":
    """Return a client of `ucm_app` that acts as an administrator."""
    from ucm.testing.app import api_client

    return api_client(ucm_app, ucm_container)


def _dialects(config: pytest.Config) -> "list[Dialect]":
    choice = config.getoption("--database")
    if choice == "both":
        return ["sqlite", "postgresql"]
    return [choice]
