"""``ucm init`` and ``ucm migrate``."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

from ucm.cli.container import data_dir_option
from ucm.runtime.boot import BootSettings, prepare_data_dir
from ucm.runtime.clock import SystemClock
from ucm.runtime.container import Container, build_container
from ucm.runtime.opening import (
    alone,
    declare_settings,
    load_plugins,
    migrate_all,
    missing_database,
    open_database,
)
from ucm.store import migrate as migrations

log = logging.getLogger("ucm.runtime")


@click.command()
@data_dir_option
def init(data_dir: Path | None) -> None:
    """Make the data directory, the master key, the database and the first administrator.

    Safe to repeat: what exists is left alone. ``ucm serve`` does the same when it must.
    """
    boot = BootSettings.load(data_dir=data_dir)
    first_start(boot)
    click.echo(f"{boot.data_dir} is ready; start the server with: ucm serve")


@click.command()
@data_dir_option
@click.option("--check", is_flag=True, help="Only say what is pending; exit code 1 if anything.")
def migrate(data_dir: Path | None, check: bool) -> None:
    """Bring the tables of the core and of every enabled plugin to this version."""
    boot = BootSettings.load(data_dir=data_dir)
    if not check:
        prepare_data_dir(boot.data_dir)
    before = pending(boot)
    if not before:
        click.echo("the database is up to date")
        return
    for owner, revisions in before.items():
        click.echo(f"{owner}: {', '.join(revisions)}")
    if check:
        raise SystemExit(1)
    container = build_container(boot)
    container.close()
    left = pending(boot)
    if left:
        raise click.ClickException(
            f"not applied: {', '.join(left)}; ucm plugins list gives the reason"
        )
    click.echo("done")


def pending(boot: BootSettings) -> dict[str, tuple[str, ...]]:
    """Revisions that each owner still misses; owners without any are left out. Makes nothing."""
    host = load_plugins(boot, clock=SystemClock(), strict=None, extra={})
    owners = {"core": (migrations.CORE_PREFIX, migrations.CORE_PACKAGE)}
    for plugin, contributions in host.owned():
        if plugin.manifest is not None and contributions.migrations is not None:
            owners[plugin.name] = (plugin.manifest.table_prefix, contributions.migrations.package)
    if missing_database(boot) is not None:
        return {owner: migrations.revisions(package) for owner, (_, package) in owners.items()}
    engine = open_database(boot)
    try:
        found = {
            owner: migrations.pending(engine, prefix=prefix, package=package)
            for owner, (prefix, package) in owners.items()
        }
    finally:
        engine.dispose()
    return {owner: revisions for owner, revisions in found.items() if revisions}


def first_start(boot: BootSettings) -> None:
    """Make what is missing; a random first password is printed once, here and nowhere else."""
    container = build_container(boot)
    try:
        container.start(role="cli")
        show_first_password(container, boot)
        show_troubles(container)
    finally:
        container.close()


def prepare(boot: BootSettings) -> Container:
    """What the server's processes have in common: everything is made and read, nothing is open.

    Each process goes on with ``start``. Raises what ``build_container`` and ``detach`` raise.
    """
    prepare_data_dir(boot.data_dir)
    _migrate_apart(boot)
    container = build_container(boot)
    try:
        show_first_password(container, boot)
        container.templates.ensure_system_templates()  # else each process would, in its own memory
        show_troubles(container)
        container.detach()
    except BaseException:
        container.close()
        raise
    return container


def _migrate_apart(boot: BootSettings) -> None:
    """Make or change the tables in a child, so that the server need not hold Alembic."""
    engine = open_database(boot)
    try:
        if not migrations.pending(
            engine, prefix=migrations.CORE_PREFIX, package=migrations.CORE_PACKAGE
        ):
            return
    finally:
        engine.dispose()
    log.info("the database is brought to this version's schema")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # What fails here fails again in the parent, which then says why.
            logging.disable(logging.CRITICAL)
            host = load_plugins(boot, clock=SystemClock(), strict=None, extra={})
            declare_settings(host, clock=SystemClock())
            with alone(boot.data_dir / "migrate.lock"):
                migrate_all(open_database(boot), host)
            status = 0
        finally:
            os._exit(status)  # nothing of the parent's stack may run on here
    os.waitpid(child, 0)


def show_troubles(container: Container) -> None:
    """Plugins that are enabled and failed, and a master key that does not fit, on stderr."""
    for state in container.host.states():
        if state.enabled and state.state not in ("starting", "running", "degraded"):
            click.echo(f"plugin {state.name} is {state.state}: {state.reason}", err=True)
    if reason := container.safe_mode_reason():
        click.echo(f"SAFE MODE: {reason}", err=True)


def show_first_password(container: Container, boot: BootSettings) -> None:
    """Create the first administrator when there is no account."""
    given = boot.admin_password.get_secret_value() if boot.admin_password else None
    made = container.users.first_admin(given)
    if made is not None:
        click.echo("The first administrator is: admin")
        click.echo(f"Its password, shown only this once: {made}")
