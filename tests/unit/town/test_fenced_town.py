"""What becomes of a fenced unit in a whole town, from the order to the unit that runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fleet.fencing import stop_limit_s
from fleet.names import UnitName
from fleet.options import fleet_options, read_requirements
from fleet.registry import UnitChange
from fleet.states import TargetState
from fleet.unit import parse_unit
from tests.unit.town.boxes import KEYS, TTL_S, Box
from tests.unit.town.town import Town
from tests.unit.town.troubled import Mood

SOLO = UnitName("solo.service")
STOP_S = 2
FILE = parse_unit(
    "[Service]\nExecStart=/bin/sleep infinity\n"
    f"ExecStop=/bin/sleep {STOP_S}\nTimeoutStopSec=60\n[X-Fleet]\nFenced=true\n"
)


@contextlib.asynccontextmanager
async def town_of(place: Path) -> AsyncIterator[Town]:
    """Three machines that know each other, with the unit up on one of them."""
    town = Town(place)
    try:
        await asyncio.sleep(TTL_S)
        town.asked[FILE.hash] = read_requirements(fleet_options(FILE), SOLO)
        await town.ask(UnitChange(name=SOLO, file=FILE, target=TargetState.LAUNCHED))
        await asyncio.sleep(TTL_S)
        yield town
        assert town.violations == []
    finally:
        await town.close()


def homes_of(town: Town) -> list[Box]:
    return [box for box in town.boxes if SOLO in box.live]


async def test_drained_machines_fenced_unit_is_elsewhere_as_soon_as_it_has_stopped(
    tmp_path: Path,
) -> None:
    async with town_of(tmp_path) as town:
        (old,) = homes_of(town)
        await town.cordon(old, drain=True)
        await asyncio.sleep(STOP_S - 1)
        assert homes_of(town) == [old], "it takes its time to stop"

        await asyncio.sleep(2)
        (new,) = homes_of(town)
        assert new is not old
        assert (await town.store.read(KEYS.claims)).entries.keys() == {KEYS.claim(new.id, SOLO)}
        await town.peace()
        assert homes_of(town) == [new]


async def test_machine_that_is_lost_while_its_fenced_unit_stops_for_a_drain_is_waited_for(
    tmp_path: Path,
) -> None:
    async with town_of(tmp_path) as town:
        (old,) = homes_of(town)
        await town.cordon(old, drain=True)
        await asyncio.sleep(STOP_S - 1)
        for line in old.fleetd.lines:
            line.be(Mood.AWAY)
        await asyncio.sleep(stop_limit_s(FILE))
        assert homes_of(town) == [], "nobody was told that it has stopped"

        await asyncio.sleep(2 * TTL_S)
        (new,) = homes_of(town)
        assert new is not old
        await town.peace()
        assert homes_of(town) == [new]
