"""Says beside a list what it lacks: machines that are lost or held, and units behind a fence.

Who lists machines or units has to know it, so the question is asked beside theirs; that it cannot
be answered costs them nothing.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, TypeVar

from cli.tables import clock_time, legend
from fleet.api.lost import Lost
from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.api.client import FleetClient
    from fleet.hold import Hold
    from fleet.machine import MachineId

_T = TypeVar("_T")

RELEASE = "fleetctl hold --release"
NONE_HELD = "No machines are held"
# How much later than its list a command may end for the sake of this.
_PATIENCE_S = 1.0


async def beside_lost(client: "FleetClient", listing: Awaitable[_T]) -> tuple[_T, Lost]:
    """What was asked for, and what is lost, as far as its server tells of it."""
    asking = asyncio.create_task(client.lost())
    try:
        listed = await listing
        return listed, await _answer(asking)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def _answer(asking: "asyncio.Task[Lost]") -> Lost:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await asking
    except (FleetError, TimeoutError):
        return Lost()


def hold_sentence(hold: "Hold | None") -> str:
    """The hold in one sentence, with its machines, its end and what to do; empty without one."""
    if hold is None:
        return ""
    names = name_machines(hold.machines)
    until = clock_time(hold.until_s)
    return (
        f"Machines are held: {names} vanished at once, and their units are not moved"
        f" before {until} unless you say so: {RELEASE}"
    )


def lost_sentences(lost: Lost) -> list[str]:
    """The lost machines with the number of their units, a sentence for each reason."""
    by_reason: dict[str, list[str]] = {}
    for each in lost.machines:
        units = "1 unit" if each.units == 1 else f"{each.units} units"
        by_reason.setdefault(each.why, []).append(f"{legend(each.machine)} ({units})")
    return [f"Lost: {', '.join(names)}: {why}" for why, names in by_reason.items()]


def wait_sentences(lost: Lost) -> list[str]:
    """What each fenced unit that runs nowhere waits for, a sentence a unit."""
    return [
        f"Fenced: {each.unit} waits: {each.reason}"
        + (f", until {clock_time(each.until_s)}" if each.until_s else "")
        for each in lost.waits
    ]


def name_machines(machines: "Iterable[MachineId]", *, full: bool = False) -> str:
    """The machines, which have no address while they are gone."""
    return ", ".join(legend(machine, full=full) for machine in sorted(machines))
