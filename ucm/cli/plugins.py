"""``ucm plugins``: what is installed, what runs, and why not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ucm.cli.container import data_dir_option, json_option, opened, operator, table
from ucm.runtime.lint import lint_plugin

COLUMNS = ("name", "version", "state", "step", "reason")


@click.group()
def plugins() -> None:
    """List, check, lint and purge plugins."""


@plugins.command("list")
@json_option
@data_dir_option
def list_plugins(as_json: bool, data_dir: Path | None) -> None:
    """Every installed plugin with its state and reason."""
    with opened(data_dir) as container:
        states = container.host.states()
    table([dataclasses.asdict(state) for state in states], COLUMNS, as_json=as_json)


@plugins.command()
@data_dir_option
def check(data_dir: Path | None) -> None:
    """Start every enabled plugin and report; exit code 1 when one does not run."""
    with opened(data_dir) as container:
        states = [state for state in container.host.states() if state.enabled]
    failed = [state for state in states if state.state != "running"]
    for state in states:
        mark = "ok  " if state.state == "running" else "FAIL"
        click.echo(f"{mark} {state.name} {state.version} {state.state} {state.reason}".rstrip())
    raise SystemExit(1 if failed else 0)


@plugins.command()
@click.argument("name")
def lint(name: str) -> None:
    """Compare a plugin's manifest and declarations with what it does; for authors."""
    findings = lint_plugin(name)
    for finding in findings:
        click.echo(finding)
    click.echo(f"{name}: {len(findings)} finding{'' if len(findings) == 1 else 's'}")
    raise SystemExit(1 if findings else 0)


@plugins.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_dir_option
def purge(name: str, yes: bool, data_dir: Path | None) -> None:
    """Drop a plugin's tables and settings for good; disable it in UCM_PLUGINS afterwards."""
    if not yes:
        click.confirm(f"Drop every table and setting of the plugin {name} for good?", abort=True)
    with opened(data_dir) as container:
        container.purge(name, actor=operator())
    click.echo(f"the data of {name} is gone; take it out of UCM_PLUGINS")
