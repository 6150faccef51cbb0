"""fleetctl list-unit-files."""

from typing import TYPE_CHECKING

import click

from cli.completion.candidates import known_units
from cli.connect import run_connected
from cli.listing import Shown, chosen, list_flags, show_list, view_of
from cli.options import examples
from cli.records import UNITS, Form
from cli.settings import Settings

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

_KINDS = frozenset({"units", "schedule", "states", "machines"})
_MACHINE_COLUMNS = {"target", "tmachine"}


@click.command(
    epilog=examples(
        "fleetctl list-unit-files",
        "fleetctl list-unit-files 'web@*'",
        "fleetctl list-unit-files -o name 'web@*'   # nothing but names",
        "fleetctl list-unit-files --fields=unit,dstate,desc",
    )
)
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...", shell_complete=known_units)
@list_flags(UNITS)
@click.pass_obj
def command(settings: Settings, *, patterns: tuple[str, ...], form: Form) -> int:
    """List the units of the cluster, and where each is meant to run.

    DSTATE is what was asked for, STATE how far it has come, TARGET the machine that was chosen.
    """
    columns = UNITS.fields_of(form)
    if "tmachine" in columns:
        click.echo('WARNING: the field "tmachine" is deprecated; use "target" instead', err=True)

    async def show(client: "FleetClient") -> int:
        async def read() -> Shown:
            units = chosen(patterns, await client.units(), lambda unit: unit.name)
            wanted = form.is_for_programs or not _MACHINE_COLUMNS.isdisjoint(columns)
            view = await view_of(client, full=form.full, wanted=wanted)
            return Shown(UNITS.render(units, view, form))

        return await show_list(client, form, read, kinds=_KINDS)

    return run_connected(settings, show)
