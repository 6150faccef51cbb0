"""fleetctl list-unit-files."""

from typing import TYPE_CHECKING

import click

from cli.completion.candidates import known_units
from cli.connect import run_connected
from cli.listing import chosen, view_of
from cli.options import examples, list_flags
from cli.settings import Settings
from cli.tables import UNIT_COLUMNS, UNIT_FIELDS, parse_fields, render_list

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

_MACHINE_COLUMNS = {"target", "tmachine"}


@click.command(
    epilog=examples(
        "fleetctl list-unit-files",
        "fleetctl list-unit-files 'web@*'",
        "fleetctl list-unit-files --fields=unit,dstate,desc",
    )
)
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...", shell_complete=known_units)
@list_flags(UNIT_FIELDS, UNIT_COLUMNS)
@click.pass_obj
def command(
    settings: Settings, *, patterns: tuple[str, ...], full: bool, no_legend: bool, fields: str
) -> int:
    """List the units of the cluster, and where each is meant to run.

    DSTATE is what was asked for, STATE how far it has come, TARGET the machine that was chosen.
    """
    columns = parse_fields(fields, UNIT_COLUMNS)
    if "tmachine" in columns:
        click.echo('WARNING: the field "tmachine" is deprecated; use "target" instead', err=True)

    async def show(client: "FleetClient") -> int:
        units = chosen(patterns, await client.units(), lambda unit: unit.name)
        wanted = not _MACHINE_COLUMNS.isdisjoint(columns)
        view = await view_of(client, full=full, wanted=wanted)
        text = render_list(units, UNIT_COLUMNS, columns, view, legend_line=not no_legend)
        click.echo(text, nl=False)
        return 0

    return run_connected(settings, show)
