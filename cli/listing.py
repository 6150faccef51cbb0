"""What the list verbs share: their flags, which things to list, and the machines' addresses."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.completion.candidates import listed_words
from cli.records import OUTPUTS, Form, Listing
from cli.selection import check_arguments, matches
from cli.tables import View
from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

_T = TypeVar("_T")
_Function = Callable[..., Any]


def chosen(patterns: Sequence[str], things: Iterable[_T], name: Callable[[_T], str]) -> list[_T]:
    """The things whose names one of the patterns means, all without patterns.

    Raises InvalidRequest for a pattern that can mean nothing.
    """
    check_arguments(patterns)
    return [
        thing
        for thing in things
        if not patterns or any(matches(pattern, name(thing)) for pattern in patterns)
    ]


async def view_of(client: "FleetClient", *, full: bool, wanted: bool) -> View:
    """How to write cells; that the machines cannot be listed only costs their addresses."""
    if not wanted:
        return View(full=full)
    try:
        machines = await client.machines()
    except FleetError:
        return View(full=full)
    return View(full=full, addresses={machine.id: machine.address for machine in machines})


def list_flags(listing: Listing[Any]) -> Callable[[_Function], _Function]:
    """The flags of the list verbs, which the verb gets as the `form` of its list."""
    known = sorted(listing.columns)

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def formed(
            *args: Any, output: str, fields: str, full: bool, no_legend: bool, **flags: Any
        ) -> int:
            form = Form(
                output=output, fields=fields, full=full or output == "wide", no_legend=no_legend
            )
            listing.fields_of(form)
            status: int = function(*args, form=form, **flags)
            return status

        decorated: _Function = formed
        for option in (
            click.option(
                "-o",
                "--output",
                type=click.Choice(OUTPUTS),
                default="table",
                show_default=True,
                help="wide has all columns, name only names; json and yaml are for programs.",
            ),
            click.option(
                "--fields",
                default=listing.fields,
                metavar="LIST",
                show_default=True,
                shell_complete=listed_words(known),
                help=f"Columns, separated by commas. Known: {', '.join(known)}.",
            ),
            click.option("--no-legend", is_flag=True, help="Leave the header out."),
            click.option("-l", "--full", is_flag=True, help="Do not shorten ids and hashes."),
        ):
            decorated = option(decorated)
        return decorated

    return decorate
