"""Opens UCM inside a command: the same services that the server uses, without the server."""

from __future__ import annotations

import contextlib
import getpass
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ucm.api.actor import Actor, ActorKind
from ucm.runtime.boot import BootSettings
from ucm.runtime.container import Container, build_container

Command = TypeVar("Command", bound=Callable[..., Any])


def data_dir_option(command: Command) -> Command:
    """``--data-dir``, for every command that opens the data."""
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Directory of all state. [UCM_DATA_DIR, default ./ucm-data]",
    )(command)


def json_option(command: Command) -> Command:
    """``--json``, for commands whose output others may read."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@contextlib.contextmanager
def opened(data_dir: Path | None) -> Iterator[Container]:
    """A started container, closed at the end."""
    container = build_container(BootSettings.load(data_dir=data_dir))
    try:
        container.start(role="cli")
        yield container
    finally:
        container.close()


def operator() -> Actor:
    """Who acts on the command line: the operating system's user, with every permission."""
    return Actor.system(f"cli:{getpass.getuser()}", kind=ActorKind.CLI)


def show(record: Mapping[str, Any], *, as_json: bool) -> None:
    """One record: JSON, or one aligned line per non-empty field."""
    if as_json:
        click.echo(json.dumps(record, indent=2, default=str))
        return
    filled = {k: v for k, v in record.items() if v not in (None, "", [], {}, ())}
    width = max((len(key) for key in filled), default=0)
    for key, value in filled.items():
        if isinstance(value, dict | list | tuple):
            value = json.dumps(value, default=str)
        lines = str(value).splitlines() or [""]
        click.echo(f"{key:<{width}}  {lines[0]}")
        for line in lines[1:]:
            click.echo(f"{'':<{width}}  {line}")


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Records as JSON, or as a table of the named columns."""
    records = list(rows)
    if as_json:
        click.echo(json.dumps(records, indent=2, default=str))
        return
    cells = [[str(c).upper() for c in columns]]
    cells += [["" if r.get(c) is None else str(r[c]) for c in columns] for r in records]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        click.echo("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())


def write_output(content: bytes, out: Path | None, *, secret: bool) -> None:
    """To a new or replaced file (0600 when secret), or to standard output."""
    if out is None:
        sys.stdout.buffer.write(content)
        return
    if secret:
        out.touch(mode=0o600)
        out.chmod(0o600)
    out.write_bytes(content)
    click.echo(f"wrote {out}", err=True)
