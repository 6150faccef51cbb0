"""The mirror keeps a true copy, or says that it is an old one."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fleet.errors import Unavailable
from fleet.store.memory import MemoryStore
from fleet.store.mirror import RETRY_S, Mirror
from fleet.store.port import Changes, Delete, Put


@asynccontextmanager
async def running(mirror: Mirror) -> AsyncIterator[Mirror]:
    """The mirror at work, having read once or failed to."""
    task = asyncio.create_task(mirror.run())
    try:
        assert await mirror.wait(60)
        yield mirror
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def put(store: MemoryStore, **values: str) -> int:
    operations = [Put(f"/a/{name}", value.encode()) for name, value in values.items()]
    return (await store.commit([], operations)).revision


def shown(mirror: Mirror) -> dict[str, str]:
    return {key: entry.value.decode() for key, entry in mirror.entries.items()}


async def test_mirror_shows_what_was_there_and_what_comes() -> None:
    store = MemoryStore()
    await put(store, x="1", y="2")
    async with running(Mirror(store, "/a/")) as mirror:
        assert shown(mirror) == {"/a/x": "1", "/a/y": "2"}
        assert mirror.is_current
        revision = await put(store, x="3", z="4")
        assert await mirror.wait(1)
        assert shown(mirror) == {"/a/x": "3", "/a/y": "2", "/a/z": "4"}
        assert mirror.revision == revision
        await store.commit([], [Delete("/a/y")])
        assert await mirror.wait(1)
        assert "/a/y" not in mirror.entries


async def test_mirror_of_some_prefixes_passes_over_the_rest_of_what_it_watches() -> None:
    store = MemoryStore()
    async with running(Mirror(store, "/a/x", "/a/y", watch="/a/")) as mirror:
        await put(store, other="1")
        assert not await mirror.wait(1)
        await put(store, x="1", other="2")
        assert await mirror.wait(1)
        assert shown(mirror) == {"/a/x": "1"}


async def test_wait_tells_of_news_once() -> None:
    store = MemoryStore()
    async with running(Mirror(store, "/a/")) as mirror:
        assert not await mirror.wait(5)
        mirror.nudge()
        assert await mirror.wait(0)
        await put(store, x="1")
        await put(store, x="2")
        await asyncio.sleep(1)
        assert await mirror.wait(1)
        assert not await mirror.wait(1)
        assert shown(mirror) == {"/a/x": "2"}


async def test_outage_keeps_the_entries_and_says_that_they_are_old() -> None:
    store, other = (one := MemoryStore()), one.connect()
    await put(store, x="1")
    async with running(Mirror(store, "/a/")) as mirror:
        store.fail_with(Unavailable("cut off"))
        assert await mirror.wait(1)
        assert (mirror.is_current, mirror.outages) == (False, 1)
        await put(other, x="2")
        await asyncio.sleep(60)
        assert shown(mirror) == {"/a/x": "1"}
        assert mirror.outages == 1
        mirror.nudge()
        await mirror.wait()
        store.recover()
        assert await mirror.wait(2 * RETRY_S)
        assert mirror.is_current
        assert shown(mirror) == {"/a/x": "2"}
        assert mirror.outages == 1


async def test_each_loss_of_the_store_counts_as_an_outage() -> None:
    store = MemoryStore()
    async with running(Mirror(store, "/a/")) as mirror:
        for _ in range(3):
            store.fail_with(Unavailable("cut off"))
            await asyncio.sleep(5)
            store.recover()
            await asyncio.sleep(5)
            assert mirror.is_current
        assert mirror.outages == 3


async def test_store_that_is_gone_from_the_start_is_an_outage_and_not_empty() -> None:
    store = MemoryStore()
    await put(store, x="1")
    store.fail_with(Unavailable("not there yet"))
    async with running(Mirror(store, "/a/")) as mirror:
        assert (mirror.is_current, mirror.outages, mirror.revision) == (False, 1, 0)
        store.recover()
        assert await mirror.wait(2 * RETRY_S)
        assert shown(mirror) == {"/a/x": "1"}


async def test_outage_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    with caplog.at_level(logging.INFO, "fleet.store.mirror"):
        async with running(Mirror(store, "/a/")):
            store.fail_with(Unavailable("etcd does not answer: http://one: connection refused"))
            await asyncio.sleep(60)
            store.recover()
            await asyncio.sleep(5)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "http://one: connection refused" in caplog.text
    assert "nothing is changed" in caplog.text


class CompactingStore(MemoryStore):
    """Compacts all history each time just before it is watched, some times over."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        if self.times:
            self.times -= 1
            await put(self, x=f"{self.times} left")
            self.compact()
        async for changes in super().watch(prefix, after):
            yield changes


async def test_compaction_is_answered_by_reading_again_and_is_no_outage() -> None:
    store = CompactingStore(3)
    await put(store, x="1")
    async with running(Mirror(store, "/a/")) as mirror:
        await asyncio.sleep(1)
        assert shown(mirror) == {"/a/x": "0 left"}
        assert (mirror.is_current, mirror.outages) == (True, 0)


class ForgetfulStore(MemoryStore):
    """Its watches leave everything out."""

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        yield Changes(after, ())
        await asyncio.sleep(10)
        yield Changes((await self.read()).revision, ())
        await asyncio.Event().wait()


async def test_what_a_watch_left_out_is_found_by_reading_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = ForgetfulStore()
    async with running(Mirror(store, "/a/", resync_s=300)) as mirror:
        await put(store, x="1")
        assert not await mirror.wait(299)
        assert shown(mirror) == {}
        assert await mirror.wait(2)
        assert shown(mirror) == {"/a/x": "1"}
    assert "left out /a/x" in caplog.text


async def test_reading_again_without_a_difference_is_no_news() -> None:
    store = MemoryStore()
    await put(store, x="1")
    async with running(Mirror(store, "/a/", resync_s=10)) as mirror:
        assert not await mirror.wait(100)
        await put(store, x="2")
        assert await mirror.wait(1)
        assert store.watchers == 1


async def test_mirror_misses_nothing_while_it_reads_again_over_and_over() -> None:
    store = MemoryStore()
    writer = store.connect()
    async with running(Mirror(store, "/a/", resync_s=0.05)) as mirror:
        for number in range(500):
            await put(writer, x=str(number))
            await asyncio.sleep(0.007)
        await asyncio.sleep(0.1)
        assert shown(mirror) == {"/a/x": "499"}
    assert store.watchers == 0


async def test_mirror_tells_which_keys_changed_to_whoever_asks() -> None:
    store = MemoryStore()
    await put(store, x="1")
    async with running(Mirror(store, "/a/")) as mirror:
        assert mirror.take_changes() is None  # everything is new
        await put(store, y="2")
        await store.commit([], [Delete("/a/x")])
        while "/a/x" in mirror.entries:
            assert await mirror.wait(60)
        assert mirror.take_changes() == frozenset({"/a/x", "/a/y"})
        assert mirror.take_changes() == frozenset()


async def test_mirror_that_read_everything_again_does_not_know_which_keys_changed() -> None:
    store = MemoryStore()
    async with running(Mirror(store, "/a/", resync_s=10)) as mirror:
        mirror.take_changes()
        await put(store, x="1")
        await asyncio.sleep(15)
        assert mirror.take_changes() is None
