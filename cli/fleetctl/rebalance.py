"""fleetctl rebalance."""

from typing import TYPE_CHECKING

import click

from cli.carrying import say
from cli.connect import run_connected
from cli.draining import count_units
from cli.options import Option, Seconds, examples
from cli.rebalancing import GAINLESS, follow_moves, moves_table
from cli.settings import Settings

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

_MOST = 100


@click.command(
    epilog=examples(
        "fleetctl rebalance --dry-run   # which moves, and why",
        "fleetctl rebalance",
        "fleetctl rebalance --max 100 --no-block",
    )
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
    help=f"Make so many moves at most, up to {_MOST}.",
)
@click.option(
    "--timeout",
    type=Seconds(),
    metavar="SECONDS",
    help="Give up waiting after that time; the moves go on all the same.",
)
@click.option(
    "--no-block", is_flag=True, help="Return when the moves are under way, without waiting."
)
@click.pass_obj
def command(
    settings: Settings, *, dry_run: bool, most: int, timeout: float | None, no_block: bool
) -> int:
    """Move units from the fullest machines to the emptiest, each only when it is up there.

    Each goes where the scheduler would put it if it were new, and only where that makes a
    difference: two units or more between the machines. Global, pinned and fenced units stay, and so
    does all that is not up, moves already, or is on a cordoned machine. A unit that fails on its
    new machine goes on running where it was, and makes the exit status 1.
    """

    async def work(client: "FleetClient") -> int:
        moves = await (client.plan_rebalance(most) if dry_run else client.rebalance(most))
        if not moves.units:
            say([GAINLESS])
            return 0
        say([moves_table(moves)])
        if dry_run:
            return 0
        if no_block:
            say([f"Moving {count_units(len(moves.units))}"])
            return 0
        return await follow_moves(client, moves, limit_s=timeout)

    return run_connected(settings, work)
