"""What the fake can do beyond the port, for tests to hurt it."""

import asyncio

import pytest

from fleet.errors import Unavailable
from fleet.store.memory import MemoryStore
from fleet.store.port import LeaseLost, Put


async def test_failing_store_raises_from_every_method_until_it_recovers() -> None:
    store = MemoryStore()
    lease = await store.grant(60)
    store.fail_with(Unavailable("no quorum"))
    for call in (
        store.read("/"),
        store.commit([], []),
        store.grant(1),
        store.renew(lease),
        store.revoke(lease),
        anext(store.watch("/", 1)),
    ):
        with pytest.raises(Unavailable, match="no quorum"):
            await call
    store.recover()
    await store.renew(lease)


async def test_failing_store_ends_its_open_watches() -> None:
    store = MemoryStore()
    waiting = asyncio.ensure_future(anext(store.watch("/", 1)))
    await asyncio.sleep(1)
    store.fail_with(Unavailable("no quorum"))
    with pytest.raises(Unavailable, match="no quorum"):
        await waiting
    assert store.watchers == 0


async def test_one_of_several_stores_fails_by_itself_and_leases_run_on() -> None:
    store = MemoryStore()
    other = store.connect()
    lease = await store.grant(6)
    await store.commit([], [Put("/a", b"", lease)])
    store.fail_with(Unavailable("unplugged"))
    assert list((await other.read("/")).entries) == ["/a"]
    await asyncio.sleep(7)
    assert list((await other.read("/")).entries) == []
    store.recover()
    with pytest.raises(LeaseLost):
        await store.renew(lease)


async def test_leases_end_by_the_clock_of_the_loop_to_the_moment() -> None:
    store = MemoryStore()
    lease = await store.grant(6)
    await store.commit([], [Put("/a", b"", lease)])
    watch = store.watch("/", 2)
    assert (await anext(watch)).events[0].entry is None
    assert asyncio.get_running_loop().time() == pytest.approx(6)


async def test_a_clock_of_ones_own_may_be_given() -> None:
    now = [100.0]
    store = MemoryStore(clock=lambda: now[0])
    lease = await store.grant(6)
    await store.commit([], [Put("/a", b"", lease)])
    now[0] += 5.9
    assert (await store.read("/")).entries
    now[0] += 0.2
    assert not (await store.read("/")).entries
