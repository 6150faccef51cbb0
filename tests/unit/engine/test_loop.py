"""The engine over a store, on a virtual clock: what is written, and what trouble changes."""

import asyncio
from collections.abc import Sequence

import pytest

from engine.loop import Engine, EngineSettings
from fleet.cluster import UnitRecord, encode_unit
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.store.port import Commit, Delete, Guard, Put
from fleet.transaction import encode_list
from tests.unit.engine.scene import OUT, TTL_S, keys_of, now_s, scene


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


async def test_machines_that_vanish_at_one_instant_keep_their_units_whenever_each_is_missed() -> (
    None
):
    async with scene("m1", "m2") as cluster:
        await asyncio.sleep(0.9)
        await cluster.add_machine("m3")
        await asyncio.sleep(0.9)
        await cluster.add_machine("m4")
        names = [f"a@{number}.service" for number in range(4)]
        for name in names:
            await cluster.start(name)
        await cluster.until(lambda c: len(c.schedule) == 4)
        await asyncio.sleep(10)
        before = await cluster.rows()
        cluster.kill_machine("m3", "m4")
        await cluster.until(lambda c: len(c.machines) == 3)
        await cluster.until(lambda c: len(c.machines) == 2)
        await asyncio.sleep(5)
        assert await cluster.rows() == before
        assert any("2 of 4 machines vanished" in event for event in await cluster.events())


async def test_a_new_unit_is_told_that_all_machines_have_vanished() -> None:
    async with scene("m1", "m2") as cluster:
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        cluster.kill_machine("m1", "m2")
        await cluster.until(lambda c: not c.machines)
        await cluster.start("b.service")
        seen = await cluster.until(lambda c: bool(c.refusals))
        assert seen.refusals[UnitName("b.service")].reasons == {
            "": "every machine of the cluster has vanished, and is waited for"
        }
        assert await cluster.rows() == {"a.service@m1"}


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
        assert (await cluster.store.read(cluster.registry.keys.files)).entries
        await asyncio.sleep(5)
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
        assert cluster.registry.keys.hold in await keys_of(cluster)
        await cluster.until_rows(
            "a.service@m1",
            "b.service@m2 leaving",
            "c.service@m3 leaving",
            "d.service@m4",
            "b.service@m1",
            "c.service@m4",
        )
        assert cluster.registry.keys.hold not in await keys_of(cluster)


async def test_an_operator_who_deletes_the_hold_ends_it() -> None:
    async with scene("m1", "m2", "m3") as cluster:
        for name in "abc":
            await cluster.start(f"{name}.service")
        await cluster.until_rows("a.service@m1", "b.service@m2", "c.service@m3")
        cluster.kill_machine("m2", "m3")
        await asyncio.sleep(10)
        key = cluster.registry.keys.hold
        assert key in await keys_of(cluster)
        await cluster.store.commit([], [Delete(key)])
        await cluster.until(lambda c: c.machine_of(UnitName("b.service")) == "m1", within_s=0.5)


async def test_a_release_counts_though_what_is_planned_then_is_void() -> None:
    async with scene("m1", "m2", "m3") as cluster:
        for name in "abc":
            await cluster.start(f"{name}.service")
        await cluster.until_rows("a.service@m1", "b.service@m2", "c.service@m3")
        cluster.kill_machine("m2", "m3")
        await asyncio.sleep(10)
        record = cluster.registry.keys.unit(UnitName("b.service"))
        value = (await cluster.store.read(record)).entries[record].value
        await cluster.registry.release_hold(by="alice")
        # Whatever the engine plans now, the record has changed when it writes.
        for _ in range(50):
            await cluster.store.commit([], [Put(record, value)])
        await cluster.until(lambda c: c.machine_of(UnitName("b.service")) == "m1", within_s=0.5)


async def test_machines_that_leave_together_on_purpose_are_given_up_at_once() -> None:
    async with scene("m1", "m2", "m3", "m4") as cluster:
        for name in "abcd":
            await cluster.start(f"{name}.service")
        await cluster.until(lambda c: len(c.schedule) == 4)
        await asyncio.sleep(10)
        await cluster.leave_machine("m3", "m4")
        await cluster.until(
            lambda c: (
                {c.machine_of(UnitName(f"{name}.service")) for name in "abcd"} == {"m1", "m2"}
            ),
            within_s=0.5,
        )
        assert not any("vanished" in event for event in await cluster.events())


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
        idle = await cluster.lead_idly()
        cluster.add_engine("m2")
        cluster.kill_machine("m1")
        await asyncio.sleep(20)
        await cluster.store.revoke(idle)
        await cluster.until_rows("a.service@m1 leaving", "a.service@m2", within_s=0.2)


async def test_an_engine_that_has_just_started_gives_a_missing_machine_one_lease() -> None:
    """As after a restart of fleetd everywhere, where one machine is the last to be back."""
    async with scene("m1", "m2", engines=False) as cluster:
        first, _ = cluster.add_engine("m2")
        await cluster.start("a.service")
        await cluster.until_rows("a.service@m1")
        await first.stop()
        cluster.kill_machine("m1")
        await asyncio.sleep(20)
        cluster.add_engine("m2")
        await asyncio.sleep(TTL_S - 1)
        assert await cluster.rows() == {"a.service@m1"}
        await cluster.until_rows("a.service@m1 leaving", "a.service@m2", within_s=1.5)


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


async def test_a_change_that_nobody_completes_is_completed_by_the_leader_and_then_planned_on() -> (
    None
):
    async with scene("m1") as cluster:
        await cluster.until(lambda c: c.leader is not None)
        keys = cluster.registry.keys
        record = UnitRecord(
            name=UnitName("a.service"), hash="h", file="f", target=TargetState.LAUNCHED
        )
        made = encode_list([Put(keys.unit(record.name), encode_unit(record))], keys)
        await cluster.store.commit([], [Put(keys.pending_change, made)])
        await asyncio.sleep(0.5)
        assert (await cluster.store.read(keys.pending_change)).entries  # its maker has a second
        assert not (await cluster.store.read(keys.schedule)).entries
        await asyncio.sleep(1)
        assert not (await cluster.store.read(keys.pending_change)).entries
        assert await cluster.rows() == {"a.service@m1"}


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


class Contested(MemoryStore):
    """Somebody else's write always comes just before one that is about the schedule."""

    def __init__(self, other: MemoryStore) -> None:
        super().__init__()
        self._data = other._data

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        if any("/schedule/" in operation.key for operation in operations):
            return Commit(succeeded=False, revision=0)
        return await super().commit(guards, operations)


async def test_conflicts_that_do_not_pass_are_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scene("m1", engines=False) as cluster:
        registry = Registry(Contested(cluster.store), Keys())
        engine = Engine(registry, machine=MachineId("m1"))
        running = asyncio.create_task(engine.run())
        await cluster.start("a.service")
        await asyncio.sleep(30)
        running.cancel()
        told = [r.message for r in caplog.records if "for the 20. time in a row" in r.message]
        assert len(told) == 1
        assert "place a.service on m1" in told[0]


async def test_the_slow_pass_forgets_old_events() -> None:
    async with scene("m1", engines=False) as cluster:
        settings = EngineSettings(events_kept=5, reconcile_interval_s=10)
        engine = Engine(cluster.registry, machine=MachineId("m1"), settings=settings)
        running = asyncio.create_task(engine.run())
        for number in range(20):
            await cluster.start(f"u{number}.service")
            await cluster.registry.destroy(UnitName(f"u{number}.service"), by="test")
        await asyncio.sleep(25)
        assert len(await cluster.events()) == 5
        await engine.stop()
        await running
