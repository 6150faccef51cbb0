"""fleetctl list-units."""

from typing import TYPE_CHECKING

import click

from cli.completion.candidates import placeable_units
from cli.connect import run_connected
from cli.holding import beside_lost, hold_sentence, wait_sentences
from cli.listing import Shown, chosen, list_flags, show_list, view_of
from cli.options import examples
from cli.records import STATES, Form
from cli.settings import Settings

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

_KINDS = frozenset({"states", "machines", "engine", "refusals"})


@click.command(
    epilog=examples(
        "fleetctl list-units",
        "fleetctl list-units 'web@*'          # only instances of web@.service",
        "fleetctl list-units --full --fields=unit,machine,hash",
        "fleetctl list-units --watch          # until Ctrl-C",
        "fleetctl list-units -o json web.service",
        "fleetctl list-units --no-legend --fields=unit,active   # for a script",
    )
)
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...", shell_complete=placeable_units)
@list_flags(STATES)
@click.pass_obj
def command(settings: Settings, *, patterns: tuple[str, ...], form: Form) -> int:
    """List the units as systemd has them on each machine.

    A global unit has a line for every machine. With patterns, only units of such names are listed.
    What fenced units wait for before they start elsewhere is told on stderr.
    """

    async def listed(client: "FleetClient") -> str:
        states = chosen(patterns, await client.states(), lambda state: state.unit)
        wanted = form.is_for_programs or "machine" in STATES.fields_of(form)
        view = await view_of(client, full=form.full, wanted=wanted)
        return STATES.render(states, view, form)

    async def show(client: "FleetClient") -> int:
        async def read() -> Shown:
            text, lost = await beside_lost(client, listed(client))
            told = (hold_sentence(lost.hold), *wait_sentences(lost))
            return Shown(text, "\n".join(filter(None, told)))

        return await show_list(client, form, read, kinds=_KINDS)

    return run_connected(settings, show)
