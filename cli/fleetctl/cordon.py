"""fleetctl cordon."""

from typing import TYPE_CHECKING

import click

from cli.carrying import say
from cli.connect import run_connected
from cli.cordoning import find_machines, machines_argument, why_flag
from cli.options import examples
from cli.settings import Settings
from cli.tables import legend

if TYPE_CHECKING:
    from fleet.api.client import FleetClient


@click.command(
    epilog=examples(
        "fleetctl cordon 113f16a7",
        "fleetctl cordon --why 'new disks' 113f16a7 172.17.8.103",
    )
)
@machines_argument
@why_flag
@click.pass_obj
def command(settings: Settings, *, machines: tuple[str, ...], why: str) -> int:
    """Let machines take no new units; what runs there stays.

    A machine is meant by its id, the beginning of it, or its address. Global units stay, too, and
    do not come to a cordoned machine. A drain is taken back to a cordon: what has not left by then
    stays. The cordon outlives a reboot of the machine.
    """

    async def work(client: "FleetClient") -> int:
        for machine in await find_machines(client, machines):
            await client.cordon(machine.id, why=why, drain=False)
            say([f"Cordoned {legend(machine.id, machine.address)}"])
        return 0

    return run_connected(settings, work)
