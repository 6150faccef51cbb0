"""Decisions in transactions: as many in one as the store takes, and none lost."""

from collections.abc import Sequence

import pytest

from fleet.batch import Batch, Decision
from fleet.errors import Conflict
from fleet.events import Event, read_events
from fleet.keys import Keys
from fleet.names import UnitName
from fleet.store.memory import MemoryStore
from fleet.store.port import Commit, Delete, Guard, Put

KEYS = Keys()
FENCE = Guard(KEYS.engine, created=0)
MARK = Guard(KEYS.latest_rows, modified=0)


class CountingStore(MemoryStore):
    """Counts the transactions that it is asked for."""

    commits = 0

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        self.commits += 1
        return await super().commit(guards, operations)


def decision(number: int) -> Decision:
    """About one unit: a guard, a write, an event."""
    name = UnitName(f"u{number}.service")
    event = Event(at_s=1.0, by="test", unit=name, what="placed")
    guard = Guard(KEYS.unit(name), modified=0)
    return Decision([Put(KEYS.refusal(name), b"x")], [guard], [event])


async def add(batch: Batch, count: int) -> None:
    for number in range(count):
        await batch.add(decision(number))


@pytest.mark.parametrize(
    ("count", "commits"), [(1, 1), (100, 1), (101, 1), (125, 1), (126, 2), (1000, 8)]
)
async def test_decisions_fill_transactions_up_and_all_are_written_and_told(
    count: int, commits: int
) -> None:
    store = CountingStore()
    batch = Batch(store, KEYS, FENCE, MARK)
    await add(batch, count)
    await batch.flush()
    assert store.commits == commits
    assert len((await store.read(KEYS.refusals)).entries) == count
    entries = (await store.read(KEYS.events)).entries.values()
    assert len({event.unit for entry in entries for event in read_events(entry)}) == count
    (mark,) = (await store.read(KEYS.latest_rows)).entries.values()
    assert batch.revision == mark.modified


async def test_decision_that_somebody_came_before_is_not_written_and_none_after_it() -> None:
    store = MemoryStore()
    await store.commit([], [Put(KEYS.unit(UnitName("u200.service")), b"")])
    batch = Batch(store, KEYS, FENCE, MARK)
    with pytest.raises(Conflict, match="at the same moment"):
        await add(batch, 1000)
    assert len((await store.read(KEYS.refusals)).entries) == 125
