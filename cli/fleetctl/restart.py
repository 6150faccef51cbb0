"""fleetctl restart."""

from collections.abc import Sequence

import click

from cli.bringing import bring
from cli.carrying import Cluster, CommandFailed, Patience, selected_units, send, settle, warn
from cli.completion.candidates import placeable_units
from cli.connect import run_connected
from cli.options import attempts_flag, examples, unavailable_option, units_argument
from cli.plans import Plan, plan_restart_start, plan_restart_stop
from cli.selection import is_global, is_pattern
from cli.settings import Settings
from fleet.api.schema import Unit
from fleet.errors import InvalidRequest, Unavailable


@click.command(
    epilog=examples(
        "fleetctl restart web.service",
        "fleetctl restart 'web@*'     # every instance of web@.service",
        "fleetctl restart --max-unavailable 1 'web@*'   # one after the other",
    )
)
@units_argument(placeable_units)
@unavailable_option("Restart N units at a time, and no more after a failure.")
@attempts_flag
@click.pass_obj
def command(
    settings: Settings, *, units: tuple[str, ...], max_unavailable: int | None, patience: Patience
) -> int:
    """Stop units and start them again where they are.

    A loaded unit is started. A unit that is not in the cluster yet is submitted, but not started.
    Global units are stopped on all machines before they start again. With --max-unavailable the
    next units have their turn when those before are active; after a failure the rest are left
    untouched, and named.
    """
    return run_connected(
        settings, lambda client: restart(client, units, patience, at_once=max_unavailable)
    )


async def restart(
    client: Cluster, arguments: tuple[str, ...], patience: Patience, *, at_once: int | None = None
) -> int:
    """Restart the units that the arguments mean, so many at once or all; the exit status."""
    files = [argument for argument in arguments if not is_pattern(argument)]
    if files:
        await bring(client, files, verb="submit", replace=False, patience=patience)
    chosen = await selected_units(client, arguments, contents=True)
    if not chosen:
        click.echo("Units not found in registry", err=True)
        return 0
    warn(plan_restart_stop(chosen).refused)
    if at_once is None:
        return 0 if await _restart_together(client, chosen, patience) else 1
    meant = [change.name for change in plan_restart_start(chosen).changes]
    left = [unit for unit in chosen if unit.name in meant]
    _refuse_global(left)
    return 0 if await _restart_in_turn(client, left, at_once, patience) else 1


def _refuse_global(units: Sequence[Unit]) -> None:
    everywhere = " ".join(unit.name for unit in units if is_global(unit))
    if everywhere:
        raise InvalidRequest(
            f"A restart stops global units on all machines at once: {everywhere}; "
            "restart them without --max-unavailable"
        )


async def _restart_in_turn(
    client: Cluster, units: Sequence[Unit], at_once: int, patience: Patience
) -> bool:
    """Restart so many at a time until one fails, and tell of those that are left then."""
    left, is_well = units, True
    try:
        while left and is_well:
            batch, left = left[:at_once], left[at_once:]
            is_well = await _restart_together(client, batch, patience)
    finally:
        if left:
            warn([f"Left untouched: {' '.join(unit.name for unit in left)}"])
    return is_well


async def _restart_together(client: Cluster, units: Sequence[Unit], patience: Patience) -> bool:
    """Restart the units all at once; whether all have stopped and are there again."""
    stopping = plan_restart_stop(units)
    starting = plan_restart_start(units, patient=patience.attempts > 0)
    await send(client, stopping.changes, verb="restart")
    stopped = await _stop(client, stopping, starting, patience)
    started = await settle(client, starting, verb="restart", patience=patience)
    return stopped and started


async def _stop(client: Cluster, stopping: Plan, starting: Plan, patience: Patience) -> bool:
    """Wait until the units have stopped; whatever happens meanwhile, launch them again."""
    names = " ".join(change.name for change in starting.changes)
    try:
        try:
            return await settle(client, stopping, verb="restart", patience=patience)
        finally:
            await send(client, starting.changes, verb="restart")
    except Unavailable as error:
        left = f"The restart was cut short; to be sure that the units run: fleetctl start {names}"
        raise CommandFailed(f"{error}\n{left}") from error
