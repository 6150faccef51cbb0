"""Changes too large for one transaction: whole or not at all, whatever is cut off in between."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import pytest

from engine.losses import EngineMemory
from engine.plan import PlanSettings, plan
from engine.tasks import TaskKind
from fleet.api.follow import Following
from fleet.cluster import Cluster
from fleet.errors import Conflict, InvalidRequest, Unavailable
from fleet.events import read_events
from fleet.keys import Keys
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.snapshot import decode_cluster
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.store.port import MAX_VALUE_BYTES, Commit, Delete, Guard, LeaseId, Put, Snapshot
from fleet.transaction import UPLOAD_TTL_S, Upload, decode_list, encode_list
from fleet.unit import UnitFile, parse_unit

KEYS = Keys()
LAUNCHED, LOADED = TargetState.LAUNCHED, TargetState.LOADED
MANY = 130
_T = TypeVar("_T")


def unit(command: str) -> UnitFile:
    return parse_unit(f"[Service]\nExecStart={command}\n")


def name(number: int) -> UnitName:
    return UnitName(f"job@{number}.service")


def created(
    count: int = MANY, *, version: str = "old", target: TargetState = LOADED
) -> list[UnitChange]:
    return [
        UnitChange(name=name(n), file=unit(f"/bin/echo {version} {n}"), target=target)
        for n in range(count)
    ]


def mixed() -> list[UnitChange]:
    """New contents for a third of the units, a new state for another, and the rest destroyed."""
    renewed = created(MANY, version="new", target=LAUNCHED)
    return [
        change
        if n % 3 == 0
        else UnitChange(name=name(n), target=LAUNCHED)
        if n % 3 == 1
        else UnitChange(name=name(n), destroy=True)
        for n, change in enumerate(renewed)
    ]


def content(cluster: Cluster) -> dict[str, tuple[str, str]]:
    return {u: (record.hash, record.target.value) for u, record in cluster.units.items()}


class CutStore(MemoryStore):
    """Is cut off for good at its n-th operation: before that is done, or after it."""

    def __init__(self, like: MemoryStore, *, at: int, done: bool) -> None:
        super().__init__()
        self._data = like.connect()._data
        self.left = at
        self._done = done

    async def read(self, *prefixes: str) -> Snapshot:
        return await self._cut(lambda: super(CutStore, self).read(*prefixes))

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        return await self._cut(lambda: super(CutStore, self).commit(guards, operations))

    async def grant(self, ttl_s: float) -> LeaseId:
        return await self._cut(lambda: super(CutStore, self).grant(ttl_s))

    async def renew(self, lease: LeaseId) -> None:
        await self._cut(lambda: super(CutStore, self).renew(lease))

    async def _cut(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        self.left -= 1
        if self.left > 0:
            return await operation()
        if self.left == 0 and self._done:
            await operation()
        raise Unavailable("cut off")


async def seeded() -> tuple[MemoryStore, Registry]:
    store = MemoryStore()
    registry = Registry(store, KEYS)
    await registry.apply(created(), by="alice")
    return store, registry


async def drop_unnamed_files(registry: Registry) -> None:
    """What the leader's engine does with files that no unit names, on the store as it is now."""
    snapshot = await registry.store.read(KEYS.root)
    cluster = decode_cluster(KEYS, snapshot.entries.values(), snapshot.revision)
    made = plan(cluster, EngineMemory(), 0.0, PlanSettings(file_stay_s=0.0))
    for task in made.tasks:
        if task.kind is TaskKind.DROP_FILE:
            await registry.store.commit([], [Delete(KEYS.file(task.digest))])


@pytest.mark.parametrize(
    "done", [pytest.param(False, id="not done"), pytest.param(True, id="done")]
)
async def test_change_cut_off_at_any_operation_is_whole_or_not_made(done: bool) -> None:
    _, twin = await seeded()
    before = content(await twin.cluster())
    await twin.apply(mixed(), by="bob")
    after = content(await twin.cluster())
    seen: list[dict[str, tuple[str, str]]] = []
    for at in range(1, 100):
        store, registry = await seeded()
        cut = CutStore(store, at=at, done=done)
        try:
            await Registry(cut, KEYS).apply(mixed(), by="bob")
        except Unavailable:
            told = False
        else:
            told = True
        found = content(await registry.cluster())
        assert found in (before, after), f"half-made when cut off at operation {at}"
        assert not told or found == after, f"told to be made when cut off at operation {at}"
        seen.append(found)
        await drop_unnamed_files(registry)
        await registry.apply(mixed(), by="bob")
        cluster, files = await registry.cluster_with_files()
        assert content(cluster) == after
        assert {record.file for record in cluster.units.values()} <= files.keys()
        if cut.left > 0:
            break
    assert cut.left > 0, "the change never came to its end"
    assert before in seen
    assert seen.count(after) > 2  # one that is made is completed by others, wherever it stopped


async def test_events_of_a_large_change_are_told_once_whoever_completes_it() -> None:
    for at in range(1, 100):
        store, registry = await seeded()
        cut = CutStore(store, at=at, done=True)
        with suppress(Unavailable):
            await Registry(cut, KEYS).apply(mixed(), by="bob")
        await asyncio.gather(registry.cluster(), Registry(store.connect(), KEYS).cluster())
        entries = (await store.read(KEYS.events)).entries.values()
        told = [event for entry in entries for event in read_events(entry)]
        units = [event.unit for event in told if event.by == "bob"]
        assert len(units) == len(set(units))
        assert len(units) in (0, MANY)
        if cut.left > 0:
            return
    pytest.fail("the change never came to its end")


async def test_large_changes_at_the_same_moment_leave_the_units_of_one_of_them() -> None:
    store, registry = await seeded()
    others = [Registry(store.connect(), KEYS) for _ in range(3)]
    await asyncio.gather(
        *(
            other.apply(created(version=f"v{number}"), by="bob")
            for number, other in enumerate(others)
        )
    )
    hashes = {u: record.hash for u, record in (await registry.cluster()).units.items()}
    whole = [{c.name: c.file.hash for c in created(version=f"v{n}") if c.file} for n in range(3)]
    assert hashes in whole


async def test_reader_never_sees_a_change_half_made() -> None:
    store, registry = await seeded()
    reader = Registry(store.connect(), KEYS)
    states: list[set[str]] = []

    async def read() -> None:
        while True:
            states.append({r.target.value for r in (await reader.cluster()).units.values()})

    reading = asyncio.create_task(read())
    await registry.apply(created(target=LAUNCHED), by="bob")
    for _ in range(20):
        await asyncio.sleep(0)
    reading.cancel()
    assert {"loaded"} in states
    assert {"launched"} in states
    assert {"loaded", "launched"} not in states


async def test_small_change_completes_a_large_one_first() -> None:
    store, registry = await seeded()
    changes = created(version="new", target=LAUNCHED)
    at = await _operations(lambda other: other.apply(changes, by="bob"))
    cut = CutStore(store, at=at - 1, done=True)
    assert await Registry(cut, KEYS).apply(changes, by="bob")
    assert (await store.read(KEYS.pending_change)).entries
    assert await registry.apply([UnitChange(name=name(5), target=LOADED)], by="carol")
    cluster = await registry.cluster()
    assert cluster.units[name(5)].target is LOADED
    assert cluster.units[name(6)].target is LAUNCHED
    assert cluster.units[name(5)].hash == unit("/bin/echo new 5").hash


async def _operations(apply: Callable[[Registry], Awaitable[object]]) -> int:
    """How many operations of the store this takes on a cluster that `seeded` made."""
    store, _ = await seeded()
    cut = CutStore(store, at=1000, done=True)
    await apply(Registry(cut, KEYS))
    return 1000 - cut.left


async def test_large_change_gives_way_to_a_small_one_and_is_decided_on_anew() -> None:
    store, registry = await seeded()
    other = Registry(store.connect(), KEYS)
    stop = UnitChange(name=name(3), destroy=True)
    changes = [UnitChange(name=name(n), target=LAUNCHED) for n in range(MANY) if n not in (0, 3)]
    await asyncio.gather(
        registry.apply(changes, by="bob"),
        *(other.apply([change], by="carol") for change in (stop, *created(1, version="c"))),
    )
    cluster = await registry.cluster()
    assert name(3) not in cluster.units
    assert {r.target for u, r in cluster.units.items() if u != name(0)} == {LAUNCHED}


async def test_contents_written_ahead_are_spared_until_they_are_named() -> None:
    registry = Registry(MemoryStore(), KEYS)
    upload = Upload(registry.store, KEYS)
    assert await upload.add({KEYS.file("abc"): b"[Unit]\n"})
    assert not await upload.add({KEYS.file("abc"): b"[Unit]\n"})
    await drop_unnamed_files(registry)
    assert (await registry.files(["abc"])).keys() == {"abc"}
    await asyncio.sleep(UPLOAD_TTL_S + 1)
    await drop_unnamed_files(registry)
    assert await registry.files(["abc"]) == {}


class SlowStore(MemoryStore):
    """Takes four seconds for each transaction."""

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        await asyncio.sleep(4)
        return await super().commit(guards, operations)


async def test_contents_that_take_longer_than_they_are_spared_are_spared_till_the_end() -> None:
    registry = Registry(SlowStore(), KEYS)
    upload = Upload(registry.store, KEYS)
    began_s = asyncio.get_running_loop().time()
    contents = {KEYS.file(f"{n:05}"): b"[Unit]\n" for n in range(126 * 30)}
    await upload.add(contents)
    assert asyncio.get_running_loop().time() - began_s > UPLOAD_TTL_S + 1
    assert upload.lasts(await registry.transactions.settled())
    assert len((await registry.store.read(KEYS.files)).entries) == len(contents)


async def test_change_whose_contents_are_spared_no_longer_is_not_made() -> None:
    registry = Registry(MemoryStore(), KEYS)
    upload = Upload(registry.store, KEYS)
    await upload.add({KEYS.file("abc"): b"[Unit]\n"})
    await asyncio.sleep(UPLOAD_TTL_S + 1)
    put = Put(KEYS.unit(name(1)), b"{}")
    assert not await registry.transactions.commit_large(0, [put], upload)
    assert not upload.lasts(await registry.transactions.settled())


async def test_apply_at_a_revision_is_made_only_while_no_unit_has_changed() -> None:
    _, registry = await seeded()
    revision = (await registry.cluster()).latest_change
    change = UnitChange(name=name(1), target=LAUNCHED)
    await registry.apply([change], by="bob", at_revision=revision)
    with pytest.raises(Conflict, match=f"the units have changed since revision {revision}"):
        await registry.apply(created(target=LAUNCHED), by="carol", at_revision=revision)
    latest = (await registry.cluster()).latest_change
    assert latest > revision
    await registry.apply(created(target=LAUNCHED), by="carol", at_revision=latest)


async def test_list_that_cannot_be_read_is_dropped_and_keeps_nobody_from_changing_units() -> None:
    _, registry = await seeded()
    await registry.store.commit([], [Put(KEYS.pending_change, b"not a list")])
    await registry.apply([UnitChange(name=name(1), target=LAUNCHED)], by="bob")
    assert (await registry.cluster()).units[name(1)].target is LAUNCHED
    assert (await registry.store.read(KEYS.pending_change)).entries == {}


@pytest.mark.parametrize("count", [b"x", b"-1", b"99999", "²".encode()], ids=repr)
async def test_count_of_batches_that_cannot_be_is_as_good_as_none(count: bytes) -> None:
    _, registry = await seeded()
    operations = [Delete(KEYS.unit(name(n))) for n in range(MANY)]
    written = [
        Put(KEYS.pending_change, encode_list(operations, KEYS)),
        Put(KEYS.change_progress, count),
    ]
    await registry.store.commit([], written)
    assert (await registry.cluster()).units == {}
    assert (await registry.store.read(KEYS.change_progress)).entries == {}


def test_list_reads_back_as_it_was_written() -> None:
    put = Put(KEYS.unit(name(1)), '{"ü":1}'.encode())
    operations: list[Put | Delete] = [put, Delete(KEYS.unit(name(2)))]
    assert decode_list(encode_list(operations, KEYS), KEYS) == operations


@pytest.mark.parametrize(
    "value", [b"", b"x", encode_list([], KEYS)[:-3], encode_list([], KEYS)], ids=repr
)
def test_list_that_is_malformed_says_so(value: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_list(value, KEYS)


def test_list_that_fits_into_no_value_is_refused() -> None:
    digits = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(40_000))
    assert len(digits) > 2 * MAX_VALUE_BYTES  # and two digits are a byte at best
    with pytest.raises(InvalidRequest, match="make it in parts"):
        encode_list([Put(KEYS.unit(name(1)), digits.encode())], KEYS)


async def test_watch_tells_nothing_of_a_change_that_is_half_made() -> None:
    store, registry = await seeded()
    following = Following(Registry(store.connect(), KEYS))
    async with following.join(None) as follower:
        await follower.changes(1.0)
        operations = [Delete(KEYS.unit(name(n))) for n in range(MANY)]
        pending = Put(KEYS.pending_change, encode_list(operations, KEYS))
        await store.commit([], [pending, Delete(KEYS.unit(name(0)))])
        assert await follower.changes(1.0) == []
        await registry.transactions.settled()
        told = await follower.changes(1.0)
        assert {report.name for report in told if not report.exists} == {
            name(n) for n in range(MANY)
        }
    await following.close(Unavailable("the test is over"))
