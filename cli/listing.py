"""What the list verbs share: their flags, which things to list, and the machines' addresses."""

import functools
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.completion.candidates import listed_words
from cli.records import OUTPUTS, Form, Listing
from cli.selection import check_arguments, matches
from cli.tables import View
from fleet.errors import FleetError, Unavailable

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


def list_flags(listing: Listing[Any], *, watched: bool = True) -> Callable[[_Function], _Function]:
    """The flags of the list verbs, which the verb gets as the `form` of its list."""
    known = sorted(listing.columns)

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def formed(
            *args: Any,
            output: str,
            fields: str,
            full: bool,
            no_legend: bool,
            watch: bool = False,
            **flags: Any,
        ) -> int:
            form = Form(
                output=output,
                fields=fields,
                full=full or output == "wide",
                no_legend=no_legend,
                watch=watch,
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
        return _watch_flag(decorated) if watched else decorated

    return decorate


def _watch_flag(function: _Function) -> _Function:
    return click.option(
        "-w", "--watch", is_flag=True, help="Show the list again whenever it changes, until Ctrl-C."
    )(function)


@dataclass(frozen=True, slots=True)
class Shown:
    """A list as it is to be shown, and what goes to stderr beside it."""

    text: str
    notice: str = ""


async def show_list(
    client: "FleetClient",
    form: Form,
    read: Callable[[], Awaitable[Shown]],
    *,
    kinds: frozenset[str],
) -> int:
    """Show the list, with --watch again whenever things of these kinds changed it; the status.

    Raises Unavailable if the cluster cannot be reached, or not any more.
    """
    if not form.watch:
        _draw(await read(), again=False)
        return 0
    last: Shown | None = None
    while True:
        was_open = False
        try:
            async with aclosing(client.changes()) as ticks:
                async for tick in ticks:
                    if was_open and not tick.changed & kinds:
                        continue
                    was_open = True
                    now = await read()
                    if now != last:
                        _draw(now, again=last is not None)
                        last = now
        except Unavailable:
            if not was_open:
                raise


def _draw(shown: Shown, *, again: bool) -> None:
    """On a terminal in place of the one before, elsewhere below it after an empty line."""
    if sys.stdout.isatty() and again:
        click.clear()
    elif again:
        click.echo()
    click.echo(shown.text, nl=False)
    sys.stdout.flush()
    if shown.notice:
        click.echo(shown.notice, err=True)
