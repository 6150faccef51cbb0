"""fleetctl events."""

from typing import TYPE_CHECKING

import click

from cli.connect import run_connected
from cli.listing import list_flags
from cli.options import Option, examples
from cli.records import EVENTS, Form
from cli.settings import Settings
from cli.tables import View

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
@list_flags(EVENTS)
@click.pass_obj
def command(settings: Settings, *, lines: int, form: Form) -> int:
    """List what users did to the cluster and what its engine decided, and why.

    The cluster keeps about the last thousand events. A unit is empty (-) where it is about none.
    """

    async def show(client: "FleetClient") -> int:
        events = await client.events(lines)
        click.echo(EVENTS.render(events, View(full=form.full), form), nl=False)
        return 0

    return run_connected(settings, show)
