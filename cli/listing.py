"""What the list verbs share: which things to list, and the addresses of the machines in them."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from cli.selection import check_arguments, matches
from cli.tables import View
from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

_T = TypeVar("_T")


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
