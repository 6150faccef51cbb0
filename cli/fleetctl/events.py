"""fleetctl events."""

from typing import TYPE_CHECKING

import click

from cli.connect import run_connected
from cli.options import Option, examples, list_flags
from cli.settings import Settings
from cli.tables import EVENT_COLUMNS, EVENT_FIELDS, View, parse_fields, render_list

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

# What the API gives at most, and the cluster keeps.
_MOST = 1000


@click.command(
    epilog=examples(
        "fleetctl events                    # the newest fifty, the newest last",
        "fleetctl events -n 1000 | grep web.service",
        "fleetctl events --no-legend --full --fields=time,what   # for a script",
    )
)
@click.option(
    "-n",
    "--lines",
    cls=Option,
    type=click.IntRange(1, _MOST),
    default=50,
    show_default=True,
    metavar="N",
    help=f"How many events, at most {_MOST}.",
)
@list_flags(EVENT_FIELDS, EVENT_COLUMNS)
@click.pass_obj
def command(settings: Settings, *, lines: int, full: bool, no_legend: bool, fields: str) -> int:
    """List what users did to the cluster and what its engine decided, and why.

    The cluster keeps about the last thousand events. A unit is empty (-) where it is about none.
    """
    columns = parse_fields(fields, EVENT_COLUMNS)

    async def show(client: "FleetClient") -> int:
        events = await client.events(lines)
        text = render_list(
            events, EVENT_COLUMNS, columns, View(full=full), legend_line=not no_legend
        )
        click.echo(text, nl=False)
        return 0

    return run_connected(settings, show)
