"""A machine that leaves takes its units down first; one that is not registered does nothing."""

import asyncio
from pathlib import Path

from agent.loop import FULL_PASS_S
from fleet.names import UnitName
from tests.unit.agent.test_loop import SLEEPER, Bench, is_gone, is_up, now_s

SLOW = f"{SLEEPER}ExecStop=/bin/sleep 20\n"
STUCK = f"{SLEEPER}ExecStop=/bin/sleep 600\n"


async def test_departing_machine_stops_and_unloads_all_its_units(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent() as agent:
        web, slow = await bench.up("web.service"), await bench.up("slow.service", SLOW)

        before_s = now_s()
        left = await agent.depart(60)

        assert left == ()
        assert 20 <= now_s() - before_s < 21
        assert bench.systemd.live == frozenset()
        assert list((tmp_path / "units").iterdir()) == []
        # Their states are withdrawn, though the schedule still has the rows.
        for unit in (web, slow):
            await bench.published(unit, is_gone)


async def test_departing_machine_starts_nothing_new(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent() as agent:
        await bench.up("slow.service", SLOW)
        departing = asyncio.create_task(agent.depart(60))
        await asyncio.sleep(1)
        await bench.schedule("late.service")
        await departing

    assert ("start", "late.service") not in bench.asked()


async def test_departure_is_bounded_and_names_what_did_not_stop(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent() as agent:
        stuck, web = await bench.up("stuck.service", STUCK), await bench.up("web.service")
        before_s = now_s()

        assert await agent.depart(10) == (stuck,)

        assert now_s() - before_s < 11
        assert web not in bench.systemd.live


async def test_machine_without_units_departs_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent() as agent:
        before_s = now_s()

        assert await agent.depart(10) == ()

        assert now_s() - before_s < 1


async def test_departure_needs_no_store(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent() as agent:
        await bench.up("web.service")
        agent.use_lease(None)

        assert await agent.depart(10) == ()


async def test_machine_that_is_not_registered_touches_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent() as agent:
        web = await bench.up("web.service")
        agent.use_lease(None)
        await bench.unschedule(web)
        await bench.schedule("late.service")
        await asyncio.sleep(3 * FULL_PASS_S)

        assert bench.systemd.live == {web}
        assert ("start", "late.service") not in bench.asked()

        agent.use_lease(bench.lease)
        await bench.published(UnitName("late.service"), is_up)
        await bench.published(web, is_gone)
