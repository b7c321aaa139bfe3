"""``ucm demo denied-names``: imported only when it runs."""

import click

from ucm.api import PluginContext
from ucm_demo.names import DeniedNames


@click.command()
@click.pass_obj
def denied_names(ctx: PluginContext) -> None:
    """Print the denied names, one a line."""
    for entry in DeniedNames(ctx).all():
        click.echo(f"{entry.domain}\t{entry.reason}")
