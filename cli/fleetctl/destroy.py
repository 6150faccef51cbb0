"""fleetctl destroy."""

import click

from cli.carrying import Cluster, Patience, say, selected_units, stored_units, wait, warn
from cli.completion.candidates import known_units
from cli.connect import run_connected
from cli.options import examples, patience_flags, units_argument
from cli.selection import check_arguments, is_pattern, named_units
from cli.settings import Settings
from cli.waiting import Aim, Goal, Reached
from fleet.change import UnitChange
from fleet.errors import FleetError
from fleet.names import UnitName


@click.command(
    epilog=examples(
        "fleetctl destroy web.service",
        "fleetctl destroy 'web@*'   # every instance of web@.service, and it, too",
        "fleetctl destroy --no-block web",
    )
)
@units_argument(known_units)
@patience_flags
@click.pass_obj
def command(settings: Settings, *, units: tuple[str, ...], patience: Patience) -> int:
    """Stop units and remove them from the cluster.

    The command returns when no machine has them any more. A pattern in quotes means units of the
    cluster; units that do not exist are passed over.
    """
    return run_connected(settings, lambda client: destroy(client, units, patience))


async def destroy(client: Cluster, arguments: tuple[str, ...], patience: Patience) -> int:
    """Destroy the units that the arguments mean; the exit status."""
    removed, problem = await _remove(client, await _names(client, arguments))
    if problem:
        warn([f"Error destroying units: {problem}"])
    elif not removed:
        warn(["Units not found in registry"])
        return 0
    if not patience.block:
        say(f"Destroyed {name}" for name in removed)
        return 1 if problem else 0
    goals = dict.fromkeys(removed, Goal(aim=Aim.GONE))
    verdicts = await wait(client, goals, attempts=patience.attempts)
    gone = all(isinstance(verdict, Reached) for verdict in verdicts.values())
    return 0 if gone and not problem else 1


async def _names(client: Cluster, arguments: tuple[str, ...]) -> list[UnitName]:
    """The units meant; which of those given by name exist is for the cluster to say."""
    if any(is_pattern(argument) for argument in arguments):
        chosen = await selected_units(client, arguments, templates=True, placed=False)
        return [unit.name for unit in chosen]
    check_arguments(arguments)
    return named_units(arguments)


async def _remove(
    client: Cluster, names: list[UnitName]
) -> tuple[list[UnitName], FleetError | None]:
    """Remove the units; those removed, and what kept others.

    When it is not known what became of the request, a unit that is not there counts as removed.
    """
    try:
        outcome = await client.apply([UnitChange(name=name, destroy=True) for name in names])
    except FleetError as error:
        try:
            left = await stored_units(client, names, contents=False, placed=False)
        except FleetError:
            raise error from None
        return [name for name in names if name not in left], error
    return [name for name in names if outcome[name]], None
