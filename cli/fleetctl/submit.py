"""fleetctl submit."""

import click

from cli.bringing import bring
from cli.carrying import Patience
from cli.completion.candidates import unit_files
from cli.connect import run_connected
from cli.options import creation_flags, examples, units_argument
from cli.settings import Settings


@click.command(
    epilog=examples(
        "fleetctl submit web.service",
        "fleetctl submit units/*.service",
        "fleetctl submit web@.service   # a template, for: fleetctl start web@1 web@2",
        "fleetctl submit --replace web.service",
    )
)
@units_argument(unit_files)
@creation_flags
@click.pass_obj
def command(settings: Settings, *, units: tuple[str, ...], replace: bool) -> int:
    """Store units in the cluster without running them.

    A UNIT is the path of a unit file; .service is added to a name without a type. An instance
    (web@1) is made of its template, from the cluster or from the same folder. All files are
    checked before anything is stored.
    """
    return run_connected(
        settings,
        lambda client: bring(client, units, verb="submit", replace=replace, patience=Patience()),
    )
