"""Installations on a database of the test's own."""

import contextlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = Path(__file__).with_name("installation.py")


def _module():
    spec = importlib.util.spec_from_file_location("installation", _PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def url(databases, database_dialect):
    """A migrated database, empty but for what migrations bring."""
    from ucm.testing.app import prepare_database

    with contextlib.ExitStack() as cleanup:
        url = databases.prepared(database_dialect, label="ucm core", prepare=prepare_database)
        cleanup.callback(databases.discard, url)
        yield url


@pytest.fixture
def install(tmp_path, url):
    """Make a process's view of one installation; call it again for the process after a restart."""
    Installation = _module().Installation  # noqa: N806 a class
    with contextlib.ExitStack() as cleanup:

        def make(**options):
            made = Installation(tmp_path, url, **options)
            cleanup.callback(made.close)
            return made

        yield make


@pytest.fixture
def process(tmp_path, url):
    """Start a real process that works on the same installation: `rotate`, `work` or `locked`."""
    started = []

    def start(command):
        child = subprocess.Popen(
            [sys.executable, str(_PROGRAM), str(tmp_path), url, command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()
