"""The machine's membership: registration, renewal, succession, duplicates, and a busy main loop."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.heartbeat import CHECK_ROUNDS, DEPARTURE_S, GRACE_S, Heartbeat, Membership
from fleet.errors import Unavailable
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.registry import Registry
from fleet.store.memory import MemoryStore
from fleet.store.port import Delete, Guard, LeaseId, LeaseLost, Put
from fleet.store.sqlite import SqliteDatabase, SqliteStore

KEYS = Keys()
TTL_S = 6.0
ME = Machine(id=MachineId("m" * 32), address="10.0.0.1", boot_id="boot-1")
SELF_ENTRY = KEYS.machine(ME.id)


@dataclass
class Member:
    """A membership under test, its store, and the sessions it told of."""

    store: MemoryStore
    machine: Machine = ME
    sessions: list[LeaseId | None] = field(default_factory=list)
    membership: Membership | None = None

    @property
    def problem(self) -> str:
        assert self.membership is not None
        return self.membership.problem

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Member"]:
        self.membership = Membership(
            self.store, KEYS, lambda: self.machine, ttl_s=TTL_S, session=self.sessions.append
        )
        task = asyncio.create_task(self.membership.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def registered(self) -> Machine | None:
        cluster = await Registry(self.store.connect(), KEYS).cluster()
        return cluster.machines.get(ME.id)


async def until(holds: Callable[[], bool], *, within_s: float = 60.0) -> None:
    deadline_s = now_s() + within_s
    while not holds():
        assert now_s() < deadline_s
        await asyncio.sleep(0.05)


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_machine_is_registered_at_once_and_stays(tmp_path: Path) -> None:
    async with Member(MemoryStore()).running() as member:
        await until(lambda: bool(member.sessions), within_s=0.2)
        assert member.problem == ""
        await asyncio.sleep(100 * TTL_S)

        assert await member.registered() == ME
        assert len(member.sessions) == 1


async def test_earlier_run_of_the_same_boot_is_superseded_at_once() -> None:
    store = MemoryStore()
    async with Member(store).running() as first:
        await until(lambda: bool(first.sessions))
    moved = replace(ME, address="10.0.0.99")
    async with Member(store, machine=moved).running() as second:
        await until(lambda: bool(second.sessions), within_s=0.2)
        await asyncio.sleep(3 * TTL_S)

        assert await second.registered() == moved
        assert len(second.sessions) == 1


async def test_rebooted_machine_of_the_same_address_is_superseded_at_once() -> None:
    store = MemoryStore()
    async with Member(store).running() as first:
        await until(lambda: bool(first.sessions))
    async with Member(store, machine=replace(ME, boot_id="boot-2")).running() as second:
        await until(lambda: bool(second.sessions), within_s=0.2)


async def test_other_registration_is_waited_out() -> None:
    store = MemoryStore()
    stranger = replace(ME, boot_id="boot-2", address="10.0.0.2")
    async with Member(store, machine=stranger).running() as first:
        await until(lambda: bool(first.sessions))
    async with Member(store).running() as second:
        await asyncio.sleep(TTL_S / 2)
        assert second.sessions == []
        await until(lambda: bool(second.sessions), within_s=TTL_S)

        assert second.problem == ""
        assert await second.registered() == ME


async def test_duplicate_machine_id_is_said_with_both_addresses_until_mended() -> None:
    store = MemoryStore()
    stranger = replace(ME, boot_id="boot-2", address="10.0.0.2")
    async with Member(store.connect()).running() as second:
        async with Member(store.connect(), machine=stranger).running() as first:
            await until(lambda: bool(first.sessions) or bool(second.sessions))
            winner, loser = (first, second) if first.sessions else (second, first)
            await asyncio.sleep(TTL_S + GRACE_S + 2)
            assert "in use twice" in loser.problem
            assert "10.0.0.1" in loser.problem
            assert "10.0.0.2" in loser.problem
            await asyncio.sleep(10 * TTL_S)

            assert loser.sessions == []
            assert len(winner.sessions) == 1
            assert winner.problem == ""
        if winner is first:
            await until(lambda: bool(second.sessions), within_s=2 * TTL_S)


async def test_machines_without_addresses_are_not_taken_for_each_other() -> None:
    store = MemoryStore()
    nameless = replace(ME, address="", boot_id="")
    async with Member(store.connect(), machine=nameless).running() as first:
        await until(lambda: bool(first.sessions))
        async with Member(store.connect(), machine=nameless).running() as second:
            await asyncio.sleep(2 * TTL_S)
            assert second.sessions == []


async def test_short_outage_does_not_cost_the_lease() -> None:
    async with Member(MemoryStore()).running() as member:
        await until(lambda: bool(member.sessions))
        member.store.fail_with(Unavailable("the store is away"))
        await asyncio.sleep(TTL_S / 2)
        member.store.recover()
        await asyncio.sleep(TTL_S)

        assert len(member.sessions) == 1
        assert member.problem == ""


async def test_lost_lease_is_replaced_and_the_machine_registered_again() -> None:
    async with Member(MemoryStore()).running() as member:
        await until(lambda: bool(member.sessions))
        member.store.fail_with(Unavailable("the store is away"))
        await asyncio.sleep(5 * TTL_S)
        assert "cannot be renewed" in member.problem
        member.store.recover()
        await until(lambda: len(member.sessions) == 3, within_s=TTL_S)

        first, none, second = member.sessions
        assert none is None
        assert second not in (None, first)
        assert await member.registered() == ME


async def test_registration_that_vanished_under_a_live_lease_is_put_back() -> None:
    async with Member(MemoryStore()).running() as member:
        await until(lambda: bool(member.sessions))
        await member.store.connect().commit([], [Delete(SELF_ENTRY)])
        await asyncio.sleep(CHECK_ROUNDS * TTL_S / 2)

        assert await member.registered() == ME
        assert len(member.sessions) == 1


async def test_changed_machine_registers_anew_at_once() -> None:
    async with Member(MemoryStore()).running() as member:
        await until(lambda: bool(member.sessions))
        member.machine = replace(ME, metadata={"disk": "ssd"}, address="10.0.0.7")
        assert member.membership is not None
        member.membership.refresh()
        await asyncio.sleep(0.2)

        assert await member.registered() == member.machine
        assert len(member.sessions) == 1


async def test_malformed_registration_is_written_over() -> None:
    store = MemoryStore()
    lease = await store.grant(1000.0)
    await Registry(store, KEYS).register(ME, lease, over=0)
    entry = (await store.read(SELF_ENTRY)).entries[SELF_ENTRY]
    async with Member(store, machine=replace(ME, boot_id="b", address="x")).running() as member:
        await asyncio.sleep(1)
        assert member.sessions == []
    await store.commit([Guard(SELF_ENTRY, modified=entry.modified)], [Put(SELF_ENTRY, b"[", None)])
    async with Member(store).running() as member:
        await until(lambda: bool(member.sessions), within_s=0.2)


@pytest.mark.parametrize("revoke", [True, False])
async def test_leaving_gives_up_the_lease_or_lets_it_lapse(revoke: bool) -> None:
    async with Member(MemoryStore()).running() as member:
        await until(lambda: bool(member.sessions))
        await asyncio.sleep(TTL_S / 4)
        assert member.membership is not None
        await member.membership.leave(revoke=revoke)
        lease = member.sessions[0]
        assert lease is not None
        departures = (await member.store.read(KEYS.departures)).entries
        assert (KEYS.departure(ME.id) in departures) is revoke
        if revoke:
            assert await member.registered() is None
            with pytest.raises(LeaseLost):
                await member.store.renew(lease)
        else:
            assert await member.registered() == ME


async def test_departure_is_over_when_the_machine_is_back_and_soon_anyhow() -> None:
    store = MemoryStore()
    for back in (True, False):
        async with Member(store).running() as member:
            await until(lambda: bool(member.sessions))
            assert (await store.read(KEYS.departures)).entries == {}
            assert member.membership is not None
            await member.membership.leave(revoke=True)
        assert (await store.read(KEYS.departures)).entries
        await asyncio.sleep(1 if back else DEPARTURE_S + 1)
    assert (await store.read(KEYS.departures)).entries == {}


async def test_leaving_is_bounded_while_the_store_is_away() -> None:
    async with Member(MemoryStore()).running() as member:
        await until(lambda: bool(member.sessions))
        member.store.fail_with(Unavailable("the store is away"))
        assert member.membership is not None
        await member.membership.leave(revoke=True)


@pytest.mark.realtime
async def test_blocked_main_loop_does_not_cost_the_lease(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "fleet.db")
    sessions: list[LeaseId | None] = []
    heartbeat = Heartbeat(
        connect=lambda: SqliteStore(database),
        machine=lambda: ME,
        keys=KEYS,
        ttl_s=1.0,
        on_session=sessions.append,
    )
    assert "not registered" in heartbeat.problem
    heartbeat.start()
    await until(lambda: bool(sessions))
    assert heartbeat.problem == ""
    lease = sessions[0]
    assert lease is not None
    time.sleep(3.0)  # noqa: ASYNC251  the main loop is stuck for three TTLs
    await asyncio.sleep(0.1)
    store = SqliteStore(database)
    await store.renew(lease)
    assert sessions == [lease]

    await heartbeat.stop(leave=True)
    with pytest.raises(LeaseLost):
        await store.renew(lease)
    await store.close()
    database.close()
