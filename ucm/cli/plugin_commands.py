"""``ucm <plugin> ...``: commands that plugins bring."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from ucm.api.contributions import CliCommand
from ucm.api.services import PluginContext
from ucm.cli.container import opened
from ucm.runtime.boot import BootSettings
from ucm.runtime.clock import SystemClock
from ucm.runtime.container import Container
from ucm.runtime.opening import load_plugins


def plugin_group(name: str) -> click.Command | None:
    """The commands of an enabled plugin; ``None`` when it has none or does not load."""
    host = load_plugins(BootSettings.load(), clock=SystemClock(), strict=None, extra={})
    for plugin, contributions in host.owned():
        if plugin.name == name and contributions.cli_commands:
            return PluginGroup(name, contributions.cli_commands)
    return None


class PluginGroup(click.Group):
    """A plugin's commands; the module of one is imported when it runs."""

    def __init__(self, name: str, commands: tuple[CliCommand, ...]) -> None:
        super().__init__(name, help=f"Commands of the plugin {name}.")
        self._declared = {command.name: command for command in commands}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the plugin's order."""
        return list(self._declared)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and help as declared."""
        with formatter.section("Commands"):
            formatter.write_dl([(c.name, c.help) for c in self._declared.values()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The plugin's click command."""
        declared = self._declared.get(cmd_name)
        if declared is None:
            return None
        module, _, attribute = declared.target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run with the plugin's own ``PluginContext`` as ``ctx.obj``."""
        if ctx.protected_args or ctx.args:
            with opened(None) as container:
                ctx.obj = _context(container, str(ctx.info_name))
                return super().invoke(ctx)
        return super().invoke(ctx)


def _context(container: Container, name: str) -> PluginContext:
    plugin = container.host.registry.get(name)
    if plugin is None or plugin.context is None:
        reason = plugin.reason if plugin else "it is not enabled"
        raise click.ClickException(f"the plugin {name} does not run: {reason}")
    return plugin.context
