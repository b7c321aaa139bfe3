"""A PostgreSQL cluster of the tests' own, reachable by a unix socket only and gone afterwards."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

_USER = "ucm"
_START_SECONDS = 30
_SOCKET_PATH_LIMIT = 80  # sun_path holds 108 bytes; the socket's own name takes up to 20
# A test cluster is thrown away, so nothing of it needs to survive a crash.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
}


class PostgresCluster:
    """A running cluster; the URLs it gives are SQLAlchemy URLs for the psycopg driver."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{_USER}@/{database}?host={self._directory}"

    def create_database(self, name: str, *, template: str = "template0") -> str:
        """Create a copy of `template`, which nobody may be connected to; return its URL."""
        self._run(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and cut whoever is still connected to it."""
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(
            host=str(self._directory), user=_USER, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)


@contextlib.contextmanager
def running_cluster(binaries: Path) -> Iterator[PostgresCluster]:
    """Make and start a cluster with the programs in `binaries`; stop and remove it on exit.

    PostgreSQL refuses to run as root: then it runs as `postgres`, or as `nobody` without that user.
    Raises RuntimeError with the server's own log when it does not come up.
    """
    directory = _short_directory()
    try:
        prefix = _as_unprivileged_user(directory)
        _initialise(binaries / "initdb", directory, prefix=prefix)
        process = _start(binaries / "postgres", directory, prefix=prefix)
        try:
            _wait_until_ready(directory, process)
            yield PostgresCluster(directory)
        finally:
            _stop(process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _short_directory() -> Path:
    directory = tempfile.mkdtemp(prefix="ucm-pg-")
    if len(directory) > _SOCKET_PATH_LIMIT:
        Path(directory).rmdir()
        directory = tempfile.mkdtemp(prefix="ucm-pg-", dir="/tmp")
    return Path(directory)


def _as_unprivileged_user(directory: Path) -> list[str]:
    """Return the command prefix that drops root, and ends the server when the test process dies."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0:
        return [setpriv, "--pdeathsig", "INT"] if setpriv else []
    if setpriv is None:
        raise RuntimeError(
            "as root, PostgreSQL needs setpriv (package util-linux) to drop privileges"
        )
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    return [setpriv, "--pdeathsig", "INT", *ids, "env", f"HOME={directory}"]


def _initialise(initdb: Path, directory: Path, *, prefix: list[str]) -> None:
    arguments = ["-D", "data", "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
    made = subprocess.run(  # noqa: S603 the distribution's own program
        [*prefix, str(initdb), *arguments, "--no-sync"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if made.returncode != 0:
        raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")


def _start(postgres: Path, directory: Path, *, prefix: list[str]) -> subprocess.Popen[bytes]:
    settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 the distribution's own program
            [*prefix, str(postgres), "-D", "data", "-k", str(directory), *settings],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _wait_until_ready(directory: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(host=str(directory), user=_USER, dbname="postgres").close()
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                log = (directory / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start:\n{log}") from error
            time.sleep(0.05)
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)  # fast shutdown
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
