"""A heartbeat that does not get through in time is told in the words of fleet 1.0, once."""

import asyncio
import contextlib

import pytest

from agent.heartbeat import OVERDUE, Membership
from fleet.errors import Unavailable
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.store.memory import MemoryStore
from fleet.store.port import LeaseId

TTL_S = 6.0


async def test_lease_that_is_overdue_is_told_once_in_each_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    machine = Machine(id=MachineId("m" * 32), address="10.0.0.1", boot_id="boot-1")
    told: list[object] = []
    membership = Membership(store, Keys(), lambda: machine, ttl_s=TTL_S, session=told.append)
    running = asyncio.create_task(membership.run())

    def count() -> int:
        return sum(OVERDUE in record.getMessage() for record in caplog.records)

    await asyncio.sleep(10 * TTL_S)
    assert (len(told), count()) == (1, 0)
    for outage in (1, 2):
        store.fail_with(Unavailable("etcd does not answer"))
        await asyncio.sleep(TTL_S / 2)
        assert count() == outage - 1
        await asyncio.sleep(3 * TTL_S)
        assert count() == outage
        store.recover()
        await asyncio.sleep(2 * TTL_S)
        assert membership.problem == ""

    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


class SlowStore(MemoryStore):
    """A store that takes its time to renew."""

    takes_s = 0.0

    async def renew(self, lease: LeaseId) -> None:
        await asyncio.sleep(self.takes_s)
        await super().renew(lease)


async def test_trouble_with_the_store_is_known_while_it_lasts_and_after() -> None:
    clock = asyncio.get_running_loop().time
    store = SlowStore()
    machine = Machine(id=MachineId("m" * 32), address="10.0.0.1", boot_id="boot-1")
    membership = Membership(store, Keys(), lambda: machine, ttl_s=TTL_S, session=lambda _: None)
    running = asyncio.create_task(membership.run())
    await asyncio.sleep(10 * TTL_S)
    assert membership.trouble_s(clock()) is None

    store.takes_s = 1.5  # less than a heartbeat waits for an answer, and more than it should take
    began_s = clock()
    for _ in range(int(TTL_S / 0.1)):
        await asyncio.sleep(0.1)
        if membership.trouble_s(clock()) is not None:
            break
    assert membership.trouble_s(clock()) == clock()  # it is not over
    store.takes_s = 0
    await asyncio.sleep(2 * TTL_S)
    found_s = membership.trouble_s(clock())
    assert found_s is not None
    assert began_s < found_s < began_s + TTL_S

    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
