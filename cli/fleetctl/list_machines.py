"""fleetctl list-machines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.connect import run_connected
from cli.cordoning import cordon_sentence
from cli.holding import beside_lost, hold_sentence, lost_sentences
from cli.listing import Shown, list_flags, show_list
from cli.options import examples
from cli.records import MACHINES, Form
from cli.settings import Settings
from cli.tables import View
from fleet.api.lost import Lost
from fleet.machine import Machine

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

_KINDS = frozenset({"machines", "metadata", "cordons", "engine", "schedule", "claims"})


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
    """List the machines of the cluster.

    Machines that are lost are told of on stderr, with what keeps their units there. With -o json
    and yaml they are in the list, with the state "lost".
    """

    async def show(client: "FleetClient") -> int:
        async def read() -> Shown:
            machines, lost = await beside_lost(client, client.machines())
            told = (cordon_sentence(machines), hold_sentence(lost.hold), *lost_sentences(lost))
            return Shown(_written(machines, lost, form), "\n".join(filter(None, told)))

        return await show_list(client, form, read, kinds=_KINDS)

    return run_connected(settings, show)


def _written(machines: Sequence[Machine], lost: Lost, form: Form) -> str:
    """The list, with the machines that are lost only for programs that are told so."""
    view = View(full=form.full, lost={each.machine: each.why for each in lost.machines})
    here = {machine.id for machine in machines}
    gone = [Machine(id=machine) for machine in view.lost if machine not in here]
    return MACHINES.render([*machines, *gone] if form.is_for_programs else machines, view, form)
