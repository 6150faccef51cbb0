"""What the store port promises, tried on every store there is.

`place` is where a store lives; `connect()` gives clients of it. Real ones share a server between
tests, so each test keeps below a prefix of its own and speaks of revisions relative to others.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from fleet.errors import Unavailable
from fleet.keys import Keys
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState
from fleet.store.port import (
    MAX_TXN_OPS,
    MAX_VALUE_BYTES,
    Changes,
    Compacted,
    Delete,
    Entry,
    Event,
    Guard,
    LeaseId,
    LeaseLost,
    Put,
    Store,
)
from fleet.store.sqlite import SqliteDatabase
from fleet.unit import parse_unit
from tests.contract.places import EtcdPlace, MemoryPlace, Place, SqlitePlace

# etcd lengthens shorter leases to this, which follows from its election timeout.
TTL_S = 2
WAIT_S = 15
NEVER = LeaseId("7587871545111223344")


@pytest.fixture(
    params=[
        "memory",
        pytest.param("sqlite", marks=pytest.mark.realtime),
        pytest.param("etcd_3_4", marks=pytest.mark.etcd),
        pytest.param("etcd_3_5", marks=pytest.mark.etcd),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        yield MemoryPlace()
    elif request.param == "sqlite":
        database = SqliteDatabase(tmp_path / "store.db")
        yield SqlitePlace(database)
        database.close()
    else:
        yield EtcdPlace(request.getfixturevalue(request.param))


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Store]:
    store = place.connect()
    try:
        yield store
    finally:
        await store.close()


def watching(store: Store, prefix: str, after: int) -> "aclosing[AsyncGenerator[Changes]]":
    """A watch that is closed where its block ends."""
    return aclosing(cast("AsyncGenerator[Changes]", store.watch(prefix, after)))


async def put(store: Store, *keys: str, value: bytes = b"x", lease: LeaseId | None = None) -> int:
    commit = await store.commit([], [Put(key, value, lease) for key in keys])
    assert commit.succeeded
    return commit.revision


async def entry_at(store: Store, key: str) -> Entry | None:
    return (await store.read(key)).entries.get(key)


async def collect(watch: AsyncIterator[Changes], events: int) -> list[Changes]:
    """The next changes of a watch, up to so many events, without the empty ones."""
    found: list[Changes] = []
    async with asyncio.timeout(WAIT_S):
        async for changes in watch:
            if changes.events:
                found.append(changes)
            if sum(len(each.events) for each in found) >= events:
                return found
    raise AssertionError(f"the watch ended after {found}")


def summary(found: Sequence[Changes]) -> list[tuple[str, bytes | None]]:
    return [
        (event.key, event.entry.value if event.entry else None)
        for changes in found
        for event in changes.events
    ]


# Reading and committing


async def test_read_of_nothing_is_empty_and_has_a_revision(place: Place) -> None:
    async with opened(place) as store:
        snapshot = await store.read(f"{place.prefix}nothing/")
        assert dict(snapshot.entries) == {}
        assert snapshot.revision >= 1


async def test_read_without_prefixes_gives_the_revision(place: Place) -> None:
    async with opened(place) as store:
        revision = await put(store, f"{place.prefix}a")
        snapshot = await store.read()
        assert (dict(snapshot.entries), snapshot.revision) == ({}, revision)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(range(256)), id="every byte"),
        pytest.param("größe\n".encode(), id="text"),
        pytest.param(b"v" * MAX_VALUE_BYTES, id="as large as may be"),
    ],
)
async def test_read_returns_the_bytes_that_were_put(place: Place, value: bytes) -> None:
    async with opened(place) as store:
        revision = await put(store, f"{place.prefix}a", value=value)
        assert await entry_at(store, f"{place.prefix}a") == Entry(
            key=f"{place.prefix}a", value=value, created=revision, modified=revision
        )


async def test_read_of_a_prefix_takes_any_leading_text(place: Place) -> None:
    async with opened(place) as store:
        p = place.prefix
        await put(store, f"{p}web", f"{p}web/1", f"{p}web2", f"{p}we", f"{p}wec", f"{p}weé")
        assert list((await store.read(f"{p}web")).entries) == [f"{p}web", f"{p}web/1", f"{p}web2"]
        assert f"{p}weé" in (await store.read("")).entries


async def test_read_orders_by_key_and_merges_overlapping_prefixes(place: Place) -> None:
    async with opened(place) as store:
        p = place.prefix
        await put(store, f"{p}b/1", f"{p}a/2", f"{p}c", f"{p}a/1")
        snapshot = await store.read(f"{p}b/", f"{p}a/1", f"{p}a/")
        assert list(snapshot.entries) == [f"{p}a/1", f"{p}a/2", f"{p}b/1"]


async def test_read_of_hundreds_of_prefixes_is_one_answer(place: Place) -> None:
    async with opened(place) as store:
        keys = [f"{place.prefix}k{number:03d}" for number in range(300)]
        for start in range(0, 300, 100):
            await put(store, *keys[start : start + 100])
        assert list((await store.read(*keys)).entries) == keys


async def test_read_of_thousands_of_keys_is_complete(place: Place) -> None:
    async with opened(place) as store:
        keys = [f"{place.prefix}{number:05d}" for number in range(3000)]
        for start in range(0, 3000, MAX_TXN_OPS):
            await put(store, *keys[start : start + MAX_TXN_OPS], value=b"v" * 100)
        assert list((await store.read(place.prefix)).entries) == keys


async def test_read_of_several_prefixes_is_of_one_revision_under_writes(place: Place) -> None:
    async with opened(place) as store, opened(place) as writer:
        p = place.prefix
        many = [f"{p}{side}/{number:04d}" for side in "ab" for number in range(600)]
        for start in range(0, 1200, 100):
            await put(store, *many[start : start + 100], value=b"0")
        writing = asyncio.create_task(_write_both_sides(writer, p))
        for _ in range(15):
            snapshot = await store.read(f"{p}a/", f"{p}b/")
            values = {entry.value for key, entry in snapshot.entries.items() if "/0599" in key}
            values |= {entry.value for key, entry in snapshot.entries.items() if "/0000" in key}
            assert len(values) == 1
            assert len(snapshot.entries) == 1200
            assert max(entry.modified for entry in snapshot.entries.values()) <= snapshot.revision
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def _write_both_sides(store: Store, prefix: str) -> None:
    keys = [f"{prefix}{side}/{number}" for side in "ab" for number in ("0000", "0599")]
    for number in itertools.count(1):
        await put(store, *keys, value=str(number).encode())


async def test_commit_counts_one_revision_however_many_keys(place: Place) -> None:
    async with opened(place) as store:
        first = await put(store, f"{place.prefix}a", f"{place.prefix}b")
        second = await put(store, f"{place.prefix}a", f"{place.prefix}c")
        assert second == first + 1
        entry = await entry_at(store, f"{place.prefix}a")
        assert entry is not None
        assert (entry.created, entry.modified) == (first, second)


async def test_commit_that_changes_nothing_keeps_the_revision(place: Place) -> None:
    async with opened(place) as store:
        revision = await put(store, f"{place.prefix}a")
        commit = await store.commit([], [Delete(f"{place.prefix}nothing")])
        assert (commit.succeeded, commit.revision) == (True, revision)
        commit = await store.commit([Guard(f"{place.prefix}a", created=revision)], [])
        assert (commit.succeeded, commit.revision) == (True, revision)


async def test_delete_and_put_again_gives_a_new_created_revision(place: Place) -> None:
    async with opened(place) as store:
        key = f"{place.prefix}a"
        first = await put(store, key)
        commit = await store.commit([], [Delete(key)])
        assert commit == type(commit)(True, first + 1)
        assert await entry_at(store, key) is None
        third = await put(store, key)
        entry = await entry_at(store, key)
        assert entry is not None
        assert (entry.created, entry.modified) == (third, third)


# Guards


@pytest.mark.parametrize(
    ("kind", "offset", "holds"),
    [
        pytest.param("created", 0, True, id="created then"),
        pytest.param("created", 1, False, id="created at another revision"),
        pytest.param("created", None, False, id="not created, though it is"),
        pytest.param("modified", 1, True, id="modified then"),
        pytest.param("modified", 0, False, id="modified again since"),
        pytest.param("modified", None, False, id="absent, though it is there"),
    ],
)
async def test_guard_compares_the_revision_of_a_key(
    place: Place, kind: str, offset: int | None, holds: bool
) -> None:
    async with opened(place) as store:
        key = f"{place.prefix}a"
        created = await put(store, key)
        latest = await put(store, key)
        revision = 0 if offset is None else created + offset
        guard = Guard(key, **{kind: revision})
        commit = await store.commit([guard], [Put(key, b"new")])
        assert commit.succeeded is holds
        assert commit.revision == latest + (1 if holds else 0)
        entry = await entry_at(store, key)
        assert entry is not None
        assert entry.value == (b"new" if holds else b"x")


@pytest.mark.parametrize("kind", ["created", "modified"])
async def test_guard_of_zero_means_absent(place: Place, kind: str) -> None:
    async with opened(place) as store:
        key = f"{place.prefix}a"
        guard = Guard(key, **{kind: 0})
        assert (await store.commit([guard], [Put(key, b"1")])).succeeded
        assert not (await store.commit([guard], [Put(key, b"2")])).succeeded
        await store.commit([], [Delete(key)])
        assert (await store.commit([guard], [Put(key, b"3")])).succeeded


async def test_one_failing_guard_stops_every_operation(place: Place) -> None:
    async with opened(place) as store:
        p = place.prefix
        revision = await put(store, f"{p}a")
        guards = [Guard(f"{p}a", modified=revision), Guard(f"{p}b", modified=revision)]
        commit = await store.commit(guards, [Put(f"{p}c", b""), Delete(f"{p}a")])
        assert not commit.succeeded
        assert list((await store.read(p)).entries) == [f"{p}a"]


async def test_only_one_of_many_that_race_for_a_key_gets_it(place: Place) -> None:
    async with opened(place) as one, opened(place) as other:
        guard = Guard(f"{place.prefix}leader", created=0)
        commits = await asyncio.gather(
            *(
                store.commit([guard], [Put(f"{place.prefix}leader", str(number).encode())])
                for number in range(10)
                for store in (one, other)
            )
        )
        assert sum(commit.succeeded for commit in commits) == 1


# Limits


async def test_transaction_takes_as_many_operations_and_guards_as_promised(place: Place) -> None:
    async with opened(place) as store:
        keys = [f"{place.prefix}{number}" for number in range(MAX_TXN_OPS)]
        guards = [Guard(key, created=0) for key in keys]
        assert (await store.commit(guards, [Put(key, b"") for key in keys])).succeeded


@pytest.mark.parametrize(
    ("guards", "operations"),
    [
        pytest.param(
            [], [Put(f"/t/{n}", b"") for n in range(MAX_TXN_OPS + 1)], id="too many operations"
        ),
        pytest.param(
            [Guard(f"/t/{n}", created=0) for n in range(MAX_TXN_OPS + 1)],
            [Put("/t/a", b"")],
            id="too many guards",
        ),
        pytest.param([], [Put("/t/a", b""), Delete("/t/a")], id="a key twice"),
        pytest.param(
            [],
            [Put("/t/a", b"v" * MAX_VALUE_BYTES), Put("/t/b", b"v")],
            id="values too large together",
        ),
    ],
)
async def test_commit_refuses_what_no_store_takes(
    place: Place, guards: list[Guard], operations: list[Put | Delete]
) -> None:
    async with opened(place) as store:
        before = (await store.read()).revision
        with pytest.raises(ValueError, match="transaction"):
            await store.commit(guards, operations)
        assert (await store.read()).revision == before


# Leases


async def test_lease_that_is_not_renewed_deletes_its_keys_as_one_commit(place: Place) -> None:
    async with opened(place) as store, opened(place) as other:
        p = place.prefix
        kept = await put(store, f"{p}kept")
        lease = await store.grant(TTL_S)
        await put(store, f"{p}a", f"{p}b", lease=lease)
        entry = await entry_at(store, f"{p}a")
        assert entry is not None
        assert entry.lease == lease
        async with watching(other, p, kept + 1) as watch:
            found = await collect(watch, 2)
        assert len(found) == 1
        assert sorted(summary(found)) == [(f"{p}a", None), (f"{p}b", None)]
        assert list((await store.read(p)).entries) == [f"{p}kept"]
        with pytest.raises(LeaseLost):
            await store.renew(lease)


async def test_lease_lives_as_long_as_it_is_renewed(place: Place) -> None:
    async with opened(place) as store:
        lease = await store.grant(TTL_S)
        await put(store, f"{place.prefix}a", lease=lease)
        for _ in range(5):
            await asyncio.sleep(TTL_S / 2)
            await store.renew(lease)
        assert await entry_at(store, f"{place.prefix}a") is not None


async def test_time_that_remains_of_a_lease_is_told(place: Place) -> None:
    async with opened(place) as store:
        lease = await store.grant(60)
        # Where there are whole seconds only, they may be a moment short of the sixtieth.
        assert 58 <= await store.remaining(lease) <= 60
        await asyncio.sleep(1.5)
        assert 56 <= await store.remaining(lease) <= 58.5
        await store.renew(lease)
        assert 58 <= await store.remaining(lease) <= 60
        await store.revoke(lease)
        assert await store.remaining(lease) == 0
        assert await store.remaining(NEVER) == 0


async def test_revoke_deletes_the_keys_at_once_and_may_be_repeated(place: Place) -> None:
    async with opened(place) as store:
        lease = await store.grant(60)
        revision = await put(store, f"{place.prefix}a", f"{place.prefix}b", lease=lease)
        await store.revoke(lease)
        snapshot = await store.read(place.prefix)
        assert (dict(snapshot.entries), snapshot.revision) == ({}, revision + 1)
        await store.revoke(lease)
        await store.revoke(NEVER)


async def test_renew_of_a_lease_that_never_was_says_so(place: Place) -> None:
    async with opened(place) as store:
        with pytest.raises(LeaseLost):
            await store.renew(NEVER)


async def test_put_under_a_lost_lease_writes_nothing(place: Place) -> None:
    async with opened(place) as store:
        lease = await store.grant(60)
        await store.revoke(lease)
        with pytest.raises(LeaseLost):
            await store.commit([], [Put(f"{place.prefix}a", b""), Put("/b", b"", lease)])
        assert dict((await store.read(place.prefix)).entries) == {}


async def test_failing_guard_comes_before_a_lost_lease(place: Place) -> None:
    async with opened(place) as store:
        guard = Guard(f"{place.prefix}a", created=7)
        commit = await store.commit([guard], [Put(f"{place.prefix}a", b"", NEVER)])
        assert not commit.succeeded


async def test_put_without_a_lease_takes_the_key_from_its_lease(place: Place) -> None:
    async with opened(place) as store:
        p = place.prefix
        lease, other = await store.grant(60), await store.grant(60)
        await put(store, f"{p}free", f"{p}moved", f"{p}bound", lease=lease)
        await put(store, f"{p}free")
        await put(store, f"{p}moved", lease=other)
        await store.revoke(lease)
        assert list((await store.read(p)).entries) == [f"{p}free", f"{p}moved"]
        entry = await entry_at(store, f"{p}free")
        assert entry is not None
        assert entry.lease is None
        await store.revoke(other)
        assert list((await store.read(p)).entries) == [f"{p}free"]


async def test_key_deleted_and_put_again_is_not_of_its_old_lease(place: Place) -> None:
    async with opened(place) as store:
        key = f"{place.prefix}a"
        lease = await store.grant(60)
        await put(store, key, lease=lease)
        await store.commit([], [Delete(key)])
        await put(store, key)
        await store.revoke(lease)
        assert await entry_at(store, key) is not None


async def test_lease_is_renewed_and_revoked_by_other_clients_too(place: Place) -> None:
    async with opened(place) as one, opened(place) as other:
        lease = await one.grant(60)
        await put(other, f"{place.prefix}a", lease=lease)
        await other.renew(lease)
        await other.revoke(lease)
        assert await entry_at(one, f"{place.prefix}a") is None
        with pytest.raises(LeaseLost):
            await one.renew(lease)


# Watches


async def test_watch_delivers_each_commit_whole_and_in_order(place: Place) -> None:
    async with opened(place) as store, opened(place) as other:
        p = place.prefix
        start = await put(store, f"{p}before")
        async with watching(store, p, start) as watch:
            waiting = asyncio.create_task(collect(watch, 5))
            await asyncio.sleep(0.05)
            one = await put(other, f"{p}a", f"{p}b", value=b"1")
            await put(other, "/elsewhere" + p)
            three = (await other.commit([], [Put(f"{p}a", b"2"), Delete(f"{p}b")])).revision
            four = await put(other, f"{p}c", value=b"")
            found = await waiting
        assert [changes.revision for changes in found] == [one, three, four]
        assert sorted(summary(found[:1])) == [(f"{p}a", b"1"), (f"{p}b", b"1")]
        assert sorted(summary(found[1:2])) == [(f"{p}a", b"2"), (f"{p}b", None)]
        assert found[2].events == (
            Event(f"{p}c", Entry(key=f"{p}c", value=b"", created=four, modified=four)),
        )


async def test_watch_starts_in_the_past_after_the_revision_given(place: Place) -> None:
    async with opened(place) as store:
        p = place.prefix
        revisions = [await put(store, f"{p}{number}") for number in range(5)]
        async with watching(store, p, revisions[1]) as watch:
            found = await collect(watch, 3)
        assert [changes.revision for changes in found] == revisions[2:]


async def test_watch_catches_up_with_thousands_of_changes(place: Place) -> None:
    async with opened(place) as store:
        p = place.prefix
        start = (await store.read()).revision
        keys = [f"{p}{number:04d}" for number in range(2000)]
        for at in range(0, 2000, 100):
            await put(store, *keys[at : at + 100], value=b"v" * 200)
        async with watching(store, p, start) as watch:
            found = await collect(watch, 2000)
        assert [event.key for changes in found for event in changes.events] == keys
        assert [len(changes.events) for changes in found] == [100] * 20


async def test_watch_replays_a_snapshot_into_the_next_one(place: Place) -> None:
    async with opened(place) as store, opened(place) as writer:
        p = place.prefix
        before = await store.read(p)
        for number in range(40):
            lease = await writer.grant(60) if number % 10 == 0 else None
            await put(writer, f"{p}{number % 7}", value=str(number).encode(), lease=lease)
            if number % 3 == 0:
                await writer.commit([], [Delete(f"{p}{(number + 2) % 7}")])
            if lease and number % 20 == 0:
                await writer.revoke(lease)
        after = await store.read(p)
        copy = dict(before.entries)
        last = await put(writer, f"{p}end")
        async with watching(store, p, before.revision) as watch, asyncio.timeout(WAIT_S):
            async for changes in watch:
                if changes.revision == last:
                    break
                for event in changes.events:
                    copy.pop(event.key, None)
                    if event.entry is not None:
                        copy[event.key] = event.entry
        assert copy == dict(after.entries)


async def test_watch_of_a_compacted_revision_says_so(place: Place) -> None:
    async with opened(place) as store:
        revisions = [await put(store, f"{place.prefix}a") for _ in range(4)]
        await place.compact(revisions[2])
        for after in (revisions[0], revisions[1]):
            async with watching(store, place.prefix, after) as watch:
                with pytest.raises(Compacted):
                    await collect(watch, 1)
        async with watching(store, place.prefix, revisions[2]) as watch:
            assert [changes.revision for changes in await collect(watch, 1)] == revisions[3:]


async def test_watch_of_a_revision_still_to_come_says_that_it_is_not_there(place: Place) -> None:
    async with opened(place) as store:
        revision = await put(store, f"{place.prefix}a")
        async with watching(store, place.prefix, revision + 1000) as watch:
            with pytest.raises(Compacted):
                await collect(watch, 1)


async def test_watch_that_is_up_to_date_outlives_compaction(place: Place) -> None:
    async with opened(place) as store:
        p = place.prefix
        start = await put(store, f"{p}a")
        async with watching(store, f"{p}quiet/", start) as watch:
            waiting = asyncio.create_task(collect(watch, 1))
            await asyncio.sleep(0.3)
            for _ in range(5):
                revision = await put(store, f"{p}a")
            await asyncio.sleep(0.3)
            await place.compact(revision)
            last = await put(store, f"{p}quiet/now")
            assert [changes.revision for changes in await waiting] == [last]


async def test_several_watches_of_one_store_each_get_everything(place: Place) -> None:
    async with opened(place) as store:
        p = place.prefix
        start = (await store.read()).revision
        tasks = [asyncio.create_task(_first_events(store, p, start, 20)) for _ in range(4)]
        for number in range(20):
            await put(store, f"{p}{number:02d}")
        answers = await asyncio.gather(*tasks)
        assert answers == [[(f"{p}{number:02d}", b"x") for number in range(20)]] * 4


async def _first_events(
    store: Store, prefix: str, after: int, count: int
) -> list[tuple[str, bytes | None]]:
    async with watching(store, prefix, after) as watch:
        return summary(await collect(watch, count))


async def test_cancelled_watch_leaves_nothing_behind(place: Place) -> None:
    async with opened(place) as store:
        start = await put(store, f"{place.prefix}a")
        before = asyncio.all_tasks()
        for _ in range(20):
            task = asyncio.create_task(_first_events(store, place.prefix, start, 1))
            await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert asyncio.all_tasks() == before
        assert await entry_at(store, f"{place.prefix}a") is not None


async def test_closed_store_answers_unavailable_and_ends_its_watches(place: Place) -> None:
    store = place.connect()
    start = await put(store, f"{place.prefix}a")
    drained = asyncio.create_task(_drain(store, place.prefix, start))
    await asyncio.sleep(0.1)
    await store.close()
    async with asyncio.timeout(WAIT_S):
        await drained
    with pytest.raises(Unavailable):
        await store.read(place.prefix)
    await store.close()


async def _drain(store: Store, prefix: str, after: int) -> None:
    async with watching(store, prefix, after) as watch:
        async for _ in watch:
            pass


async def test_reads_that_nobody_waits_for_any_more_do_the_store_no_harm(place: Place) -> None:
    keys = [f"{place.prefix}{number}" for number in range(MAX_TXN_OPS)]
    async with opened(place) as store:
        await put(store, *keys, value=b"v" * 1000)
        for number in range(150):
            reading = asyncio.create_task(store.read(place.prefix))
            await asyncio.sleep(number % 30 / 5000)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        assert set((await store.read(place.prefix)).entries) == set(keys)


async def test_change_of_five_hundred_units_is_one_that_no_reader_sees_half_made(
    place: Place,
) -> None:
    keys = Keys(place.prefix)
    names = [UnitName(f"job@{number}.service") for number in range(500)]
    files = [parse_unit(f"[Service]\nExecStart=/bin/echo {n}\n") for n in names]
    stored = [UnitChange(name=n, file=f) for n, f in zip(names, files, strict=True)]
    launched = [UnitChange(name=name, target=TargetState.LAUNCHED) for name in names]
    async with opened(place) as store, opened(place) as other:
        registry, reader = Registry(store, keys), Registry(other, keys)
        seen: list[set[TargetState]] = []

        async def read() -> None:
            while True:
                records = (await reader.cluster()).units.values()
                seen.append({record.target for record in records})
                await asyncio.sleep(0)

        reading = asyncio.create_task(read())
        await registry.apply(stored, by="alice")
        await registry.apply(launched, by="alice")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        cluster, contents = await reader.cluster_with_files()
        assert {record.target for record in cluster.units.values()} == {TargetState.LAUNCHED}
        assert {record.file for record in cluster.units.values()} == contents.keys()
        assert len(contents) == 500
        assert all(len(targets) <= 1 for targets in seen)
