"""The options that ``ucm ca export`` and ``ucm cert export`` share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ucm.cli.container import data_dir_option
from ucm.services.exports import ExportRequest


def export_options(command: Callable[..., None]) -> Callable[..., None]:
    """Read the options into ``request``; ``out`` and ``data_dir`` are passed on."""

    @functools.wraps(command)
    def run(form: str, chain: bool, key: bool, ask_password: bool, **given: Any) -> None:
        request = ExportRequest(
            format=form,
            include_chain=chain,
            include_key=key,
            password=_asked_password() if ask_password else None,
        )
        command(request=request, **given)

    for option in (
        data_dir_option,
        click.option(
            "--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write."
        ),
        click.option("--ask-password", is_flag=True, help="Protect the key with a password."),
        click.option("--key", is_flag=True, help="With the private key."),
        click.option("--chain", is_flag=True, help="With the authorities above it."),
        click.option(
            "--format",
            "form",
            default="pem",
            show_default=True,
            help="pem, der, pkcs7, pkcs12, key",
        ),
    ):
        run = option(run)
    return run


def _asked_password() -> str:
    typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return typed
