"""fleetctl hold."""

import time
from typing import TYPE_CHECKING

import click

from cli.connect import run_connected
from cli.holding import NONE_HELD, RELEASE, name_machines
from cli.options import examples
from cli.settings import Settings
from cli.tables import clock_time, render_plain
from fleet.errors import NotFound

if TYPE_CHECKING:
    from fleet.api.client import FleetClient
    from fleet.hold import Hold


@click.command(
    epilog=examples(
        "fleetctl hold            # is anything held, and why?",
        "fleetctl hold --release  # they are lost: start their units elsewhere",
    )
)
@click.option("--release", is_flag=True, help="Give the machines up: their units start elsewhere.")
@click.option("-l", "--full", is_flag=True, help="Do not shorten ids.")
@click.pass_obj
def command(settings: Settings, *, release: bool, full: bool) -> int:
    """Show the machines that are held, or give them up.

    When more than one and more than a third of the machines vanish at once, it is likelier that the
    network failed than the machines. Their units are not moved then: until enough of the machines
    are back, for the time that is set (mass_loss_hold), or until you release the hold.
    """

    async def work(client: "FleetClient") -> int:
        hold = await client.hold()
        if release:
            return await _release(client, hold, full=full)
        click.echo(_table(hold, full=full) if hold else NONE_HELD)
        if hold:
            click.echo(f"To have their units started elsewhere now: {RELEASE}", err=True)
        return 0

    return run_connected(settings, work)


async def _release(client: "FleetClient", hold: "Hold | None", *, full: bool) -> int:
    try:
        await client.release_hold()
    except NotFound:
        click.echo(NONE_HELD)
        return 0
    machines = name_machines(hold.machines, full=full) if hold else "all that were held"
    click.echo(f"Gave up {machines}: their units start elsewhere")
    return 0


def _table(hold: "Hold", *, full: bool) -> str:
    left_s = max(0.0, hold.until_s - time.time())
    rows = [
        ("machines", name_machines(hold.machines, full=full)),
        ("until", f"{clock_time(hold.until_s)}, in {left_s:.0f} s, unless they are back before"),
        ("reason", hold.reason),
    ]
    return render_plain(rows)
