"""fleetctl ssh: a shell or a command on a machine, or where a unit is."""

import asyncio
from contextlib import suppress

import click

from cli.completion.candidates import machines, placeable_units, places
from cli.options import examples, ssh_port_option
from cli.places import NoPlace, Wish, find_place, remote_command
from cli.settings import Settings
from fleet.errors import FleetError, InvalidRequest
from fleet.names import UnitName, complete_name, parse_name


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "fleetctl ssh 113f16a7",
        "fleetctl ssh web@1 journalctl -u web@1 -n 50",
        "fleetctl ssh --unit web@1 -- df -h",
    ),
)
@click.option(
    "--machine", default="", metavar="ID", help="Go to this machine.", shell_complete=machines
)
@click.option(
    "--unit",
    default="",
    metavar="UNIT",
    help="Go to the machine of this unit.",
    shell_complete=placeable_units,
)
@click.option("-A", "--forward-agent", is_flag=True, help="Let the machine use your ssh-agent.")
@ssh_port_option
@click.argument("words", nargs=-1, metavar="[MACHINE|UNIT] [CMD]...", shell_complete=places)
@click.pass_obj
def command(
    settings: Settings,
    *,
    machine: str,
    unit: str,
    forward_agent: bool,
    ssh_port: int | None,
    words: tuple[str, ...],
) -> int:
    """Open a shell, or run a command, on a machine or where a unit runs.

    A machine is named by its id, by the beginning of it, or by its address. Flags end at the first
    argument: what follows the machine is the command, which the shell there interprets. The exit
    status is the command's, or the shell's.
    """
    wish = Wish(machine=machine, unit=unit)
    if not machine and not unit and words:
        wish, words = Wish(either=words[0]), words[1:]
    return asyncio.run(
        visit(settings, wish, remote_command(words), ssh_port=ssh_port, forward_agent=forward_agent)
    )


async def visit(
    settings: Settings,
    wish: Wish,
    command: str | None,
    *,
    ssh_port: int | None,
    forward_agent: bool,
) -> int:
    """Go to the machine wished for and run the command; its exit status, 255 if SSH broke off."""
    from cli.errands import EXIT_NO_SSH, look_at, open_cluster
    from cli.places import address_of
    from cli.tunnel import connect_machine

    async with open_cluster(settings) as (client, tunnel):
        sight = await look_at(client, _unit_name(wish.unit or wish.either))
        try:
            address = address_of(find_place(wish, sight))
        except NoPlace as problem:
            raise NoPlace(f"Unable to proceed: {problem}") from problem
        async with connect_machine(
            settings, address, ssh_port, via=tunnel, forward_agent=forward_agent
        ) as machine:
            try:
                return await machine.run(command)
            except FleetError as error:
                click.echo(str(error), err=True)
                return EXIT_NO_SSH


def _unit_name(text: str) -> UnitName | None:
    """The unit that the text may name; an address or an id may be none."""
    with suppress(InvalidRequest):
        return parse_name(complete_name(text)) if text else None
    return None
