"""fleetctl uncordon."""

from typing import TYPE_CHECKING

import click

from cli.carrying import say
from cli.connect import run_connected
from cli.cordoning import find_machines, machines_argument
from cli.options import examples
from cli.settings import Settings
from cli.tables import legend
from fleet.errors import NotFound

if TYPE_CHECKING:
    from fleet.api.client import FleetClient


@click.command(epilog=examples("fleetctl uncordon 113f16a7"))
@machines_argument
@click.pass_obj
def command(settings: Settings, *, machines: tuple[str, ...]) -> int:
    """Let machines take units again, after a cordon or a drain.

    Nothing moves back by itself, but new units come.
    """

    async def work(client: "FleetClient") -> int:
        for machine in await find_machines(client, machines):
            name = legend(machine.id, machine.address)
            if machine.cordon is None:
                say([f"{name} is not cordoned"])
                continue
            try:
                await client.uncordon(machine.id)
            except NotFound:
                say([f"{name} is not cordoned any more"])
            else:
                say([f"Uncordoned {name}"])
        return 0

    return run_connected(settings, work)
