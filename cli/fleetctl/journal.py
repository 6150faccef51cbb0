"""fleetctl journal: a unit's journal, from the machine or the machines that have it."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from cli.completion.candidates import machines, placeable_units, words
from cli.fleetctl.status import absence, chosen_places
from cli.looking import Reading, journal_argv
from cli.options import Option, examples, ssh_port_option
from cli.settings import Settings
from fleet.errors import FleetError
from fleet.names import UnitName, complete_name, parse_name

if TYPE_CHECKING:
    from cli.errands import Errands
    from fleet.machine import Machine

# What journalctl's --output takes; source: journalctl(1) of systemd 252.
JOURNAL_FORMATS = (
    "short short-full short-iso short-iso-precise short-precise short-monotonic short-delta "
    "short-unix verbose export json json-pretty json-sse json-seq cat with-unit"
).split()


@click.command(
    epilog=examples(
        "fleetctl journal web.service",
        "fleetctl journal --lines 100 -f web@1",
        "fleetctl journal -f --machine 113f16a7 log-shipper   # of a global unit",
    )
)
@click.option(
    "-n",
    "--lines",
    cls=Option,
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="The last N lines.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come.")
@click.option(
    "-o",
    "--output",
    default="short",
    show_default=True,
    metavar="FORMAT",
    shell_complete=words(JOURNAL_FORMATS),
    help="As journalctl's.",
)
@click.option("--sudo", is_flag=True, help="Read it as root.")
@click.option(
    "--machine",
    default="",
    metavar="ID",
    help="Only there, for a global unit.",
    shell_complete=machines,
)
@ssh_port_option
@click.argument("units", nargs=-1, metavar="UNIT", shell_complete=placeable_units)
@click.pass_obj
def command(
    settings: Settings,
    *,
    lines: int,
    follow: bool,
    output: str,
    sudo: bool,
    machine: str,
    ssh_port: int | None,
    units: tuple[str, ...],
) -> int:
    """Print the journal of a unit from the machine that runs it.

    The journal of a global unit comes from every machine that has it, the machine before each line.
    The exit status is journalctl's.
    """
    if len(units) != 1:
        click.echo("One unit file must be provided.", err=True)
        return 1
    name = parse_name(complete_name(units[0]))
    reading = Reading(lines=lines, follow=follow, output=output, sudo=sudo)
    return asyncio.run(read(settings, name, reading, wanted=machine, ssh_port=ssh_port))


async def read(
    settings: Settings, name: UnitName, reading: Reading, *, wanted: str, ssh_port: int | None
) -> int:
    """Print the unit's journal; the exit status."""
    from cli.errands import EXIT_NO_SSH, Errands, local_machine_id, look_at, open_cluster

    async with open_cluster(settings) as (client, tunnel), AsyncExitStack() as stack:
        sight = await look_at(client, name)
        try:
            places = chosen_places(sight, wanted)
        except FleetError as error:
            click.echo(f"Error getting machine IP: {error}", err=True)
            return 1
        if not places:
            click.echo(await absence(client, name, sight, "running"), err=True)
            return 1
        here = local_machine_id()
        errands = Errands(settings, tunnel, stack, ssh_port=ssh_port, here=here)
        try:
            return await _read_places(errands, places, name, reading)
        except FleetError as error:
            click.echo(str(error), err=True)
            return EXIT_NO_SSH


async def _read_places(
    errands: "Errands", places: "Sequence[Machine]", name: UnitName, reading: Reading
) -> int:
    """One machine's journal as it is; of several, each line with its machine."""
    if len(places) == 1:
        return await errands.run(places[0], journal_argv(name, places[0], reading))
    from cli.errands import prefixed
    from cli.tunnel.terminal import write_all

    async def print_out(data: bytes) -> None:
        await write_all(1, data)

    runs = [
        errands.run(
            machine,
            journal_argv(name, machine, reading),
            output=prefixed(f"{machine.short_id}: ", print_out),
        )
        for machine in places
    ]
    statuses = await asyncio.gather(*runs) if reading.follow else [await run for run in runs]
    return next((status for status in statuses if status), 0)
