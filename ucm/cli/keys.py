"""``ucm keys``: how private keys are sealed, and the exchange of the master key."""

from __future__ import annotations

from pathlib import Path

import click

from ucm.api.actor import Actor
from ucm.cli.container import data_dir_option, json_option, opened, operator, show
from ucm.cli.progress import progress_bar
from ucm.services.rotation import GRACE, KeyRotation, RotationState, RotationStatus
from ucm.web.v2.security import status_document


@click.group()
def keys() -> None:
    """Show how keys are sealed, rotate the master key."""


@keys.command()
@json_option
@data_dir_option
def status(as_json: bool, data_dir: Path | None) -> None:
    """Where the master key comes from, and what is sealed under it."""
    with opened(data_dir) as container:
        found = status_document(container.encryption.status(), rotation=container.rotation.status())
    show(found, as_json=as_json)


@keys.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_dir_option
def rotate(yes: bool, data_dir: Path | None) -> None:
    """Exchange the master key, or finish an exchange that was cut off. Servers go on working."""
    with opened(data_dir) as container:
        if not yes:
            click.confirm(
                "Exchange the master key? Backups made until now need the present one: keep a copy",
                abort=True,
            )
        done = rotate_visibly(container.rotation, actor=operator())
        ready = done.state is RotationState.IDLE
    if not ready:
        click.echo("not finished; run ucm keys rotate again", err=True)
        raise SystemExit(1)
    click.echo(f"the master key is now {done.fingerprint}")


def rotate_visibly(rotation: KeyRotation, *, actor: Actor) -> RotationStatus:
    """Rotate with a progress bar. Raises what ``KeyRotation.rotate`` raises."""
    click.echo(
        f"sealing every secret again; other processes have {GRACE.seconds} s to notice the new key",
        err=True,
    )
    with progress_bar("secrets") as progress:
        return rotation.rotate(actor=actor, progress=progress)
