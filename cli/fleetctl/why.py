"""fleetctl why."""

import click

from cli.completion.candidates import known_units
from cli.connect import run_connected
from cli.options import examples
from cli.reasons import why_lines
from cli.settings import Settings
from fleet.api.client import FleetClient
from fleet.names import complete_name, parse_name


@click.command(
    epilog=examples(
        "fleetctl why web.service",
        "fleetctl why web@1     # runs nowhere? what keeps it from each machine",
    )
)
@click.argument("unit", metavar="UNIT", shell_complete=known_units)
@click.pass_obj
def command(settings: Settings, *, unit: str) -> int:
    """Say why a unit is where it is, and why it is not elsewhere.

    Every machine gives its answer: why it was chosen, that it could have the unit as well, or what
    keeps the unit from it. A unit that waits for a place is told with what each machine lacks.
    """
    name = parse_name(complete_name(unit))

    async def explain(client: FleetClient) -> int:
        for line in why_lines(await client.why(name)):
            click.echo(line)
        return 0

    return run_connected(settings, explain)
