"""fleetctl cat."""

import click

from cli.carrying import Cluster
from cli.completion.candidates import known_units
from cli.connect import run_connected
from cli.options import examples
from cli.settings import Settings
from fleet.errors import NotFound
from fleet.names import complete_name, parse_name
from fleet.unit import render_options


@click.command(epilog=examples("fleetctl cat web.service", "fleetctl cat web > web.service"))
@click.argument("units", nargs=-1, metavar="UNIT", shell_complete=known_units)
@click.pass_obj
def command(settings: Settings, *, units: tuple[str, ...]) -> int:
    """Print a unit file as its author wrote it, comments and all."""
    if len(units) != 1:
        click.echo("One unit file must be provided", err=True)
        return 1
    return run_connected(settings, lambda client: cat(client, units[0]))


async def cat(client: Cluster, argument: str) -> int:
    """Print the unit that the argument names; the exit status."""
    name = parse_name(complete_name(argument))
    try:
        unit = await client.unit(name)
    except NotFound:
        click.echo(f"Unit {name} not found", err=True)
        return 1
    text = render_options(unit.options) if unit.text is None else unit.text
    click.echo(text, nl=False)
    return 0
