"""A store that was silent for a while is in no position to say who is gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from tests.unit.engine.scene import TTL_S, Scene, now_s, scene


async def stand_by(cluster: Scene, trouble_s: Callable[[], float | None]) -> None:
    """Have an engine lead that has stood by for long."""
    idle = await cluster.lead_idly()
    cluster.add_engine("m2", trouble_s=trouble_s)
    await asyncio.sleep(10 * TTL_S)
    await cluster.store.revoke(idle)


@contextlib.asynccontextmanager
async def machine_missed_while_nobody_led() -> AsyncIterator[Scene]:
    """m1 is gone with its unit, m2 is there, and no engine has seen it happen."""
    async with scene("m1", "m2", engines=False) as cluster:
        first, _ = cluster.add_engine("m1")
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        await first.stop()
        cluster.kill_machine("m1")
        await cluster.until(lambda seen: "m1" not in seen.machines)
        yield cluster


async def test_new_leader_whose_heartbeat_met_trouble_gives_up_nobody_at_once() -> None:
    async with machine_missed_while_nobody_led() as cluster:
        trouble_at_s = now_s() + 10 * TTL_S
        await stand_by(cluster, lambda: trouble_at_s)
        await asyncio.sleep(TTL_S - 1)
        assert await cluster.rows() == {"a.service@m1"}

        # Back in time, as machines are that only the store had lost.
        await cluster.add_machine("m1")
        await asyncio.sleep(3 * TTL_S)
        assert await cluster.rows() == {"a.service@m1"}


async def test_amnesty_after_trouble_ends() -> None:
    async with machine_missed_while_nobody_led() as cluster:
        trouble_at_s = now_s() + 10 * TTL_S
        await stand_by(cluster, lambda: trouble_at_s)

        await cluster.until_rows("a.service@m1 leaving", "a.service@m2", within_s=TTL_S + 1)


async def test_new_leader_without_late_trouble_gives_up_at_once_who_is_gone() -> None:
    async with machine_missed_while_nobody_led() as cluster:
        long_ago_s = now_s()
        await stand_by(cluster, lambda: long_ago_s)

        await cluster.until_rows("a.service@m1 leaving", "a.service@m2", within_s=1)
