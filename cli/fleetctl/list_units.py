"""fleetctl list-units."""

from typing import TYPE_CHECKING

import click

from cli.connect import run_connected
from cli.listing import chosen, view_of
from cli.options import examples, list_flags
from cli.settings import Settings
from cli.tables import STATE_COLUMNS, STATE_FIELDS, parse_fields, render_list

if TYPE_CHECKING:
    from fleet.api.client import FleetClient


@click.command(
    epilog=examples(
        "fleetctl list-units",
        "fleetctl list-units 'web@*'          # only instances of web@.service",
        "fleetctl list-units --full --fields=unit,machine,hash",
        "fleetctl list-units --no-legend --fields=unit,active   # for a script",
    )
)
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@list_flags(STATE_FIELDS, ", ".join(sorted(STATE_COLUMNS)))
@click.pass_obj
def command(
    settings: Settings, *, patterns: tuple[str, ...], full: bool, no_legend: bool, fields: str
) -> int:
    """List the units as systemd has them on each machine.

    A global unit has a line for every machine. With patterns, only units of such names are listed.
    """
    columns = parse_fields(fields, STATE_COLUMNS)

    async def show(client: "FleetClient") -> int:
        states = chosen(patterns, await client.states(), lambda state: state.unit)
        view = await view_of(client, full=full, wanted="machine" in columns)
        text = render_list(states, STATE_COLUMNS, columns, view, legend_line=not no_legend)
        click.echo(text, nl=False)
        return 0

    return run_connected(settings, show)
