"""Any sequence of commits, leases and compactions, on every store, against a dict.

After each step every prefix reads as the dict has it, and every watch has told of each change once,
in order.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fleet.store.port import Compacted, Delete, Guard, LeaseId, LeaseLost, Put, Store
from fleet.store.sqlite import SqliteDatabase
from fleet.testing.etcd import EtcdCluster
from fleet.testing.loop import VirtualLoop
from tests.contract.places import EtcdPlace, MemoryPlace, Place, SqlitePlace

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3600)]

_T = TypeVar("_T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop] | None
WAIT_S = 15
TTL_S = 3600.0
KEYS = ("a", "b", "dir/a", "dir/b", "dirt")
PREFIXES = ("", "a", "dir/", "dir", "none")

keys = st.sampled_from(KEYS)
values = st.sampled_from((b"", b"1", b"\xff\x00"))
# 0 is that there is no such key; -1 that it is as the dict has it.
guards = st.dictionaries(keys, st.sampled_from((0, -1)), max_size=2)


@dataclass(frozen=True)
class Known:
    """An entry as the model has it."""

    value: bytes
    created: int
    modified: int
    lease: LeaseId | None


@dataclass
class Watcher:
    """A watch, what it has told, and what it has to tell."""

    prefix: str
    told: list[tuple[str, bytes | None]] = field(default_factory=list)
    due: list[tuple[str, bytes | None]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def follow(self, store: Store, after: int) -> None:
        async for changes in store.watch(self.prefix, after):
            self.told += [(e.key, e.entry.value if e.entry else None) for e in changes.events]


class StoreModel(RuleBasedStateMachine):
    """One store of one place, and the dict that says what it holds."""

    def __init__(self, place: Place, loop_factory: LoopFactory) -> None:
        super().__init__()
        self._runner = asyncio.Runner(loop_factory=loop_factory)
        self._place = place
        self._store = self._run(self._connect())
        self._held: dict[str, Known] = {}
        self._leases: list[LeaseId] = []
        self._ended: list[LeaseId] = []
        self._watchers: list[Watcher] = []
        self._revision = self._first = 0

    async def _connect(self) -> Store:
        return self._place.connect()

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        async def bounded() -> _T:
            async with asyncio.timeout(WAIT_S):
                return await coroutine

        return self._runner.run(bounded())

    def _key(self, key: str) -> str:
        return self._place.prefix + key

    @initialize()
    def look(self) -> None:
        self._revision = self._first = self._run(self._store.read()).revision

    # What is done to it

    @rule(
        puts=st.dictionaries(keys, values, max_size=3),
        deletes=st.sets(keys, max_size=2),
        guarded=guards,
        by_creation=st.booleans(),
        leased=st.booleans(),
    )
    def commit(
        self,
        puts: dict[str, bytes],
        deletes: set[str],
        guarded: dict[str, int],
        by_creation: bool,
        leased: bool,
    ) -> None:
        lease = self._leases[-1] if leased and self._leases else None
        conditions = [self._guard(key, wanted, by_creation) for key, wanted in guarded.items()]
        operations: list[Put | Delete] = [
            *(Put(self._key(key), value, lease) for key, value in puts.items()),
            *(Delete(self._key(key)) for key in deletes - puts.keys()),
        ]
        holds = all(
            wanted == -1 or self._key(key) not in self._held for key, wanted in guarded.items()
        )

        done = self._run(self._store.commit(conditions, operations))

        assert done.succeeded is holds
        if holds:
            self._apply(operations, done.revision)
        else:
            assert done.revision >= self._revision

    def _guard(self, key: str, wanted: int, by_creation: bool) -> Guard:
        known = self._held.get(self._key(key)) if wanted == -1 else None
        if by_creation:
            return Guard(self._key(key), created=known.created if known else 0)
        return Guard(self._key(key), modified=known.modified if known else 0)

    def _apply(self, operations: list[Put | Delete], revision: int) -> None:
        changed = False
        for operation in operations:
            key = operation.key
            if isinstance(operation, Put):
                created = self._held[key].created if key in self._held else revision
                self._held[key] = Known(operation.value, created, revision, operation.lease)
                self._tell(key, operation.value)
                changed = True
            elif self._held.pop(key, None):
                self._tell(key, None)
                changed = True
        assert revision > self._revision if changed else revision >= self._revision
        self._revision = revision

    def _tell(self, key: str, value: bytes | None) -> None:
        for watcher in self._watchers:
            if key.startswith(watcher.prefix):
                watcher.due.append((key, value))

    @rule()
    def grant(self) -> None:
        self._leases.append(self._run(self._store.grant(TTL_S)))

    @precondition(lambda self: bool(self._leases))
    @rule()
    def renew(self) -> None:
        self._run(self._store.renew(self._leases[0]))
        assert 0 < self._run(self._store.remaining(self._leases[0])) <= TTL_S + 1

    @precondition(lambda self: bool(self._leases))
    @rule()
    def revoke(self) -> None:
        lease = self._leases.pop()
        self._run(self._store.revoke(lease))
        self._ended.append(lease)
        held = sorted(key for key, known in self._held.items() if known.lease == lease)
        self._apply([Delete(key) for key in held], self._run(self._store.read()).revision)

    @precondition(lambda self: bool(self._ended))
    @rule(key=keys)
    def put_under_a_lease_that_has_ended(self, key: str) -> None:
        with pytest.raises(LeaseLost):
            self._run(self._store.commit([], [Put(self._key(key), b"", self._ended[-1])]))
        with pytest.raises(LeaseLost):
            self._run(self._store.renew(self._ended[-1]))

    @precondition(lambda self: len(self._watchers) < 4)
    @rule(prefix=st.sampled_from(PREFIXES))
    def watch(self, prefix: str) -> None:
        watcher = Watcher(self._key(prefix))

        async def begin() -> None:
            watcher.task = asyncio.create_task(watcher.follow(self._store, self._revision))
            await asyncio.sleep(0)

        self._run(begin())
        self._watchers.append(watcher)

    @rule()
    def compact(self) -> None:
        if self._revision <= self._first:
            return
        self._run(self._place.compact(self._revision))
        late = Watcher(self._key(""))
        with pytest.raises(Compacted):
            self._run(late.follow(self._store, self._first))
        self._first = self._revision

    # What holds after each

    @invariant()
    def everything_reads_as_it_is(self) -> None:
        asked = [self._key(prefix) for prefix in PREFIXES]
        for prefixes in (asked, *([prefix] for prefix in asked)):
            snapshot = self._run(self._store.read(*prefixes))
            assert snapshot.revision >= self._revision
            assert list(snapshot.entries) == sorted(snapshot.entries)
            assert {
                key: Known(e.value, e.created, e.modified, e.lease)
                for key, e in snapshot.entries.items()
            } == {k: known for k, known in self._held.items() if k.startswith(tuple(prefixes))}

    @invariant()
    def every_watch_has_told_of_every_change_once(self) -> None:
        async def told() -> None:
            while any(len(each.told) < len(each.due) for each in self._watchers):  # noqa: ASYNC110
                await asyncio.sleep(0.002)

        self._run(told())
        for watcher in self._watchers:
            assert Counter(watcher.told) == Counter(watcher.due)
            by_key = {key for key, _ in watcher.due}
            for key in by_key:
                assert [t for t in watcher.told if t[0] == key] == [
                    t for t in watcher.due if t[0] == key
                ]
            assert watcher.task is not None
            assert not watcher.task.done()

    def teardown(self) -> None:
        async def end() -> None:
            tasks = [each.task for each in self._watchers if each.task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for lease in self._leases:
                await self._store.revoke(lease)
            await self._store.close()

        self._run(end())
        self._runner.close()


def try_out(make: Callable[[], Place], loop_factory: LoopFactory, *, share: int) -> None:
    """Run the machine, with that share of the profile's examples."""

    class Tried(StoreModel):
        def __init__(self) -> None:
            super().__init__(make(), loop_factory)

    bounds = settings(max_examples=max(5, settings().max_examples // share), stateful_step_count=25)
    run_state_machine_as_test(Tried, settings=bounds)


def test_memory_is_as_the_model_says() -> None:
    try_out(MemoryPlace, VirtualLoop, share=2)


def test_sqlite_is_as_the_model_says(tmp_path: Path) -> None:
    databases: list[SqliteDatabase] = []

    def make() -> Place:
        for each in databases:
            each.close()
        number = next(count)
        databases[:] = [SqliteDatabase(tmp_path / f"{number}.db")]
        return SqlitePlace(databases[0])

    count = itertools.count()
    try:
        try_out(make, None, share=6)
    finally:
        for each in databases:
            each.close()


@pytest.mark.etcd
def test_etcd_is_as_the_model_says(etcd_3_4: EtcdCluster) -> None:
    try_out(lambda: EtcdPlace(etcd_3_4), None, share=6)
