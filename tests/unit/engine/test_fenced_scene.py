"""Fenced units with an engine on a store: who comes first, the claim or the removal, and when."""

import asyncio

import pytest

from engine.apply import decide
from engine.tasks import Task, TaskKind
from fleet.claims import Claims
from fleet.errors import Conflict
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.store.port import Put
from tests.unit.engine.scene import OUT, TTL_S, Scene, keys_of, now_s, scene

SOLO = UnitName("solo.service")
STOP_S = 10.0


async def row_revision(cluster: Scene, where: str) -> int:
    key = cluster.registry.keys.assignment(MachineId(where), SOLO)
    entry = (await cluster.store.read(key)).entries.get(key)
    return entry.modified if entry else 0


async def claim(cluster: Scene, where: str) -> None:
    """What the machine does before it starts the unit that has a row there."""
    claims = Claims(cluster.store, Keys(), MachineId(where))
    await claims.take(SOLO, await row_revision(cluster, where), {SOLO: STOP_S})


async def start(cluster: Scene, *options: str) -> str:
    """The unit is placed and claimed; the machine."""
    await cluster.start(SOLO, "Fenced=true", *options)
    placed = await cluster.until(lambda found: bool(found.schedule))
    where = placed.schedule[0].machine
    await claim(cluster, where)
    return where


async def test_lost_machines_unit_starts_elsewhere_after_lease_and_stop_time() -> None:
    async with scene("m1", "m2", "m3") as cluster:
        where = await start(cluster)
        cluster.kill_machine(where)
        killed_s = now_s()

        await cluster.until(lambda found: MachineId(where) not in found.machines)
        gone_s = now_s()
        moved = await cluster.until(lambda found: [r.machine for r in found.schedule] != [where])

        assert now_s() >= gone_s + STOP_S
        assert now_s() < killed_s + TTL_S + STOP_S + 2
        assert len(moved.schedule) == 1
        assert not [key for key in await keys_of(cluster) if "/claims/" in key]
        told = "".join(await cluster.events())
        assert "free on" in told
        assert "10 s after the machine was lost" in told


async def test_machine_that_left_with_its_units_stopped_keeps_nobody_waiting() -> None:
    async with scene("m1", "m2", "m3") as cluster:
        where = await start(cluster)
        await Claims(cluster.store, Keys(), MachineId(where)).release([SOLO])
        await cluster.leave_machine(where)

        await cluster.until(lambda found: [r.machine for r in found.schedule] != [where], 1.0)


async def test_move_waits_for_the_claim_to_be_given_back() -> None:
    async with scene("m1", "m2") as cluster:
        assert await start(cluster, "MachineID=m1") == "m1"
        await cluster.start(SOLO, "Fenced=true", "MachineID=m2")
        await cluster.until_rows()
        await asyncio.sleep(100)
        assert await cluster.rows() == set()

        await Claims(cluster.store, Keys(), MachineId("m1")).release([SOLO])
        await cluster.until_rows(f"{SOLO}@m2")


async def test_move_waits_for_the_last_word_of_the_unit_and_for_nothing_after_it() -> None:
    async with scene("m1", "m2") as cluster:
        assert await start(cluster, "MachineID=m1") == "m1"
        await cluster.report_up(SOLO, "m1")
        await cluster.start(SOLO, "Fenced=true", "MachineID=m2")
        await cluster.until_rows()
        await Claims(cluster.store, Keys(), MachineId("m1")).release([SOLO])
        await asyncio.sleep(10)
        assert await cluster.rows() == set()

        await cluster.report_gone(SOLO, "m1")
        await cluster.until_rows(f"{SOLO}@m2", within_s=1.0)


async def test_new_leader_counts_from_its_own_beginning() -> None:
    async with scene("m1", "m2", "m3", engines=False) as cluster:
        first, _ = cluster.add_engine("m2")
        where = await start(cluster)
        cluster.kill_machine(where)
        await cluster.until(lambda found: MachineId(where) not in found.machines)
        await asyncio.sleep(STOP_S - 1)
        await first.stop()
        cluster.add_engine("m3")
        began_s = now_s()

        await cluster.until(lambda found: [r.machine for r in found.schedule] != [where])

        assert now_s() >= began_s + STOP_S


async def test_outage_of_the_store_begins_the_time_anew() -> None:
    async with scene("m1", "m2", "m3", engines=False) as cluster:
        _, connection = cluster.add_engine("m2")
        where = await start(cluster)
        cluster.kill_machine(where)
        await cluster.until(lambda found: MachineId(where) not in found.machines)
        await asyncio.sleep(STOP_S - 1)
        connection.fail_with(OUT)
        await asyncio.sleep(1)
        connection.recover()
        back_s = now_s()

        await cluster.until(lambda found: [r.machine for r in found.schedule] != [where], 60.0)

        assert now_s() >= back_s + STOP_S


async def test_removal_fails_if_the_machine_has_claimed_meanwhile() -> None:
    async with scene("m1", "m2", engines=False) as cluster:
        cluster.add_engine()
        await cluster.start(SOLO, "Fenced=true", "MachineID=m1")
        found = await cluster.until(lambda found: bool(found.schedule))
        assert found.leader is not None
        (row,) = found.schedule
        removal = Task(
            kind=TaskKind.REMOVE,
            unit=SOLO,
            machine="m1",
            row=row,
            unit_revision=found.units[SOLO].revision,
            claim_revision=0,
            reason="for a test",
        )
        await claim(cluster, "m1")

        with pytest.raises(Conflict):
            await cluster.registry.leadership.commit(
                found.leader,
                [decide(removal, cluster.registry, found.leader)],
                since=found.latest_rows,
            )
        assert await cluster.rows() == {f"{SOLO}@m1"}


async def test_claim_fails_if_the_row_is_gone() -> None:
    async with scene("m1", "m2") as cluster:
        await cluster.start(SOLO, "Fenced=true", "MachineID=m1")
        await cluster.until_rows(f"{SOLO}@m1")
        seen = await row_revision(cluster, "m1")
        await cluster.start(SOLO, "Fenced=true", "MachineID=m2")
        await cluster.until_rows(f"{SOLO}@m2")

        with pytest.raises(Conflict):
            await Claims(cluster.store, Keys(), MachineId("m1")).take(SOLO, seen, {SOLO: STOP_S})


async def test_claim_that_cannot_be_read_stands() -> None:
    async with scene("m1", "m2", "m3") as cluster:
        where = await start(cluster)
        await cluster.store.commit(
            [], [Put(cluster.registry.keys.claim(MachineId(where), SOLO), b"\xff")]
        )
        cluster.kill_machine(where)
        await asyncio.sleep(1000)

        assert await cluster.rows() == {f"{SOLO}@{where}"}
