"""Says that machines are held: many vanished at once, and their units are not moved for a while.

Who lists machines or units has to know it, so the question is asked beside theirs; that it cannot
be answered costs them nothing.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, TypeVar

from cli.tables import clock_time, legend
from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.api.client import FleetClient
    from fleet.cluster import Hold
    from fleet.machine import MachineId

_T = TypeVar("_T")

RELEASE = "fleetctl hold --release"
NONE_HELD = "No machines are held"
# How much later than its list a command may end for the sake of this.
_PATIENCE_S = 1.0


async def beside_hold(client: "FleetClient", listing: Awaitable[_T]) -> tuple[_T, "Hold | None"]:
    """What was asked for, and the hold if one is on and its server tells of it."""
    asking = asyncio.create_task(client.hold())
    try:
        listed = await listing
        return listed, await _answer(asking)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def _answer(asking: "asyncio.Task[Hold | None]") -> "Hold | None":
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await asking
    except (FleetError, TimeoutError):
        return None


def hold_sentence(hold: "Hold") -> str:
    """The hold in one sentence, with its machines, its end and what to do."""
    names = name_machines(hold.machines)
    until = clock_time(hold.until_s)
    return (
        f"Machines are held: {names} vanished at once, and their units are not moved"
        f" before {until} unless you say so: {RELEASE}"
    )


def name_machines(machines: "Iterable[MachineId]", *, full: bool = False) -> str:
    """The machines, which have no address while they are gone."""
    return ", ".join(legend(machine, full=full) for machine in sorted(machines))
