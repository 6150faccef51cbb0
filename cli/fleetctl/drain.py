"""fleetctl drain."""

from typing import TYPE_CHECKING

import click

from cli.carrying import say
from cli.connect import run_connected
from cli.cordoning import find_machines, machines_argument, why_flag
from cli.draining import drain
from cli.options import Seconds, examples
from cli.settings import Settings
from cli.tables import legend

if TYPE_CHECKING:
    from fleet.api.client import FleetClient


@click.command(
    epilog=examples(
        "fleetctl drain 113f16a7",
        "fleetctl drain --why 'new kernel' --timeout 300 172.17.8.103",
        "fleetctl drain --no-block 113f16a7",
    )
)
@machines_argument
@why_flag
@click.option(
    "--timeout",
    type=Seconds(),
    metavar="SECONDS",
    help="Give up waiting after that time; the drain goes on all the same.",
)
@click.option(
    "--no-block", is_flag=True, help="Return when the cluster has been told, without waiting."
)
@click.pass_obj
def command(
    settings: Settings,
    *,
    machines: tuple[str, ...],
    why: str,
    timeout: float | None,
    no_block: bool,
) -> int:
    """Move units off machines, each only when it is up elsewhere, and let no new ones come.

    A unit that no other machine can take stays, with the reasons, and makes the exit status 1; so
    does one that fails elsewhere, and goes on running where it was. Should another machine suit
    later, it moves then. A fenced unit stops here first, and starts elsewhere as soon as it has.
    Global units stay until the machine goes down. To end the drain: uncordon.
    """

    async def work(client: "FleetClient") -> int:
        found = await find_machines(client, machines)
        if not no_block:
            return await drain(client, found, why=why, limit_s=timeout)
        for machine in found:
            await client.cordon(machine.id, why=why, drain=True)
            say([f"Draining {legend(machine.id, machine.address)}"])
        return 0

    return run_connected(settings, work)
