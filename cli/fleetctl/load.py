"""fleetctl load."""

import click

from cli.bringing import bring
from cli.carrying import Patience
from cli.completion.candidates import runnable_units
from cli.connect import run_connected
from cli.options import (
    attempts_flag,
    examples,
    no_block_flag,
    replace_flag,
    sign_flag,
    units_argument,
)
from cli.settings import Settings


@click.command(
    epilog=examples(
        "fleetctl load web.service",
        "fleetctl load --no-block web@{1..3}",
        "fleetctl load --replace web.service",
    )
)
@units_argument(runnable_units)
@replace_flag
@no_block_flag
@attempts_flag
@sign_flag
@click.pass_obj
def command(
    settings: Settings,
    *,
    units: tuple[str, ...],
    replace: bool,
    no_block: bool,
    block_attempts: int,
    sign: bool,
) -> int:
    """Put units on machines without starting them.

    Units that are not in the cluster yet are submitted first. On a launched unit, load is stop.
    """
    if not units:
        click.echo("No units given", err=True)
        return 0
    patience = Patience(block=not no_block, attempts=block_attempts)
    return run_connected(
        settings,
        lambda client: bring(client, units, verb="load", replace=replace, patience=patience),
    )
