"""What cordon, uncordon and drain share: which machines are meant, and how a cordon is told."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.completion.candidates import machines as known_machines
from cli.places import NoPlace, find_machine
from cli.tables import legend
from fleet.machine import Cordon, Machine, MachineId

if TYPE_CHECKING:
    from fleet.api.client import FleetClient


def machines_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument(
        "machines", nargs=-1, required=True, metavar="MACHINE...", shell_complete=known_machines
    )(function)


def why_flag(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--why", default="", metavar="TEXT", help="The reason, for lists, refusals and events."
    )(function)


async def find_machines(client: "FleetClient", texts: Sequence[str]) -> list[Machine]:
    """The machines meant, each once, also cordoned ones that are away; raises NoPlace."""
    here = await client.machines()
    cordons = await client.cordons()
    return which_machines(here, cordons, texts)


def which_machines(
    here: Iterable[Machine], cordons: Mapping[MachineId, Cordon], texts: Iterable[str]
) -> list[Machine]:
    """The machines that the texts mean, each once; raises NoPlace with all that mean none."""
    known = {machine: Machine(id=machine, cordon=cordon) for machine, cordon in cordons.items()}
    known |= {machine.id: machine for machine in here}
    found: dict[MachineId, Machine] = {}
    problems: list[str] = []
    for text in texts:
        try:
            machine = find_machine(known.values(), text)
            found[machine.id] = machine
        except NoPlace as error:
            problems.append(str(error))
    if problems:
        raise NoPlace("\n".join(problems))
    return list(found.values())


def cordon_sentence(machines: Iterable[Machine]) -> str:
    """The machines that take no new units in one sentence, empty if there are none."""
    told = [f"{legend(machine.id)} {machine.cordon.told}" for machine in machines if machine.cordon]
    if not told:
        return ""
    return f"Machines that take no new units (see fleetctl uncordon): {'; '.join(told)}"
