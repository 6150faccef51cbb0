"""fleetctl events."""

import sys
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from cli.completion.candidates import known_units
from cli.connect import run_connected
from cli.listing import list_flags
from cli.options import Option, examples
from cli.records import EVENTS, Form
from cli.settings import Settings
from cli.tables import View
from fleet.errors import Unavailable
from fleet.names import UnitName, complete_name, parse_name

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

# What the API gives at most, and the cluster keeps.
MOST_EVENTS = 1000


@click.command(
    epilog=examples(
        "fleetctl events                    # the newest fifty, the newest last",
        "fleetctl events web.service        # of one unit",
        "fleetctl events -n 1000 -o json",
        "fleetctl events --follow           # until Ctrl-C",
        "fleetctl events --no-legend --full --fields=time,what   # for a script",
    )
)
@click.option(
    "-n",
    "--lines",
    cls=Option,
    type=click.IntRange(1, MOST_EVENTS),
    default=50,
    show_default=True,
    metavar="N",
    help=f"How many events, at most {MOST_EVENTS}.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new events as they come.")
@list_flags(EVENTS, watched=False)
@click.argument("unit", default="", metavar="[UNIT]", shell_complete=known_units)
@click.pass_obj
def command(settings: Settings, *, lines: int, follow: bool, form: Form, unit: str) -> int:
    """List what users did to the cluster and what its engine decided, and why.

    The cluster keeps about the last thousand events, and the last five of every unit. A unit is
    empty (-) where it is about none.
    """
    name = parse_name(complete_name(unit)) if unit else ""
    view = View(full=form.full)

    async def show(client: "FleetClient") -> int:
        history = await client.events(lines, unit=name)
        click.echo(EVENTS.render(history.events, view, form), nl=False)
        if follow:
            await _follow(client, name, history.revision, view, replace(form, no_legend=True))
        return 0

    return run_connected(settings, show)


async def _follow(
    client: "FleetClient", name: UnitName | str, after: int, view: View, form: Form
) -> None:
    """Show the events that come after that revision of the store, for ever."""
    sys.stdout.flush()
    while True:
        was_open = False
        try:
            async with aclosing(client.changes()) as ticks:
                async for tick in ticks:
                    if was_open and "events" not in tick.changed:
                        continue
                    was_open = True
                    history = await client.events(MOST_EVENTS, unit=name, after=after)
                    after = history.revision
                    if history.events:
                        click.echo(EVENTS.render(history.events, view, form), nl=False)
                        sys.stdout.flush()
        except Unavailable:
            if not was_open:
                raise
