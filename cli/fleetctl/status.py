"""fleetctl status: systemctl's own words on units, from the machines that have them."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING

import click

from cli.completion.candidates import machines, placeable_units
from cli.looking import status_argv
from cli.options import examples, ssh_port_option, units_argument
from cli.places import NoPlace, Sight, find_machine, places_of
from cli.selection import is_pattern, select
from cli.settings import Settings
from fleet.errors import FleetError
from fleet.names import UnitName, complete_name, parse_name

if TYPE_CHECKING:
    from cli.errands import Errands
    from fleet.api.client import FleetClient
    from fleet.machine import Machine

# systemctl's own; source: its manual, "EXIT STATUS", after the Linux Standard Base.
_EXIT_NOT_RUNNING = 3
_EXIT_NO_UNIT = 4


@click.command(
    epilog=examples(
        "fleetctl status web.service",
        "fleetctl status 'web@*'",
        "fleetctl status --machine 113f16a7 log-shipper   # of a global unit",
    )
)
@click.option(
    "--machine",
    default="",
    metavar="ID",
    help="Only there, for a global unit.",
    shell_complete=machines,
)
@ssh_port_option
@click.option("--no-block", is_flag=True, hidden=True)
@units_argument(placeable_units)
@click.pass_obj
def command(
    settings: Settings,
    *,
    machine: str,
    ssh_port: int | None,
    no_block: bool,
    units: tuple[str, ...],
) -> int:
    """Print systemctl status of units from the machines that run them.

    A global unit is shown on every machine that has it. The exit status is systemctl's: 3 if the
    unit does not run, 4 if there is none. The first whose status is not 0 is the last one shown.
    That a unit's HealthCommand failed, or is being asked, is told below.
    """
    return asyncio.run(show(settings, units, wanted=machine, ssh_port=ssh_port))


async def show(
    settings: Settings, arguments: Sequence[str], *, wanted: str, ssh_port: int | None
) -> int:
    """Show the units that the arguments mean; the exit status."""
    from cli.errands import Errands, local_machine_id, open_cluster

    async with open_cluster(settings) as (client, tunnel), AsyncExitStack() as stack:
        here = local_machine_id()
        errands = Errands(settings, tunnel, stack, ssh_port=ssh_port, here=here)
        for number, name in enumerate(await _meant(client, arguments)):
            if number:
                click.echo()
            status = await _show_unit(client, errands, name, wanted)
            if status:
                return status
    return 0


async def _meant(client: "FleetClient", arguments: Sequence[str]) -> list[UnitName]:
    """The units named, those that match a pattern, each once."""
    present: tuple[UnitName, ...] = ()
    if any(is_pattern(argument) for argument in arguments):
        present = tuple(unit.name for unit in await client.units())
    meant: dict[UnitName, None] = {}
    for argument in arguments:
        if is_pattern(argument):
            meant |= dict.fromkeys(select([argument], present))
        else:
            meant[parse_name(complete_name(argument))] = None
    return list(meant)


async def _show_unit(client: "FleetClient", errands: "Errands", name: UnitName, wanted: str) -> int:
    from cli.errands import EXIT_NO_SSH, look_at

    sight = await look_at(client, name)
    try:
        places = chosen_places(sight, wanted)
    except FleetError as error:
        click.echo(f"Error getting machine IP: {error}", err=True)
        return 1
    if not places:
        click.echo(await absence(client, name, sight, "loaded"), err=True)
        return _EXIT_NOT_RUNNING if sight.unit else _EXIT_NO_UNIT
    try:
        status = await _show_places(errands, name, places)
        for line in await health_lines(client, sight, places):
            click.echo(line)
        return status
    except FleetError as error:
        click.echo(str(error), err=True)
        return EXIT_NO_SSH


async def health_lines(
    client: "FleetClient", sight: Sight, places: "Sequence[Machine]"
) -> list[str]:
    """What systemd there cannot know: that the unit's HealthCommand failed, or is being asked."""
    unit = sight.unit
    if unit is None or all(option.name != "HealthCommand" for option in unit.options):
        return []
    from cli.tables import legend

    shown = {machine.id: machine for machine in places}
    async with aclosing(client.watch([unit.name])) as reports:
        async for report in reports:
            return [
                f"Health on {legend(state.machine, shown[state.machine].address)}: "
                f"{state.told_health}"
                for state in report.states
                if state.machine in shown and state.told_health
            ]
    return []


async def _show_places(errands: "Errands", name: UnitName, places: "Sequence[Machine]") -> int:
    """The unit on each machine, under a header where there are several; the first bad status."""
    first_bad = 0
    for number, machine in enumerate(places):
        if len(places) > 1:
            click.echo("\n" * bool(number) + header(name, machine))
        sys.stdout.flush()
        status = await errands.run(machine, status_argv(name, machine))
        first_bad = first_bad or status
    return first_bad


def header(name: UnitName, machine: "Machine") -> str:
    """The line above what one of several machines says."""
    from cli.tables import legend

    return f"==> {name} on {legend(machine.id, machine.address)} <=="


def chosen_places(sight: Sight, wanted: str) -> "tuple[Machine, ...]":
    """The machines that have the unit, or the wanted one of them; raises NoPlace and NotFound."""
    if sight.unit is None:
        return ()
    places = places_of(sight.unit, sight)
    if not wanted:
        return places
    machine = find_machine(sight.machines, wanted)
    if machine not in places:
        raise NoPlace(f"{sight.unit.name} is not on the machine {machine.short_id}")
    return (machine,)


async def absence(client: "FleetClient", name: UnitName, sight: Sight, word: str) -> str:
    """Why there is nothing to show: the unit is not there, or on no machine, and what keeps it."""
    if sight.unit is None:
        return f"Unit {name} does not exist."
    from cli.waiting import refusal_lines

    lines = [f"Unit {name} does not appear to be {word}."]
    async with aclosing(client.watch([name])) as reports:
        async for report in reports:
            refusals = refusal_lines(report)
            if refusals:
                lines += ["No machine takes it:", *refusals]
            elif report.desired is not None:
                lines.append(f"Its target state is {report.desired}.")
            break
    return "\n".join(lines)
