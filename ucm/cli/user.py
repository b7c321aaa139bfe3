"""``ucm user``: create accounts, set passwords."""

from __future__ import annotations

from pathlib import Path

import click

from ucm.cli.container import data_dir_option, opened, operator
from ucm.services.users import AccountRequest


@click.group()
def user() -> None:
    """Create users and set passwords."""


@user.command()
@click.argument("username")
@click.option("--email", default="", help="Mail address.")
@click.option("--full-name", default="", help="Name to show.")
@click.option(
    "--role",
    type=click.Choice(["admin", "operator", "auditor", "viewer"]),
    default="viewer",
    show_default=True,
)
@click.password_option(help="Asked for when it is not given.")
@data_dir_option
def create(
    username: str, email: str, full_name: str, role: str, password: str, data_dir: Path | None
) -> None:
    """Create an account that signs in by password."""
    with opened(data_dir) as container:
        request = AccountRequest(
            username=username, email=email, full_name=full_name, role=role, password=password
        )
        made = container.users.create(request, actor=operator())
    click.echo(f"created {made.username} (id {made.id}, {made.role})")


@user.command()
@click.argument("username")
@click.password_option(help="Asked for when it is not given.")
@data_dir_option
def passwd(username: str, password: str, data_dir: Path | None) -> None:
    """Set a password, lift a lock-out and end the user's sessions."""
    with opened(data_dir) as container:
        found = container.users.by_username(username)
        container.users.update(found.id, changes={"password": password}, actor=operator())
        container.users.unlock(found.id, actor=operator())
    click.echo(f"the password of {username} is set; all sessions of {username} have ended")
