"""fleetctl history."""

from contextlib import aclosing

import click

from cli.completion.candidates import known_units
from cli.connect import run_connected
from cli.fleetctl.events import MOST_EVENTS
from cli.options import examples
from cli.reasons import history_lines
from cli.settings import Settings
from fleet.api.client import FleetClient
from fleet.api.reports import UnitReport
from fleet.names import UnitName, complete_name, parse_name


@click.command(epilog=examples("fleetctl history web.service", "fleetctl history --full web@1"))
@click.option("-l", "--full", is_flag=True, help="Do not shorten ids.")
@click.argument("unit", metavar="UNIT", shell_complete=known_units)
@click.pass_obj
def command(settings: Settings, *, full: bool, unit: str) -> int:
    """Tell what happened to a unit: when, by whom, why, and how it is now.

    The cluster keeps about the last thousand events, and of every unit that is in it the last five
    at least. Of a unit that was destroyed there may be something left as well.
    """
    name = parse_name(complete_name(unit))

    async def tell(client: FleetClient) -> int:
        history = await client.events(MOST_EVENTS, unit=name)
        report = await _now(client, name)
        if not history.events and not (report and report.exists):
            click.echo(f"Unit {name} does not exist, and nothing is known of it.", err=True)
            return 1
        for line in history_lines(history.events, report, full=full):
            click.echo(line)
        return 0

    return run_connected(settings, tell)


async def _now(client: FleetClient, name: UnitName) -> UnitReport | None:
    async with aclosing(client.watch([name])) as reports:
        async for report in reports:
            return report
    return None
