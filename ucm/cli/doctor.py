"""``ucm doctor``: what is wrong with this installation, and what to do."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from cryptography import x509

from ucm.api.errors import UcmError
from ucm.cli.container import data_dir_option
from ucm.cli.setup import pending
from ucm.runtime.boot import BootError, BootSettings
from ucm.runtime.boot_sources import given_settings
from ucm.runtime.clock import SystemClock
from ucm.runtime.container import Container, build_container
from ucm.runtime.opening import missing_database

SECRET_FILES = ("master.key", "secret.key", "tls/server.key")
SOON = timedelta(days=30)
TOLERANCE = timedelta(minutes=1)
"""By which several machines that share a database may differ."""
OLDEST_SANE = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked thing; ``advice`` says what to do about it when it is not ``ok``."""

    ok: bool
    what: str
    advice: str = ""


@click.command()
@data_dir_option
def doctor(data_dir: Path | None) -> None:
    """Check configuration, permissions, database, keys, plugins and clock.

    Changes nothing. Exit code 1 when something is wrong.
    """
    wrong = 0
    for finding in examine(data_dir):
        wrong += not finding.ok
        click.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what}")
        if not finding.ok:
            click.echo(f"     -> {finding.advice}")
    click.echo("everything is in order" if not wrong else f"{wrong} to look at")
    raise SystemExit(1 if wrong else 0)


def examine(data_dir: Path | None) -> Iterator[Finding]:
    """All findings, in the order in which they depend on each other."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(sys.version_info >= (3, 11), f"Python {version}", "use 3.11 or newer")
    try:
        boot = BootSettings.load(data_dir=data_dir)
    except BootError as error:
        yield Finding(False, f"configuration: {error}", error.hint)
        yield from _settings(data_dir)
        return
    yield Finding(True, f"configuration: data in {boot.data_dir}, plugins {boot.plugins}")
    yield from _settings(data_dir)
    if not boot.data_dir.is_dir():
        yield Finding(False, f"{boot.data_dir} does not exist", "make it with: ucm init")
        return
    yield from _permissions(boot)
    yield from _clock()
    yield from _ports(boot)
    yield from _tls(boot)
    yield from _inside(boot)


def _settings(data_dir: Path | None) -> Iterator[Finding]:
    for given in given_settings(data_dir=data_dir):
        yield Finding(True, f"{given.name} is {given.value} (from {given.source})")


def _permissions(boot: BootSettings) -> Iterator[Finding]:
    mode = stat.S_IMODE(boot.data_dir.stat().st_mode)
    yield Finding(
        not mode & 0o077, f"{boot.data_dir} has mode {mode:04o}", f"chmod 700 {boot.data_dir}"
    )
    files = [boot.data_dir / name for name in SECRET_FILES] + [boot.master_key_file]
    for path in files:
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            yield Finding(not mode & 0o077, f"{path} has mode {mode:04o}", f"chmod 600 {path}")
    yield Finding(
        os.access(boot.data_dir, os.W_OK),
        f"{boot.data_dir} can be written",
        f"run as its owner (user id {boot.data_dir.stat().st_uid})",
    )


def _clock() -> Iterator[Finding]:
    now = SystemClock().now()
    yield Finding(
        now > OLDEST_SANE,
        f"clock says {now:%Y-%m-%d %H:%M:%S} UTC",
        "set the clock (chrony or systemd-timesyncd): certificates would be born expired",
    )


def _ports(boot: BootSettings) -> Iterator[Finding]:
    for port in filter(None, (boot.https_port, boot.http_port)):
        with socket.socket() as probe:
            taken = probe.connect_ex(("127.0.0.1", port)) == 0
        state = "in use (by UCM, if it runs)" if taken else "free"
        yield Finding(True, f"port {port} is {state}")


def _tls(boot: BootSettings) -> Iterator[Finding]:
    path = boot.tls_certificate or boot.data_dir / "tls" / "server.crt"
    if not path.exists():
        yield Finding(True, "the server's certificate is made at the first start")
        return
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (ValueError, OSError) as error:
        yield Finding(False, f"{path} cannot be read: {error}", "put a PEM chain there")
        return
    end = certificate.not_valid_after_utc
    yield Finding(
        end - SystemClock().now() > SOON,
        f"the server's certificate is valid until {end:%Y-%m-%d}",
        f"replace {path} and its key; no restart is needed",
    )


def _inside(boot: BootSettings) -> Iterator[Finding]:
    missing = missing_database(boot)
    if missing is not None:
        yield Finding(False, f"the database {missing} does not exist", "make it with: ucm init")
        return
    try:
        waiting = pending(boot)
        yield Finding(
            not waiting,
            f"database schema: {', '.join(waiting) + ' to migrate' if waiting else 'up to date'}",
            "run: ucm migrate",
        )
        if waiting:
            return
        container = build_container(boot, inspecting=True)
    except BootError as error:
        yield Finding(False, str(error), error.hint)
        return
    except UcmError as error:
        yield Finding(False, f"database: {error.detail}", error.hint or "see the detail above")
        return
    try:
        container.start(role="doctor")
        for check in (_clock_of_database, _keys, _plugins, _health):
            yield from check(container)
    finally:
        container.close()


def _clock_of_database(container: Container) -> Iterator[Finding]:
    with container.uow.read() as reader:
        newest = reader.audit_log.newest()
    if newest is None:
        return
    behind = newest - container.clock.now()
    moment = f"{newest:%Y-%m-%d %H:%M:%S} UTC"
    if behind > TOLERANCE:
        minutes = -(-behind // timedelta(minutes=1))
        what = f"the clock runs {minutes} minutes behind the database's newest entry ({moment})"
    else:
        what = f"the clock is not behind the database's newest entry ({moment})"
    yield Finding(
        behind <= TOLERANCE,
        what,
        "set the clock: what is issued now would overlap with what was issued before, and "
        "certificates that were just issued are not valid yet",
    )


def _keys(container: Container) -> Iterator[Finding]:
    reason = container.safe_mode_reason()
    yield Finding(
        reason is None,
        f"master key: {reason or 'opens every secret of the database'}",
        "put the right master key back; UCM leaves safe mode by itself",
    )


def _plugins(container: Container) -> Iterator[Finding]:
    for state in container.host.states():
        if state.enabled:
            yield Finding(
                state.state == "running",
                f"plugin {state.name} {state.version}: {state.state} {state.reason}".rstrip(),
                f"see the reason, or leave it out: {container.boot.plugins},-{state.name}",
            )


def _health(container: Container) -> Iterator[Finding]:
    for outcome in container.health.checks():
        yield Finding(
            outcome.ok, f"{outcome.name}: {outcome.detail or 'ok'}", "see the detail of this check"
        )
