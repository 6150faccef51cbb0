"""fleetctl list-machines."""

from typing import TYPE_CHECKING

import click

from cli.connect import run_connected
from cli.cordoning import cordon_sentence
from cli.holding import beside_hold, hold_sentence
from cli.listing import Shown, list_flags, show_list
from cli.options import examples
from cli.records import MACHINES, Form
from cli.settings import Settings
from cli.tables import View

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

_KINDS = frozenset({"machines", "metadata", "cordons", "engine"})


@click.command(
    epilog=examples(
        "fleetctl list-machines",
        "fleetctl list-machines --full",
        "fleetctl list-machines -o yaml",
        "fleetctl list-machines --no-legend --fields=machine --full   # for a script",
    )
)
@list_flags(MACHINES)
@click.pass_obj
def command(settings: Settings, *, form: Form) -> int:
    """List the machines of the cluster."""

    async def show(client: "FleetClient") -> int:
        async def read() -> Shown:
            machines, hold = await beside_hold(client, client.machines())
            told = (cordon_sentence(machines), hold_sentence(hold) if hold else "")
            text = MACHINES.render(machines, View(full=form.full), form)
            return Shown(text, "\n".join(filter(None, told)))

        return await show_list(client, form, read, kinds=_KINDS)

    return run_connected(settings, show)
