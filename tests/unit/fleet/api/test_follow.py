"""Following units: told at once, told of changes, told nothing stale, and let go in the end."""

import asyncio

import pytest

from fleet.api.follow import JOIN_S, LINGER_S, Following
from fleet.api.reports import UnitReport
from fleet.cluster import Assignment, Refusal
from fleet.errors import Unavailable
from fleet.hold import Hold, encode_hold
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.pace import QUIET_S
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState, UnitState
from fleet.store.memory import MemoryStore
from fleet.store.port import Delete, Put
from fleet.unit import parse_unit

KEYS = Keys()
A, B = UnitName("a.service"), UnitName("b.service")
ONE = MachineId("1" * 32)
FILE = parse_unit("[Service]\nExecStart=/bin/true\n")
AGES_S = 1000.0


def a_registry() -> Registry:
    return Registry(MemoryStore(), KEYS)


async def store_units(registry: Registry, *names: UnitName) -> None:
    changes = [UnitChange(name=name, file=FILE, target=TargetState.LAUNCHED) for name in names]
    await registry.apply(changes, by="test")


async def assign(registry: Registry, unit: UnitName) -> None:
    row = Assignment(
        unit=unit, machine=ONE, hash=FILE.hash, file="f", target=TargetState.LAUNCHED, reason="why"
    )
    await registry.store.commit([], [registry.assignment_put(row)])


def named(reports: list[UnitReport]) -> list[str]:
    return [told.name for told in reports]


async def test_follower_is_told_at_once_and_then_of_changes() -> None:
    registry = a_registry()
    await store_units(registry, A)
    async with Following(registry).join(frozenset({A, B})) as follower:
        first = await follower.changes(AGES_S)
        assert [(told.name, told.exists) for told in first] == [(A, True), (B, False)]
        await assign(registry, A)
        (told,) = await follower.changes(AGES_S)
        assert (told.name, told.machine, told.assignments[0].reason) == (A, ONE, "why")
        await store_units(registry, B)
        assert named(await follower.changes(AGES_S)) == [B]
        await registry.destroy(A, by="test")
        (gone,) = await follower.changes(AGES_S)
        assert (gone.name, gone.exists) == (A, False)


async def test_follower_hears_nothing_of_other_units() -> None:
    registry = a_registry()
    await store_units(registry, A, B)
    async with Following(registry).join(frozenset({A})) as follower:
        await follower.changes(AGES_S)
        await assign(registry, B)
        assert await follower.changes(5) == []


async def test_follower_of_all_hears_of_units_that_come_and_go() -> None:
    registry = a_registry()
    await store_units(registry, A)
    async with Following(registry).join(None) as follower:
        assert named(await follower.changes(AGES_S)) == [A]
        await store_units(registry, B)
        assert named(await follower.changes(AGES_S)) == [B]


async def test_slow_follower_misses_steps_and_not_the_end() -> None:
    registry = a_registry()
    async with Following(registry).join(frozenset({A})) as follower:
        await follower.changes(AGES_S)
        lease = await registry.store.grant(AGES_S)
        for active in ("inactive", "activating", "active"):
            state = UnitState(
                unit=A,
                machine=ONE,
                hash="h",
                current=TargetState.LAUNCHED,
                load="loaded",
                active=active,
                sub="",
            )
            await registry.publish_states(ONE, {A: state}, lease)
        await asyncio.sleep(1)
        (told,) = await follower.changes(AGES_S)
        assert [state.active for state in told.states] == ["active"]


async def test_follower_learns_whether_an_engine_leads() -> None:
    registry = a_registry()
    await store_units(registry, A)
    async with Following(registry).join(frozenset({A})) as follower:
        (told,) = await follower.changes(AGES_S)
        assert told.leaderless
        leader = await registry.leadership.acquire(ONE, await registry.store.grant(AGES_S))
        assert leader is not None
        (told,) = await follower.changes(AGES_S)
        assert not told.leaderless
        await registry.store.commit([], [Delete(KEYS.engine)])
        (told,) = await follower.changes(AGES_S)
        assert told.leaderless


async def test_follower_learns_that_a_units_machine_is_held() -> None:
    registry = a_registry()
    await store_units(registry, A)
    await assign(registry, A)
    hold = Hold(machines=frozenset({ONE}), until_s=9.0, reason="it vanished")
    key = KEYS.hold
    async with Following(registry).join(frozenset({A})) as follower:
        (told,) = await follower.changes(AGES_S)
        assert told.hold == ""
        await registry.store.commit([], [Put(key, encode_hold(hold))])
        (told,) = await follower.changes(AGES_S)
        assert told.hold == "it vanished"
        await registry.release_hold(by="test")
        (told,) = await follower.changes(AGES_S)
        assert told.hold == ""


async def test_refusals_and_addresses_are_part_of_the_story() -> None:
    registry = a_registry()
    await store_units(registry, A)
    async with Following(registry).join(frozenset({A})) as follower:
        await follower.changes(AGES_S)
        refusal = Refusal(unit=A, reasons={ONE: "metadata"})
        await registry.store.commit([], [registry.refusal_put(refusal)])
        (told,) = await follower.changes(AGES_S)
        assert (told.refusals, told.addresses) == ({ONE: "metadata"}, {})
        lease = await registry.store.grant(AGES_S)
        await registry.register(Machine(id=ONE, address="10.0.0.1"), lease, over=0)
        (told,) = await follower.changes(AGES_S)
        assert told.addresses == {ONE: "10.0.0.1"}


async def test_newcomer_is_told_of_what_it_has_just_done() -> None:
    """A second follower shares a copy that may be behind, and must not hear of the past."""
    registry = a_registry()
    following = Following(registry)
    await store_units(registry, A)
    async with following.join(frozenset({A})) as first:
        await first.changes(AGES_S)
        for target in (TargetState.LOADED, TargetState.LAUNCHED) * 5:
            await registry.apply([UnitChange(name=A, target=target)], by="test")
            async with following.join(frozenset({A})) as second:
                (told,) = await second.changes(AGES_S)
                assert told.desired is target
        await registry.destroy(A, by="test")
        async with following.join(None) as third:
            assert not any(told.exists for told in await third.changes(1))


async def test_newcomer_costs_one_key_where_others_follow() -> None:
    read_of: list[tuple[str, ...]] = []

    class Told(MemoryStore):
        """Tells what was read."""

        async def read(self, *prefixes: str):  # type: ignore[no-untyped-def]
            read_of.append(prefixes)
            return await super().read(*prefixes)

    registry = Registry(Told(), KEYS)
    await store_units(registry, A, B)
    following = Following(registry)
    async with following.join(None):
        read_of.clear()
        async with following.join(None) as follower:
            assert len(await follower.changes(AGES_S)) == 2
    assert read_of == [(KEYS.latest_change,)]


async def test_copy_is_kept_while_somebody_follows_and_a_while_longer() -> None:
    registry = a_registry()
    store = registry.store
    assert isinstance(store, MemoryStore)
    following = Following(registry)
    async with following.join(frozenset({A})), following.join(frozenset({B})):
        await asyncio.sleep(0.1)
        assert (len(following), store.watchers) == (2, 1)
    await asyncio.sleep(LINGER_S / 2)
    assert (len(following), store.watchers) == (0, 1)
    async with following.join(frozenset({A})) as follower:
        assert named(await follower.changes(AGES_S)) == [A]
        await asyncio.sleep(2 * LINGER_S)
        assert store.watchers == 1
    await asyncio.sleep(2 * LINGER_S)
    assert (len(following), store.watchers) == (0, 0)
    async with following.join(frozenset({A})) as follower:
        assert named(await follower.changes(AGES_S)) == [A]


async def test_store_that_cannot_be_read_refuses_the_newcomer() -> None:
    registry = a_registry()
    store = registry.store
    assert isinstance(store, MemoryStore)
    store.fail_with(Unavailable("gone"))
    following = Following(registry)
    with pytest.raises(Unavailable, match="gone"):
        async with following.join(frozenset({A})):
            pass
    assert len(following) == 0


async def test_outage_loses_nothing_and_repeats_nothing() -> None:
    registry = a_registry()
    store = registry.store
    assert isinstance(store, MemoryStore)
    await store_units(registry, A, B)
    following = Following(registry)
    async with following.join(frozenset({A, B})) as follower:
        assert len(await follower.changes(AGES_S)) == 2
        other = Registry(store.connect(), KEYS)
        store.fail_with(Unavailable("gone"))
        assert await follower.changes(5) == []
        assert not following.is_current
        await assign(other, B)
        store.recover()
        assert named(await follower.changes(AGES_S)) == [B]
        assert following.is_current


async def test_compaction_is_waded_through() -> None:
    registry = a_registry()
    store = registry.store
    assert isinstance(store, MemoryStore)
    async with Following(registry).join(frozenset({A})) as follower:
        await follower.changes(AGES_S)
        store.fail_with(Unavailable("gone"))
        await asyncio.sleep(1)
        other = store.connect()
        await store_units(Registry(other, KEYS), A)
        other.compact()
        store.recover()
        assert [told.exists for told in await follower.changes(AGES_S)] == [True]


async def test_closing_sends_everybody_away() -> None:
    following = Following(a_registry())
    async with following.join(frozenset({A})) as follower:
        await follower.changes(AGES_S)
        await following.close(Unavailable("fleetd is stopping"))
        with pytest.raises(Unavailable, match="stopping"):
            await follower.changes(AGES_S)
    with pytest.raises(Unavailable, match="stopping"):
        async with following.join(frozenset({A})):
            pass


async def test_copy_that_never_arrives_is_given_up() -> None:
    class Stuck(MemoryStore):
        """Answers the first reader, and lets all others wait for ever."""

        async def read(self, *prefixes: str):  # type: ignore[no-untyped-def]
            if len(prefixes) > 1:
                await asyncio.Event().wait()
            return await super().read(*prefixes)

    begun_s = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable, match="have not arrived"):
        async with Following(Registry(Stuck(), KEYS)).join(frozenset({A})):
            pass
    assert asyncio.get_running_loop().time() - begun_s == pytest.approx(JOIN_S)


async def test_copy_that_failed_is_not_what_the_next_newcomer_gets() -> None:
    class Faulty(MemoryStore):
        """Fails in a way that nobody foresaw, when all is read for the first time."""

        faults = 1

        async def read(self, *prefixes: str):  # type: ignore[no-untyped-def]
            if len(prefixes) > 1 and self.faults:
                self.faults -= 1
                raise RuntimeError("a fault")
            return await super().read(*prefixes)

    following = Following(Registry(Faulty(), KEYS))
    with pytest.raises(Unavailable, match="have not arrived"):
        async with following.join(frozenset({A})):
            pass
    async with following.join(frozenset({A})) as follower:
        assert named(await follower.changes(AGES_S)) == [A]


async def test_storm_of_changes_is_told_in_its_outcome_and_a_few_changes_at_once() -> None:
    registry = a_registry()
    many = [UnitName(f"m{number}.service") for number in range(100)]
    await store_units(registry, *many)
    async with Following(registry).join(None) as follower:
        clock = asyncio.get_running_loop().time
        assert len(await follower.changes(AGES_S)) == len(many)
        before_s = clock()
        await assign(registry, many[0])
        await assign(registry, many[1])
        told = await follower.changes(AGES_S)
        assert named(told) == [many[0], many[1]]
        assert clock() - before_s == pytest.approx(QUIET_S)
        assert await follower.changes(1.0) == []
        before_s = clock()
        await assign(registry, many[2])
        assert named(await follower.changes(AGES_S)) == [many[2]]
        assert clock() == before_s
