"""fleetctl rebalance."""

from collections.abc import Iterator

import click

from cli.connect import run_connected
from cli.options import Option, examples
from cli.settings import Settings
from cli.tables import legend, render_plain
from fleet.api.client import FleetClient
from fleet.foresight import Foreseen

_MOST = 100


@click.command(
    epilog=examples("fleetctl rebalance --dry-run", "fleetctl rebalance --dry-run --max 1")
)
@click.option("--dry-run", is_flag=True, help="Only show the moves.")
@click.option(
    "--max",
    "most",
    cls=Option,
    type=click.IntRange(1, _MOST),
    default=10,
    show_default=True,
    metavar="N",
    help=f"Show so many moves at most, up to {_MOST}.",
)
@click.pass_obj
def command(settings: Settings, *, dry_run: bool, most: int) -> int:
    """Show which moves would even out the load.

    From the fullest machines to the emptiest, where the scheduler would put the units if they were
    new, and only what makes a difference: two units or more between the machines. Global, pinned
    and fenced units stay, and so does all that is not up, or on a cordoned machine. Nothing is
    moved, so --dry-run has to be said; to move units, drain a machine and uncordon it.
    """
    if not dry_run:
        raise click.UsageError(
            "rebalance moves nothing: say --dry-run to see what would even out the load. "
            "To move units, drain a machine that is too full, and uncordon it"
        )

    async def show(client: FleetClient) -> int:
        moves = await client.rebalance(most)
        if moves.units:
            click.echo(render_plain(list(_rows(moves)), ("UNIT", "FROM", "TO", "WHY")))
        else:
            click.echo("No move would gain anything")
        return 0

    return run_connected(settings, show)


def _rows(moves: Foreseen) -> Iterator[tuple[str, str, str, str]]:
    for unit in moves.units:
        (source,), (target,) = unit.was, unit.machines
        places = [legend(each, moves.addresses.get(each, "")) for each in (source, target)]
        yield unit.name, places[0], places[1], unit.reasons.get(target, "")
