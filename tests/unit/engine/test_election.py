"""Who leads, on a virtual clock: never two that can write, and nobody for a short time only."""

import asyncio

import pytest

from engine.loop import Engine
from fleet.batch import Decision
from fleet.errors import Conflict
from fleet.machine import MachineId
from fleet.store.port import Put
from tests.unit.engine.scene import OUT, SETTINGS, now_s, scene


async def test_one_of_two_engines_leads_and_the_other_follows_at_once_when_it_resigns() -> None:
    async with scene("m1", engines=False) as cluster:
        first, _ = cluster.add_engine("m1")
        await asyncio.sleep(1)
        second, _ = cluster.add_engine("m2")
        await asyncio.sleep(30)
        assert (first.is_leading, second.is_leading) == (True, False)
        began_s = now_s()
        await first.stop()
        await cluster.until(lambda c: c.leader is not None and c.leader.machine == "m2")
        assert now_s() - began_s < 0.1


async def test_a_frozen_leader_is_succeeded_within_its_lease_and_cannot_write() -> None:
    async with scene("m1", engines=False) as cluster:
        first, connection = cluster.add_engine("m1")
        old = (await cluster.until(lambda c: c.leader is not None)).leader
        assert old is not None
        second, _ = cluster.add_engine("m2")
        await asyncio.sleep(5)
        connection.fail_with(OUT)
        began_s = now_s()
        await cluster.until(lambda c: c.leader is not None and c.leader.machine == "m2")
        assert now_s() - began_s <= SETTINGS.election.ttl_s
        assert not first.is_leading
        assert second.is_leading
        since = (await cluster.registry.cluster()).latest_rows
        with pytest.raises(Conflict):
            await cluster.registry.leadership.commit(
                old, [Decision([Put("/fleet/x", b"")])], since=since
            )


async def test_a_leader_stops_acting_before_its_lease_can_have_ended() -> None:
    async with scene("m1", engines=False) as cluster:
        engine, connection = cluster.add_engine("m1")
        await cluster.until(lambda c: c.leader is not None)
        await asyncio.sleep(5)
        connection.fail_with(OUT)
        seen = await cluster.until(lambda _: not engine.is_leading)
        assert seen.leader is not None


async def test_a_leader_whose_lease_is_ended_under_it_stands_again() -> None:
    async with scene("m1", engines=False) as cluster:
        engine, _ = cluster.add_engine("m1")
        before = (await cluster.until(lambda c: c.leader is not None)).leader
        key = cluster.registry.keys.engine
        lease = (await cluster.store.read(key)).entries[key].lease
        assert lease is not None
        await cluster.store.revoke(lease)
        await cluster.until(lambda c: c.leader is not None and c.leader != before, within_s=2)
        await asyncio.sleep(1)
        assert engine.is_leading


async def test_a_cancelled_engine_gives_its_key_back_and_leaves_nothing_running() -> None:
    async with scene("m1", engines=False) as cluster:
        engine = Engine(cluster.registry, machine=MachineId("m1"), settings=SETTINGS)
        running = asyncio.create_task(engine.run())
        await cluster.until(lambda c: c.leader is not None)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await cluster.registry.cluster()).leader is None
        assert not engine.is_leading
        assert cluster.store.watchers == 0


@pytest.mark.parametrize("steps", range(1, 40))
async def test_an_engine_that_is_stopped_while_it_is_elected_leaves_no_key_behind(
    steps: int,
) -> None:
    """At whichever step of its event loop: nobody could lead until the lease has ended."""
    async with scene("m1", engines=False) as cluster:
        engine = Engine(cluster.registry, machine=MachineId("m1"), settings=SETTINGS)
        running = asyncio.create_task(engine.run())
        for _ in range(steps):
            await asyncio.sleep(0)
        await engine.stop()
        await running
        assert (await cluster.registry.cluster()).leader is None


async def test_an_idle_follower_watches_one_key_and_writes_nothing() -> None:
    async with scene("m1", engines=False) as cluster:
        cluster.add_engine("m1")
        await asyncio.sleep(1)
        cluster.add_engine("m2")
        await asyncio.sleep(1)
        before = (await cluster.store.read("/")).revision
        await asyncio.sleep(100)
        assert (await cluster.store.read("/")).revision == before
