"""fleetctl unload."""

import click

from cli.carrying import Cluster, Patience, selected_units, take_down
from cli.completion.candidates import placeable_units
from cli.connect import run_connected
from cli.options import examples, patience_flags, units_argument
from cli.plans import plan_unload
from cli.settings import Settings


@click.command(
    epilog=examples(
        "fleetctl unload web.service",
        "fleetctl unload 'web@*'      # every instance of web@.service",
    )
)
@units_argument(placeable_units)
@patience_flags
@click.pass_obj
def command(settings: Settings, *, units: tuple[str, ...], patience: Patience) -> int:
    """Take units off their machines; they stay in the cluster.

    They are stopped first. A pattern in quotes means units of the cluster. A unit that no machine
    can take is unloaded too, and so no longer looks for one.
    """
    return run_connected(settings, lambda client: unload(client, units, patience))


async def unload(client: Cluster, arguments: tuple[str, ...], patience: Patience) -> int:
    """Unload the units that the arguments mean; the exit status."""
    chosen = await selected_units(client, arguments)
    if not chosen:
        click.echo("Units not found in registry", err=True)
        return 0
    plan = plan_unload(chosen)
    return await take_down(client, plan, verb="unload", done="unloaded", patience=patience)
