"""fleetctl list-machines."""

from typing import TYPE_CHECKING

import click

from cli.connect import run_connected
from cli.holding import beside_hold, hold_sentence
from cli.options import examples, list_flags
from cli.settings import Settings
from cli.tables import MACHINE_COLUMNS, MACHINE_FIELDS, View, parse_fields, render_list

if TYPE_CHECKING:
    from fleet.api.client import FleetClient


@click.command(
    epilog=examples(
        "fleetctl list-machines",
        "fleetctl list-machines --full",
        "fleetctl list-machines --no-legend --fields=machine --full   # for a script",
    )
)
@list_flags(MACHINE_FIELDS, MACHINE_COLUMNS)
@click.pass_obj
def command(settings: Settings, *, full: bool, no_legend: bool, fields: str) -> int:
    """List the machines of the cluster."""
    columns = parse_fields(fields, MACHINE_COLUMNS)

    async def show(client: "FleetClient") -> int:
        machines, hold = await beside_hold(client, client.machines())
        text = render_list(
            machines, MACHINE_COLUMNS, columns, View(full=full), legend_line=not no_legend
        )
        click.echo(text, nl=False)
        if hold:
            click.echo(hold_sentence(hold), err=True)
        return 0

    return run_connected(settings, show)
