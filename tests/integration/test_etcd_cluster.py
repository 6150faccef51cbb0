"""The etcd store over a real cluster of three whose members are killed, frozen and emptied."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest

from fleet.errors import Unavailable
from fleet.store.etcd import PROBE_S, EtcdStore
from fleet.store.port import Event, Guard, LeaseId, Put, Store
from fleet.testing.etcd import DEBIAN_ETCD, EtcdCluster, start_etcd

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(180)]

# Three servers at one second each, and room for a loaded machine.
ANSWER_S = 8
# An election takes etcd one to two seconds.
ELECTION_S = 15


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    directory = tmp_path_factory.mktemp("etcd")
    with start_etcd(directory, binary=DEBIAN_ETCD, members=3) as cluster:
        yield cluster


@pytest.fixture
def cluster(servers: EtcdCluster) -> Iterator[EtcdCluster]:
    """The three, all of them well at the start and at the end."""
    yield servers
    for index, member in enumerate(servers.members):
        servers.thaw(index)
        if member.process is None:
            servers.start(index)


@asynccontextmanager
async def connected(cluster: EtcdCluster, first: int = 0) -> AsyncIterator[EtcdStore]:
    """A store that begins with the member of that number."""
    urls = [*cluster.urls[first:], *cluster.urls[:first]]
    settings = cluster.settings
    store = EtcdStore(type(settings)(servers=urls))
    try:
        yield store
    finally:
        await store.close()


async def persist(act: Callable[[], Any], limit_s: float = ELECTION_S) -> Any:
    """What the act returns, once it is no longer Unavailable."""
    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            return await act()
        except Unavailable:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.1)


class Follower:
    """Collects the events of a watch, and whether it ever failed."""

    def __init__(self, store: Store, prefix: str, after: int) -> None:
        self.events: list[Event] = []
        self.failure: Unavailable | None = None
        self._task = asyncio.create_task(self._run(store, prefix, after))

    async def _run(self, store: Store, prefix: str, after: int) -> None:
        try:
            watch = cast(Any, store.watch(prefix, after))
            async with aclosing(watch):
                async for changes in watch:
                    self.events += changes.events
        except Unavailable as error:
            self.failure = error

    async def until(self, count: int, limit_s: float) -> float:
        """Seconds until so many events have come."""
        before_s = time.monotonic()
        while len(self.events) < count:
            assert self.failure is None
            assert time.monotonic() < before_s + limit_s, f"{len(self.events)} of {count} came"
            await asyncio.sleep(0.02)
        return time.monotonic() - before_s

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_killed_member_is_passed_over(cluster: EtcdCluster) -> None:
    follower = (cluster.leader() + 1) % 3
    async with connected(cluster, first=follower) as store:
        lease = await store.grant(30)
        await store.commit([], [Put("/k/a", b"1", lease)])
        cluster.kill(follower)
        before_s = time.monotonic()
        assert (await store.commit([], [Put("/k/b", b"2")])).succeeded
        await store.renew(lease)
        assert list((await store.read("/k/")).entries) == ["/k/a", "/k/b"]
        assert time.monotonic() - before_s < 2


async def test_member_without_a_quorum_is_unavailable_and_never_empty(cluster: EtcdCluster) -> None:
    async with connected(cluster) as store:
        lease = await store.grant(60)
        revision = (await store.commit([], [Put("/q/a", b"1")])).revision
        follower = Follower(store, "/q/", revision)
        cluster.kill(1)
        cluster.kill(2)
        for act in (
            lambda: store.read("/q/"),
            lambda: store.read(),
            lambda: store.commit([], [Put("/q/b", b"2")]),
            lambda: store.grant(60),
            lambda: store.renew(lease),
            lambda: store.revoke(lease),
            lambda: anext(store.watch("/q/", revision)),
        ):
            before_s = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                await cast(Any, act())
            assert time.monotonic() - before_s < ANSWER_S
            assert any(f"{url}: " in str(caught.value) for url in cluster.urls)
        deadline_s = time.monotonic() + 2 * ANSWER_S
        while follower.failure is None:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.05)
        cluster.start(1, 2)
        snapshot = await persist(lambda: store.read("/q/a"))
        assert snapshot.entries["/q/a"].value == b"1"
        await follower.close()


async def test_watch_goes_on_when_its_member_dies(cluster: EtcdCluster) -> None:
    chosen = (cluster.leader() + 1) % 3
    async with (
        connected(cluster, first=chosen) as store,
        connected(cluster, first=(chosen + 1) % 3) as writer,
    ):
        after = (await writer.commit([], [Put("/w/start", b"")])).revision
        follower = Follower(store, "/w/", after)
        for number in range(60):
            if number == 20:
                cluster.kill(chosen)
            await persist(partial(writer.commit, [], [Put(f"/w/{number:02}", b"")]))
        assert await follower.until(60, ANSWER_S) < ANSWER_S
        assert [event.key for event in follower.events] == [f"/w/{n:02}" for n in range(60)]
        await follower.close()


async def test_watch_goes_on_when_its_member_freezes(cluster: EtcdCluster) -> None:
    chosen = (cluster.leader() + 1) % 3
    async with (
        connected(cluster, first=chosen) as store,
        connected(cluster, first=(chosen + 1) % 3) as writer,
    ):
        after = (await writer.commit([], [Put("/f/start", b"")])).revision
        follower = Follower(store, "/f/", after)
        await writer.commit([], [Put("/f/0", b"")])
        await follower.until(1, ANSWER_S)
        cluster.freeze(chosen)
        await writer.commit([], [Put("/f/1", b"")])
        took_s = await follower.until(2, PROBE_S + ANSWER_S)
        assert took_s < PROBE_S + 1 + 2
        assert (await store.read("/f/")).entries.keys() == {"/f/start", "/f/0", "/f/1"}
        cluster.thaw(chosen)
        await writer.commit([], [Put("/f/2", b"")])
        await follower.until(3, ANSWER_S)
        assert [event.key for event in follower.events] == ["/f/0", "/f/1", "/f/2"]
        await follower.close()


async def test_frozen_leader_costs_no_acknowledged_write_and_no_lease(cluster: EtcdCluster) -> None:
    leader = cluster.leader()
    async with connected(cluster, first=leader) as store, connected(cluster, leader) as heart:
        lease = await heart.grant(6)
        after = (await store.commit([], [Put("/l/machine", b"", lease)])).revision
        follower = Follower(heart, "/l/", after)
        beating = asyncio.create_task(_beat(heart, lease))
        count = 0
        for number in range(150):
            if number == 30:
                cluster.freeze(leader)
            if number == 120:
                cluster.thaw(leader)
            count = await persist(lambda: _count_up(store))
        snapshot = await persist(lambda: store.read("/l/"))
        assert int(snapshot.entries["/l/count"].value) == count
        assert "/l/machine" in snapshot.entries
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await follower.until(count, ANSWER_S)
        values = [int(e.entry.value) for e in follower.events if e.entry and e.key == "/l/count"]
        assert values == list(range(1, count + 1))
        assert count >= 150
        await follower.close()


async def _count_up(store: Store) -> int:
    """Raise the counter by one, as a guarded change of whatever it is now."""
    while True:
        old = (await store.read("/l/count")).entries.get("/l/count")
        value = int(old.value) + 1 if old else 1
        guard = Guard("/l/count", modified=old.modified if old else 0)
        if (await store.commit([guard], [Put("/l/count", str(value).encode())])).succeeded:
            return value


async def _beat(store: Store, lease: LeaseId) -> None:
    while True:
        await asyncio.sleep(1)
        try:
            await store.renew(lease)
        except Unavailable:
            continue


async def test_cluster_that_was_emptied_does_not_look_like_an_empty_store(
    cluster: EtcdCluster,
) -> None:
    async with connected(cluster) as store:
        for number in range(30):
            await store.commit([], [Put(f"/e/{number}", b"")])
        cluster.stop()
        for member in cluster.members:
            shutil.rmtree(member.directory / "data")
        cluster.start()
        with pytest.raises(Unavailable, match=r"from the past .* restart fleetd"):
            await store.read("/e/")
    async with connected(cluster) as anew:
        assert dict((await persist(lambda: anew.read("/e/"))).entries) == {}
