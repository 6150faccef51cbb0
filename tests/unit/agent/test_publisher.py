"""Publishing states: at once, together, only what changed, and anew under a new lease."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.publisher import PAUSE_S, Publisher
from fleet.errors import Unavailable
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.states import TargetState, UnitState
from fleet.store.memory import MemoryStore
from fleet.store.port import Commit, Delete, Guard, LeaseId, Put

ME = MachineId("me")
KEYS = Keys()
STATE = UnitState(
    unit=UnitName("a.service"),
    machine=ME,
    hash="h",
    current=TargetState.LAUNCHED,
    load="loaded",
    active="active",
    sub="running",
)


class CountingRegistry(Registry):
    """A registry that remembers what was published."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store, KEYS)
        self.published: list[dict[UnitName, UnitState | None]] = []

    async def publish_states(
        self, machine: MachineId, states: Mapping[UnitName, UnitState | None], lease: LeaseId
    ) -> None:
        await super().publish_states(machine, states, lease)
        self.published.append(dict(states))


@dataclass
class Desk:
    """A publisher at work."""

    store: MemoryStore = field(default_factory=MemoryStore)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Publisher]:
        self.registry = CountingRegistry(self.store.connect())
        publisher = Publisher(self.registry, ME)
        task = asyncio.create_task(publisher.run())
        try:
            yield publisher
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def stored(self) -> set[str]:
        return {s.unit for s in (await Registry(self.store, KEYS).cluster()).states}


def state(name: str, **changes: str) -> UnitState:
    return replace(STATE, unit=UnitName(name), **changes)  # type: ignore[arg-type]


async def test_first_change_goes_out_at_once_and_the_next_together() -> None:
    desk = Desk()
    async with desk.open() as publisher:
        publisher.use_lease(await desk.store.grant(1000.0))
        publisher.put(state("a.service"))
        await asyncio.sleep(PAUSE_S / 2)
        assert [set(batch) for batch in desk.registry.published] == [{"a.service"}]

        for name in ("b.service", "c.service", "d.service"):
            publisher.put(state(name))
            await asyncio.sleep(PAUSE_S / 10)
        await asyncio.sleep(2 * PAUSE_S)
        assert [len(batch) for batch in desk.registry.published] == [1, 3]


async def test_state_that_did_not_change_is_not_written() -> None:
    desk = Desk()
    async with desk.open() as publisher:
        publisher.use_lease(await desk.store.grant(1000.0))
        for _ in range(5):
            publisher.put(state("a.service"))
            await asyncio.sleep(1)

        assert len(desk.registry.published) == 1


async def test_only_the_last_of_quick_changes_is_written() -> None:
    desk = Desk()
    async with desk.open() as publisher:
        publisher.use_lease(await desk.store.grant(1000.0))
        publisher.put(state("a.service"))
        await asyncio.sleep(PAUSE_S / 2)
        for active in ("deactivating", "inactive", "activating"):
            publisher.put(state("a.service", active=active))
        await asyncio.sleep(1)

        assert [batch[UnitName("a.service")] for batch in desk.registry.published] == [
            state("a.service"),
            state("a.service", active="activating"),
        ]


async def test_dropped_state_is_removed_and_no_other_machines() -> None:
    desk = Desk()
    lease = await desk.store.grant(1000.0)
    other = replace(STATE, machine=MachineId("other"))
    await Registry(desk.store, KEYS).publish_states(other.machine, {other.unit: other}, lease)
    async with desk.open() as publisher:
        publisher.use_lease(lease)
        publisher.put(STATE)
        await asyncio.sleep(1)
        publisher.drop(STATE.unit)
        await asyncio.sleep(1)

        assert (await Registry(desk.store, KEYS).cluster()).states == (other,)


async def test_without_a_lease_states_wait_for_one() -> None:
    desk = Desk()
    async with desk.open() as publisher:
        publisher.put(state("a.service"))
        await asyncio.sleep(10)
        assert await desk.stored() == set()

        publisher.use_lease(await desk.store.grant(1000.0))
        await asyncio.sleep(1)
        assert await desk.stored() == {"a.service"}


async def test_new_lease_has_everything_written_anew() -> None:
    desk = Desk()
    async with desk.open() as publisher:
        old = await desk.store.grant(1000.0)
        publisher.use_lease(old)
        for name in ("a.service", "b.service"):
            publisher.put(state(name))
        await asyncio.sleep(1)
        publisher.use_lease(await desk.store.grant(1000.0))
        await asyncio.sleep(1)
        await desk.store.revoke(old)

        assert await desk.stored() == {"a.service", "b.service"}


async def test_lost_lease_is_survived() -> None:
    desk = Desk()
    async with desk.open() as publisher:
        lease = await desk.store.grant(1000.0)
        publisher.use_lease(lease)
        await desk.store.revoke(lease)
        publisher.put(state("a.service"))
        await asyncio.sleep(10)
        publisher.use_lease(await desk.store.grant(1000.0))
        await asyncio.sleep(1)

        assert await desk.stored() == {"a.service"}


async def test_outage_is_waited_out_and_loses_nothing() -> None:
    desk = Desk()
    async with desk.open() as publisher:
        publisher.use_lease(await desk.store.grant(1000.0))
        store = desk.registry.store
        assert isinstance(store, MemoryStore)
        store.fail_with(Unavailable("away"))
        publisher.put(state("a.service"))
        publisher.put(state("b.service"))
        await asyncio.sleep(30)
        publisher.drop(UnitName("b.service"))
        store.recover()
        await asyncio.sleep(2)

        assert await desk.stored() == {"a.service"}


class GhostStore(MemoryStore):
    """A store that gives one request up, and carries it out when it is told to."""

    gives_up = False
    ghost: tuple[Sequence[Guard], Sequence[Put | Delete]] | None = None

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        if self.gives_up:
            self.gives_up = False
            self.ghost = (guards, operations)
            raise Unavailable("no answer in time")
        return await super().commit(guards, operations)


async def test_state_that_was_given_up_and_comes_late_does_not_stay() -> None:
    store = GhostStore()
    registry = Registry(store, KEYS)
    publisher = Publisher(registry, ME)
    task = asyncio.create_task(publisher.run())
    publisher.use_lease(await store.grant(3600.0))
    store.gives_up = True
    publisher.put(STATE)
    await asyncio.sleep(1)
    publisher.drop(STATE.unit)
    await asyncio.sleep(1)
    assert await registry.states() == ()

    assert store.ghost is not None
    await store.commit(*store.ghost)
    assert await registry.states() == (STATE,)
    await asyncio.sleep(60)

    assert await registry.states(ME) == ()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
