"""The virtual clock: time passes only when everybody waits, and nobody waits in vain."""

import asyncio
import socket
import time

import pytest

from fleet.testing.loop import Deadlock, VirtualLoop


def _run_in_virtual_time(seconds: float) -> tuple[float, float]:
    """Sleep so long; the virtual and the real seconds that passed."""

    async def sleep() -> float:
        begin = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time() - begin

    begin = time.monotonic()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(sleep()), time.monotonic() - begin


def test_a_day_passes_in_a_moment() -> None:
    virtual_s, real_s = _run_in_virtual_time(86400)

    assert virtual_s == pytest.approx(86400)
    assert real_s < 5


async def test_clock_begins_at_zero_and_stands_while_there_is_work() -> None:
    loop = asyncio.get_running_loop()
    assert loop.time() == 0

    for _ in range(1000):
        await asyncio.sleep(0)

    assert loop.time() == 0


async def test_sleepers_wake_in_order_and_on_time() -> None:
    loop = asyncio.get_running_loop()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, round(loop.time(), 6)))

    await asyncio.gather(sleeper("late", 3), sleeper("early", 0.5), sleeper("mid", 1))

    assert woken == [("early", 0.5), ("mid", 1.0), ("late", 3.0)]


async def test_time_limit_ends_a_wait_at_its_moment() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 10)

    assert asyncio.get_running_loop().time() == pytest.approx(10)


async def test_many_short_sleeps_end_despite_rounding() -> None:
    for _ in range(10_000):
        await asyncio.sleep(0.1)

    assert asyncio.get_running_loop().time() == pytest.approx(1000)


async def test_socket_pair_of_the_loops_own_works() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"here")

        assert await asyncio.get_running_loop().sock_recv(ours, 10) == b"here"


def test_waiting_for_ever_is_an_error_and_not_a_hang() -> None:
    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        pytest.raises(Deadlock, match="this would hang"),
    ):
        runner.run(wait_for_ever())


@pytest.mark.realtime
async def test_real_clock_is_at_hand() -> None:
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)
