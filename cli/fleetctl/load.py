"""fleetctl load."""

import click

from cli.bringing import bring
from cli.carrying import Patience
from cli.completion.candidates import runnable_units
from cli.connect import run_connected
from cli.options import creation_flags, examples, patience_flags, units_argument
from cli.settings import Settings


@click.command(
    epilog=examples(
        "fleetctl load web.service",
        "fleetctl load --no-block web@{1..3}",
        "fleetctl load --replace web.service",
    )
)
@units_argument(runnable_units)
@creation_flags
@patience_flags
@click.pass_obj
def command(
    settings: Settings, *, units: tuple[str, ...], replace: bool, patience: Patience
) -> int:
    """Put units on machines without starting them.

    Units that are not in the cluster yet are submitted first. On a launched unit, load is stop.
    """
    return run_connected(
        settings,
        lambda client: bring(client, units, verb="load", replace=replace, patience=patience),
    )
