"""Entry point of ``ucm``: finds the command, shows errors as sentences."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points

import click

from ucm import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("ucm.cli.serve:serve", "Start the server: web processes and the scheduler."),
    "worker": ("ucm.cli.serve:worker", "Start only the scheduler, beside servers elsewhere."),
    "init": ("ucm.cli.setup:init", "Make the data directory, the database and the first user."),
    "migrate": ("ucm.cli.setup:migrate", "Bring the database to this version's schema."),
    "doctor": ("ucm.cli.doctor:doctor", "Check the installation and say what to do."),
    "plugins": ("ucm.cli.plugins:plugins", "List, check, lint and purge plugins."),
    "ca": ("ucm.cli.ca:ca", "Create, list, show and export authorities."),
    "cert": ("ucm.cli.cert:cert", "Issue, list, show, revoke and export certificates."),
    "keys": ("ucm.cli.keys:keys", "Show how keys are sealed, rotate the master key."),
    "user": ("ucm.cli.user:user", "Create users and set passwords."),
}
"""Name, where the command is, and its line of help: ``ucm --help`` imports none of them."""


class LazyGroup(click.Group):
    """The core's commands by table, and one group per installed plugin."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The core's commands; plugins are named by ``ucm plugins list``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; for another name the plugin of that name."""
        if cmd_name in COMMANDS:
            return _load(COMMANDS[cmd_name][0])
        if entry_points(group="ucm.plugins", name=cmd_name):
            from ucm.cli.plugin_commands import plugin_group

            return plugin_group(cmd_name)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing what it names."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _load(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    # What imports make is no garbage: collections would only walk through it, for 0.1 s in all.
    gc.disable()
    try:
        command: click.Command = getattr(import_module(module), attribute)
    finally:
        gc.enable()
    return command


@click.group(
    cls=LazyGroup,
    epilog="A plugin's own commands: ucm <plugin> --help. Settings: docs/settings.md.",
)
@click.version_option(__version__, prog_name="ucm")
def ucm() -> None:
    """UCM, a private certification authority."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a refusal is one line on stderr, what to do on the next, exit code 1."""
    try:
        ucm.main(args=arguments, prog_name="ucm", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except _refusals() as error:
        _show(error)
        sys.exit(1)


def _refusals() -> tuple[type[Exception], ...]:
    """Evaluated only when something was raised: ``--help`` does without these imports."""
    from ucm.api.errors import UcmError
    from ucm.runtime.boot import BootError
    from ucm.server.serve import CannotListen
    from ucm.server.tls import TLSUnusable

    return UcmError, BootError, CannotListen, TLSUnusable


def _show(error: Exception) -> None:
    detail = str(error)
    click.echo(f"error: {detail}", err=True)
    for field in getattr(error, "fields", ()):
        if field.detail != detail:
            click.echo(f"  {field.pointer or '/'}: {field.detail}", err=True)
    if hint := getattr(error, "hint", None):
        click.echo(f"hint: {hint}", err=True)


if __name__ == "__main__":
    main()
