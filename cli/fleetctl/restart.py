"""fleetctl restart."""

import click

from cli.bringing import bring
from cli.carrying import Cluster, CommandFailed, Patience, selected_units, send, settle, warn
from cli.completion.candidates import placeable_units
from cli.connect import run_connected
from cli.options import attempts_flag, examples, units_argument
from cli.plans import Plan, plan_restart_start, plan_restart_stop
from cli.selection import is_pattern
from cli.settings import Settings
from fleet.errors import Unavailable


@click.command(
    epilog=examples(
        "fleetctl restart web.service",
        "fleetctl restart 'web@*'     # every instance of web@.service",
    )
)
@units_argument(placeable_units)
@attempts_flag
@click.pass_obj
def command(settings: Settings, *, units: tuple[str, ...], patience: Patience) -> int:
    """Stop units and start them again where they are.

    A loaded unit is started. A unit that is not in the cluster yet is submitted, but not started.
    Global units are stopped on all machines before they start again.
    """
    return run_connected(settings, lambda client: restart(client, units, patience))


async def restart(client: Cluster, arguments: tuple[str, ...], patience: Patience) -> int:
    """Restart the units that the arguments mean; the exit status."""
    files = [argument for argument in arguments if not is_pattern(argument)]
    if files:
        await bring(client, files, verb="submit", replace=False, patience=patience)
    chosen = await selected_units(client, arguments)
    if not chosen:
        click.echo("Units not found in registry", err=True)
        return 0
    stopping = plan_restart_stop(chosen)
    starting = plan_restart_start(chosen, patient=patience.attempts > 0)
    warn(stopping.refused)
    await send(client, stopping.changes, verb="restart")
    stopped = await _stop(client, stopping, starting, patience)
    started = await settle(client, starting, verb="restart", patience=patience)
    return 0 if stopped and started else 1


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
