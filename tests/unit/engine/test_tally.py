"""What an engine counts, so that people can watch it."""

import asyncio
import time

from engine.loop import EngineStats
from engine.tally import Tally
from engine.tasks import Task, TaskKind
from fleet.machine import MachineId
from tests.unit.engine.scene import scene


async def test_engine_counts_what_it_did() -> None:
    async with scene("m1", "m2", engines=False) as cluster:
        engine, _ = cluster.add_engine()
        assert engine.stats == EngineStats()
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        await cluster.start("b.service", "MachineMetadata=disk=ssd")
        await cluster.until(lambda c: bool(c.refusals))
        await asyncio.sleep(1)
        stats = engine.stats
        assert stats.done == {TaskKind.PLACE: 1, TaskKind.REFUSE: 1}
        assert (stats.failed, stats.failed_passes, stats.removed_from_lost) == ({}, 0, 0)
        assert stats.passes >= 2
        assert stats.leads_since_s is not None
        assert abs(time.time() - stats.leads_since_s) < 60


async def test_engine_counts_what_it_took_from_a_lost_machine() -> None:
    async with scene("m1", "m2", engines=False) as cluster:
        engine, _ = cluster.add_engine()
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        await asyncio.sleep(10)
        cluster.kill_machine("m1")
        await cluster.until_rows("a.service@m1 leaving", "a.service@m2")
        await cluster.report_up("a.service", "m2")
        await cluster.until_rows("a.service@m2")
        await asyncio.sleep(1)
        assert engine.stats.removed_from_lost == 1
        assert engine.stats.done[TaskKind.PLACE] == 2


def test_tasks_that_were_not_written_are_counted_apart() -> None:
    tally = Tally()
    place = Task(kind=TaskKind.PLACE, reason="", machine="m1")
    remove = Task(kind=TaskKind.REMOVE, reason="", machine="m2")
    tally.did([place, place, remove], alive={MachineId("m1"), MachineId("m2")})
    tally.failed_pass([remove, place])
    assert tally.stats.done == {TaskKind.PLACE: 2, TaskKind.REMOVE: 1}
    assert tally.stats.failed == {TaskKind.PLACE: 1, TaskKind.REMOVE: 1}
    assert (tally.stats.failed_passes, tally.stats.removed_from_lost) == (1, 0)


async def test_engine_that_waits_has_no_start_of_leading() -> None:
    async with scene("m1", engines=False) as cluster:
        first, _ = cluster.add_engine("m1")
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        second, _ = cluster.add_engine("m2")
        await asyncio.sleep(5)
        assert first.is_leading
        assert second.stats == EngineStats()
        await first.stop()
        assert first.stats.leads_since_s is None
        assert first.stats.done[TaskKind.PLACE] == 1
