"""The engine over a store, on a virtual clock: who leads, what is written, what trouble changes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from engine.election import ElectionSettings
from engine.loop import Engine, EngineSettings
from engine.plan import PlanSettings
from engine.view import hold_key
from fleet.cluster import Cluster
from fleet.errors import Conflict, Unavailable
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState, UnitState
from fleet.store.memory import MemoryStore
from fleet.store.port import Delete, LeaseId, LeaseLost, Put
from fleet.unit import parse_unit
from tests.unit.engine.worlds import rows_of

TTL_S = 6.0
SETTINGS = EngineSettings(
    plan=PlanSettings(machine_ttl_s=TTL_S, mass_loss_hold_s=30.0),
    election=ElectionSettings(),
    reconcile_interval_s=60.0,
)
OUT = Unavailable("the store is out, for a test")


class Scene:
    """A store with machines, their heartbeats, and engines."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.registry = Registry(self.store, Keys())
        self._beats: dict[str, asyncio.Task[None]] = {}
        self._engines: list[asyncio.Task[None]] = []

    async def add_machine(self, name: str, **metadata: str) -> None:
        machine = Machine(id=MachineId(name), metadata=metadata)
        lease = await self.store.grant(TTL_S)
        entry = await self.registry.machine_entry(machine.id)
        assert await self.registry.register(machine, lease, over=entry.modified if entry else 0)
        self._beats[name] = asyncio.create_task(self._beat(machine, lease))

    async def _beat(self, machine: Machine, lease: LeaseId) -> None:
        while True:
            await asyncio.sleep(2.0)
            try:
                await self.store.renew(lease)
            except Unavailable:
                continue
            except LeaseLost:
                lease = await self.store.grant(TTL_S)
                await self.registry.register(machine, lease, over=0)

    def kill_machine(self, *names: str) -> None:
        for name in names:
            self._beats.pop(name).cancel()

    def add_engine(self, name: str = "m1") -> tuple[Engine, MemoryStore]:
        """An engine with a connection of its own, running."""
        connection = self.store.connect()
        engine = Engine(Registry(connection, Keys()), machine=MachineId(name), settings=SETTINGS)
        self._engines.append(asyncio.create_task(engine.run()))
        return engine, connection

    async def start(self, name: str, *options: str) -> None:
        text = "\n".join(["[Service]", "ExecStart=/bin/true", "[X-Fleet]", *options])
        change = UnitChange(name=UnitName(name), file=parse_unit(text), target=TargetState.LAUNCHED)
        await self.registry.apply([change], by="test")

    async def report_up(self, name: str, where: str) -> None:
        state = UnitState(
            unit=UnitName(name),
            machine=MachineId(where),
            hash="",
            current=TargetState.LAUNCHED,
            load="loaded",
            active="active",
            sub="running",
        )
        lease = await self.store.grant(3600)
        await self.registry.publish_states(state.machine, {state.unit: state}, lease)

    async def rows(self) -> set[str]:
        return rows_of(await self.registry.cluster())

    async def events(self) -> list[str]:
        entries = (await self.store.read(self.registry.keys.events)).entries
        return [entry.value.decode() for _, entry in sorted(entries.items())]

    async def until(self, holds: Callable[[Cluster], bool], within_s: float = 30.0) -> Cluster:
        """The cluster as soon as that holds; fails when it does not within the time."""
        async with asyncio.timeout(within_s):
            while True:
                cluster = await self.registry.cluster()
                if holds(cluster):
                    return cluster
                await asyncio.sleep(0.01)

    async def until_rows(self, *rows: str, within_s: float = 30.0) -> None:
        """Wait for exactly these rows, in any order."""
        wanted = set(rows)
        try:
            await self.until(lambda cluster: rows_of(cluster) == wanted, within_s)
        except TimeoutError:
            assert await self.rows() == wanted

    async def close(self) -> None:
        for task in (*self._beats.values(), *self._engines):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def scene(*machines: str, engines: bool = True) -> AsyncIterator[Scene]:
    made = Scene()
    try:
        for name in machines:
            await made.add_machine(name)
        if engines:
            made.add_engine()
        yield made
    finally:
        await made.close()


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_a_started_unit_is_placed_at_once() -> None:
    async with scene("m1", "m2") as cluster:
        await asyncio.sleep(10)
        began_s = now_s()
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        assert now_s() - began_s < 0.1
        assert any("place on m1" in event for event in await cluster.events())


async def test_a_unit_without_a_machine_is_refused_and_placed_when_one_comes() -> None:
    async with scene() as cluster:
        await cluster.start("a.service")
        seen = await cluster.until(lambda c: bool(c.refusals))
        refusal = seen.refusals[UnitName("a.service")]
        assert refusal.reasons == {"": "there are no machines in the cluster"}
        await cluster.add_machine("m1")
        await cluster.until_rows("a.service@m1")
        await cluster.until(lambda c: not c.refusals)


async def test_units_of_a_machine_whose_lease_ended_move_at_once() -> None:
    async with scene("m1", "m2") as cluster:
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        await asyncio.sleep(20)
        began_s = now_s()
        cluster.kill_machine("m1")
        await cluster.until_rows("a.service@m1 leaving", "a.service@m2", within_s=TTL_S + 0.1)
        assert now_s() - began_s > 2
        await cluster.report_up("a.service", "m2")
        await cluster.until_rows("a.service@m2", within_s=0.2)


async def test_a_returning_machine_gets_nothing_back() -> None:
    async with scene("m1", "m2") as cluster:
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        cluster.kill_machine("m1")
        await cluster.until_rows("a.service@m1 leaving", "a.service@m2")
        await cluster.add_machine("m1")
        await asyncio.sleep(5)
        assert await cluster.rows() == {"a.service@m1 leaving", "a.service@m2"}
        await cluster.report_up("a.service", "m2")
        await cluster.until_rows("a.service@m2")


async def test_files_that_no_unit_names_are_dropped() -> None:
    async with scene("m1") as cluster:
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        await cluster.registry.destroy(UnitName("a.service"), by="test")
        await cluster.until_rows()
        await asyncio.sleep(1)
        assert not (await cluster.store.read(cluster.registry.keys.files)).entries


async def test_a_store_outage_changes_nothing_and_is_followed_by_an_amnesty() -> None:
    async with scene("m1", "m2", engines=False) as cluster:
        _, connection = cluster.add_engine()
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        connection.fail_with(OUT)
        cluster.kill_machine("m1")
        await asyncio.sleep(60)
        assert await cluster.rows() == {"a.service@m1"}
        connection.recover()
        began_s = now_s()
        await asyncio.sleep(TTL_S - 1)
        assert await cluster.rows() == {"a.service@m1"}
        await cluster.until_rows("a.service@m1 leaving", "a.service@m2")
        assert now_s() - began_s < TTL_S + 1


async def test_a_machine_that_is_back_within_the_amnesty_keeps_its_units() -> None:
    async with scene("m1", "m2", engines=False) as cluster:
        _, connection = cluster.add_engine()
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        connection.fail_with(OUT)
        cluster.kill_machine("m1")
        await asyncio.sleep(20)
        connection.recover()
        await asyncio.sleep(TTL_S / 2)
        await cluster.add_machine("m1")
        await asyncio.sleep(20)
        assert await cluster.rows() == {"a.service@m1"}


async def test_a_short_break_of_the_connection_ends_no_term() -> None:
    async with scene("m1", engines=False) as cluster:
        engine, connection = cluster.add_engine()
        before = await cluster.until(lambda c: c.leader is not None)
        connection.fail_with(OUT)
        await asyncio.sleep(1.5)
        connection.recover()
        await asyncio.sleep(5)
        after = await cluster.registry.cluster()
        assert after.leader == before.leader
        assert engine.is_leading


async def test_units_started_while_the_leader_is_cut_off_are_placed_when_it_is_back() -> None:
    async with scene("m1", engines=False) as cluster:
        _, connection = cluster.add_engine()
        await cluster.until(lambda c: c.leader is not None)
        connection.fail_with(OUT)
        await cluster.start("a.service")
        await asyncio.sleep(30)
        assert await cluster.rows() == set()
        connection.recover()
        await cluster.until_rows("a.service@m1", within_s=1)


async def test_when_most_machines_vanish_the_brake_holds_their_units_and_then_lets_go() -> None:
    async with scene("m1", "m2", "m3", "m4") as cluster:
        for name in "abcd":
            await cluster.start(f"{name}.service")
        rows = {f"{name}.service@m{n}" for n, name in enumerate("abcd", 1)}
        await cluster.until_rows(*rows)
        cluster.kill_machine("m2", "m3")
        await asyncio.sleep(20)
        assert await cluster.rows() == rows
        told = [event for event in await cluster.events() if "hold" in event]
        assert len(told) == 1
        assert "2 of 4 machines vanished" in told[0]
        assert hold_key(cluster.registry.keys) in await keys_of(cluster)
        await cluster.until_rows(
            "a.service@m1",
            "b.service@m2 leaving",
            "c.service@m3 leaving",
            "d.service@m4",
            "b.service@m1",
            "c.service@m4",
        )
        assert hold_key(cluster.registry.keys) not in await keys_of(cluster)


async def test_an_operator_who_deletes_the_hold_ends_it() -> None:
    async with scene("m1", "m2", "m3") as cluster:
        for name in "abc":
            await cluster.start(f"{name}.service")
        await cluster.until_rows("a.service@m1", "b.service@m2", "c.service@m3")
        cluster.kill_machine("m2", "m3")
        await asyncio.sleep(10)
        key = hold_key(cluster.registry.keys)
        assert key in await keys_of(cluster)
        await cluster.store.commit([], [Delete(key)])
        await cluster.until(lambda c: c.machine_of(UnitName("b.service")) == "m1", within_s=0.5)


async def test_a_new_leader_goes_on_with_the_hold_it_finds() -> None:
    async with scene("m1", "m2", "m3", engines=False) as cluster:
        first, _ = cluster.add_engine("m1")
        for name in "abc":
            await cluster.start(f"{name}.service")
        rows = {"a.service@m1", "b.service@m2", "c.service@m3"}
        await cluster.until_rows(*rows)
        cluster.kill_machine("m2", "m3")
        await asyncio.sleep(10)
        cluster.add_engine("m1")
        await first.stop()
        await asyncio.sleep(5)
        assert await cluster.rows() == rows
        told = [event for event in await cluster.events() if "hold" in event]
        assert len(told) == 1


async def test_a_machine_that_is_missing_at_a_takeover_is_given_up_at_once() -> None:
    async with scene("m1", "m2", engines=False) as cluster:
        first, _ = cluster.add_engine("m1")
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        await first.stop()
        cluster.kill_machine("m1")
        await asyncio.sleep(20)
        cluster.add_engine("m2")
        await cluster.until_rows("a.service@m1 leaving", "a.service@m2", within_s=0.2)


async def test_a_change_between_look_and_write_makes_the_leader_look_again() -> None:
    async with scene("m1", "m2") as cluster:
        await cluster.until(lambda c: c.leader is not None)
        for number in range(40):
            await cluster.start(f"u{number}.service")
            if number % 3 == 0:
                await cluster.registry.destroy(UnitName(f"u{number}.service"), by="test")
        wanted = {f"u{number}.service" for number in range(40) if number % 3}
        await cluster.until(
            lambda c: {row.unit for row in c.schedule} == wanted and not c.refusals, within_s=5
        )


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        pytest.param("/fleet/units/a.service", "units/a.service", id="the unit's record"),
        pytest.param("/fleet/machines/m1", "machines/m1", id="its machine's registration"),
        pytest.param("/fleet/schedule/m1/a.service", "schedule/m1", id="the row itself"),
    ],
)
async def test_a_malformed_value_moves_no_unit_and_stops_nothing(
    key: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene("m1", "m2") as cluster:
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        lease = (await cluster.store.read(key)).entries[key].lease
        await cluster.store.commit([], [Put(key, b"{broken", lease)])
        await asyncio.sleep(1)
        await cluster.start("b.service")
        await cluster.until(lambda c: c.machine_of(UnitName("b.service")) is not None)
        rows = (await cluster.store.read(cluster.registry.keys.schedule)).entries
        assert {k for k in rows if "a.service" in k} == {"/fleet/schedule/m1/a.service"}
        assert sum(problem in record.message for record in caplog.records) == 1


async def test_the_slow_pass_forgets_old_events() -> None:
    async with scene("m1", engines=False) as cluster:
        settings = EngineSettings(events_kept=5, reconcile_interval_s=10)
        engine = Engine(cluster.registry, machine=MachineId("m1"), settings=settings)
        running = asyncio.create_task(engine.run())
        for number in range(20):
            await cluster.start(f"u{number}.service")
        await asyncio.sleep(25)
        assert len(await cluster.events()) == 5
        await engine.stop()
        await running


async def keys_of(cluster: Scene) -> set[str]:
    return set((await cluster.store.read(cluster.registry.keys.root)).entries)


# Who leads


async def test_one_of_two_engines_leads_and_the_other_follows_at_once_when_it_resigns() -> None:
    async with scene("m1", engines=False) as cluster:
        first, _ = cluster.add_engine("m1")
        await asyncio.sleep(1)
        second, _ = cluster.add_engine("m2")
        await asyncio.sleep(30)
        assert (first.is_leading, second.is_leading) == (True, False)
        began_s = now_s()
        await first.stop()
        await cluster.until(lambda c: c.leader is not None and c.leader.machine == "m2")
        assert now_s() - began_s < 0.1


async def test_a_frozen_leader_is_succeeded_within_its_lease_and_cannot_write() -> None:
    async with scene("m1", engines=False) as cluster:
        first, connection = cluster.add_engine("m1")
        old = (await cluster.until(lambda c: c.leader is not None)).leader
        assert old is not None
        second, _ = cluster.add_engine("m2")
        await asyncio.sleep(5)
        connection.fail_with(OUT)
        began_s = now_s()
        await cluster.until(lambda c: c.leader is not None and c.leader.machine == "m2")
        assert now_s() - began_s <= SETTINGS.election.ttl_s
        assert not first.is_leading
        assert second.is_leading
        with pytest.raises(Conflict):
            await cluster.registry.commit_as(old, [([], [Put("/fleet/x", b"")])])


async def test_a_leader_stops_acting_before_its_lease_can_have_ended() -> None:
    async with scene("m1", engines=False) as cluster:
        engine, connection = cluster.add_engine("m1")
        await cluster.until(lambda c: c.leader is not None)
        await asyncio.sleep(5)
        connection.fail_with(OUT)
        seen = await cluster.until(lambda _: not engine.is_leading)
        assert seen.leader is not None


async def test_a_leader_whose_lease_is_ended_under_it_stands_again() -> None:
    async with scene("m1", engines=False) as cluster:
        engine, _ = cluster.add_engine("m1")
        before = (await cluster.until(lambda c: c.leader is not None)).leader
        key = cluster.registry.keys.engine
        lease = (await cluster.store.read(key)).entries[key].lease
        assert lease is not None
        await cluster.store.revoke(lease)
        await cluster.until(lambda c: c.leader is not None and c.leader != before, within_s=2)
        await asyncio.sleep(1)
        assert engine.is_leading


async def test_a_cancelled_engine_gives_its_key_back_and_leaves_nothing_running() -> None:
    async with scene("m1", engines=False) as cluster:
        engine = Engine(cluster.registry, machine=MachineId("m1"), settings=SETTINGS)
        running = asyncio.create_task(engine.run())
        await cluster.until(lambda c: c.leader is not None)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await cluster.registry.cluster()).leader is None
        assert not engine.is_leading
        assert cluster.store.watchers == 0


async def test_an_idle_follower_watches_one_key_and_writes_nothing() -> None:
    async with scene("m1", engines=False) as cluster:
        cluster.add_engine("m1")
        await asyncio.sleep(1)
        cluster.add_engine("m2")
        await asyncio.sleep(1)
        before = (await cluster.store.read("/")).revision
        await asyncio.sleep(100)
        assert (await cluster.store.read("/")).revision == before
