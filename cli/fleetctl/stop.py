"""fleetctl stop."""

import click

from cli.carrying import Cluster, Patience, selected_units, take_down
from cli.completion.candidates import placeable_units
from cli.connect import run_connected
from cli.options import examples, patience_flags, units_argument
from cli.plans import plan_stop
from cli.settings import Settings
from fleet.states import TargetState


@click.command(
    epilog=examples(
        "fleetctl stop web.service",
        "fleetctl stop 'web@*'        # every instance of web@.service",
        "fleetctl stop --no-block web",
    )
)
@units_argument(placeable_units)
@patience_flags
@click.pass_obj
def command(settings: Settings, *, units: tuple[str, ...], patience: Patience) -> int:
    """Stop units where they run; they stay loaded there.

    A pattern in quotes means units of the cluster. A unit that cannot be stopped makes the exit
    status 1; the others are stopped all the same.
    """
    return run_connected(settings, lambda client: stop(client, units, patience))


async def stop(client: Cluster, arguments: tuple[str, ...], patience: Patience) -> int:
    """Stop the units that the arguments mean; the exit status."""
    chosen = await selected_units(client, arguments, placed=False)
    if any(unit.desired is not TargetState.LAUNCHED and not unit.current for unit in chosen):
        # What is to be done with those depends on how far they came.
        chosen = await selected_units(client, arguments)
    if not chosen:
        click.echo("Units not found in registry", err=True)
        return 0
    plan = plan_stop(chosen)
    return await take_down(client, plan, verb="stop", done="stopped", patience=patience)
