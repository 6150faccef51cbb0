"""The fence, on a systemd in memory and a virtual clock: when it comes down, and when it is up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.binding import LEASE, drop_in, drop_in_path
from agent.fake import FakeSystemd
from agent.fence import MARGIN_PART, Fence, stop_times
from fleet.errors import Unavailable
from fleet.fencing import KILL_S
from fleet.names import UnitName
from fleet.unit import parse_unit

TTL_S = 6.0
# How long after a renewal the fence comes down.
HOLDS_S = TTL_S * (1 - 1 / MARGIN_PART)
SOLO = UnitName("solo.service")
FENCED = "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\n[X-Fleet]\nFenced=true\n"


@dataclass
class Bench:
    """A machine's systemd with a fenced unit, and its fence."""

    folder: Path
    changes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.systemd = FakeSystemd(drop_ins=self.folder / "drop-ins")
        self.fence = self.another()

    def another(self) -> Fence:
        return Fence(
            self.systemd,
            self.folder / "fence",
            ttl_s=TTL_S,
            changed=lambda: self.changes.append(self.fence.generation(now_s())),
        )

    async def link(self) -> None:
        path = drop_in_path(self.folder / "drop-ins", SOLO)
        path.parent.mkdir(parents=True)
        path.write_text(drop_in(parse_unit(FENCED)))
        (self.folder / SOLO).write_text(FENCED)
        await self.systemd.link([str(self.folder / SOLO)])

    @property
    def is_up(self) -> bool:
        return SOLO in self.systemd.live

    async def start(self) -> str:
        return await (await self.systemd.start(SOLO))


def now_s() -> float:
    return asyncio.get_running_loop().time()


@contextlib.asynccontextmanager
async def running(fence: Fence) -> AsyncIterator[None]:
    task = asyncio.create_task(fence.run())
    try:
        await asyncio.sleep(0)
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    """A bench whose fence is wanted and has just been raised."""
    made = Bench(folder)
    await made.link()
    made.fence.want(True, may_raise=True)
    async with running(made.fence):
        made.fence.renewed(now_s())
        await asyncio.sleep(0.1)
        assert made.fence.generation(now_s())
        yield made


async def test_nothing_is_asked_of_systemd_while_no_unit_is_fenced(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    async with running(made.fence):
        made.fence.renewed(now_s())
        await asyncio.sleep(TTL_S)

        assert made.systemd.calls == []
        assert made.fence.generation(now_s()) == ""


async def test_fenced_unit_does_not_start_before_the_fence_is_up(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    await made.link()

    assert await made.start() == "assert"
    assert not made.is_up


async def test_unit_is_stopped_a_margin_before_the_lease_can_have_ended(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        assert await made.start() == "done"
        await asyncio.sleep(HOLDS_S - 0.2)
        assert made.is_up
        await asyncio.sleep(0.2)

        assert not made.is_up
        assert made.fence.generation(now_s()) == ""
        assert await made.start() == "assert"


async def test_margin_can_be_set(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    made.fence = Fence(
        made.systemd, tmp_path / "fence", ttl_s=TTL_S, margin_s=3.0, changed=lambda: None
    )
    made.fence.want(True, may_raise=True)
    async with running(made.fence):
        renewed_s = now_s()
        made.fence.renewed(renewed_s)
        await asyncio.sleep(0.1)

        assert made.fence.generation(renewed_s + 2.9)
        assert not made.fence.generation(renewed_s + 3.0)


async def test_renewals_keep_the_unit_and_leave_one_timer(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.start()
        generation = made.fence.generation(now_s())
        for _ in range(10):
            await asyncio.sleep(TTL_S / 3)
            made.fence.renewed(now_s())
            await asyncio.sleep(0.01)

            assert made.is_up
            assert made.fence.generation(now_s()) == generation
            assert len(await made.systemd.matching("fleet-fence@*.timer")) == 1


async def test_fleetd_that_wakes_up_late_cannot_lengthen_the_fence(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.start()
        before_s = now_s()
        await asyncio.sleep(HOLDS_S - 0.2)
        made.fence.renewed(before_s - 1)  # told of only now
        await asyncio.sleep(0.3)

        assert not made.is_up


async def test_fence_is_raised_again_only_when_the_agent_says_so(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        old = made.fence.generation(now_s())
        made.fence.want(True, may_raise=False)
        await asyncio.sleep(TTL_S)
        made.fence.renewed(now_s())
        await asyncio.sleep(0.1)
        assert made.fence.generation(now_s()) == ""
        assert LEASE not in made.systemd.live

        made.fence.want(True, may_raise=True)
        await asyncio.sleep(0.1)

        assert made.fence.generation(now_s()) not in ("", old)
        assert await made.start() == "done"
        assert made.changes[-1] == made.fence.generation(now_s())


async def test_fleetd_that_starts_anew_adopts_the_fence_without_a_gap(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    await made.link()
    made.fence.want(True, may_raise=True)
    async with running(made.fence):
        made.fence.renewed(now_s())
        await asyncio.sleep(0.1)
        await made.start()
        generation = made.fence.generation(now_s())
    await asyncio.sleep(2)
    assert made.is_up

    made.fence = made.another()
    made.fence.want(True, may_raise=False)
    async with running(made.fence):
        made.fence.renewed(now_s())
        await asyncio.sleep(HOLDS_S - 1)

        assert made.is_up
        assert made.fence.generation(now_s()) == generation
        assert len(await made.systemd.matching("fleet-fence@*.timer")) == 1


async def test_last_renewal_is_caught_up_with_before_the_end(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.start()
        await asyncio.sleep(1)
        made.fence.renewed(now_s())
        await made.fence.catch_up(2.0)
        ended_s = now_s()
    assert now_s() - ended_s < 1
    await asyncio.sleep(HOLDS_S - 0.2)
    assert made.is_up


async def test_catching_up_ends_though_systemd_does_not_answer(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        made.systemd.fail_with(Unavailable("the bus is gone, for a test"))
        made.fence.renewed(now_s() + 1)
        before_s = now_s()
        await made.fence.catch_up(2.0)

        assert now_s() - before_s > 1.9


async def test_systemd_that_does_not_answer_costs_the_units_and_no_more(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.start()
        made.systemd.fail_with(Unavailable("the bus is gone, for a test"))
        for _ in range(3):
            await asyncio.sleep(2)
            made.fence.renewed(now_s())
        assert not made.is_up
        assert made.fence.generation(now_s()) == ""

        made.systemd.recover()
        await asyncio.sleep(1)
        assert made.fence.generation(now_s())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("[Service]\nExecStart=/bin/sleep 1\n", 90 + KILL_S, id="default"),
        pytest.param("[Service]\nExecStart=/a\nTimeoutStopSec=2\n", 2 + KILL_S, id="one-phase"),
        pytest.param(
            "[Unit]\nAfter=base.service\n[Service]\nExecStart=/a\nTimeoutStopSec=2\n",
            2 + KILL_S,
            id="after-another",
        ),
    ],
)
def test_stop_time_of_a_unit(text: str, seconds: float) -> None:
    assert stop_times({SOLO: parse_unit(text)}) == {SOLO: seconds}


def test_unit_that_others_come_after_has_to_wait_for_their_stop() -> None:
    base, top, side = (UnitName(f"{name}.service") for name in ("base", "top", "side"))
    service = "[Service]\nExecStart=/a\nTimeoutStopSec={}\n"
    times = stop_times(
        {
            base: parse_unit(service.format(1)),
            top: parse_unit("[Unit]\nAfter=base.service\n" + service.format(5)),
            side: parse_unit(
                "[Unit]\nAfter=side.service\nBefore=base.service\n" + service.format(3)
            ),
        }
    )

    assert times[top] == 5 + KILL_S
    assert times[base] == 1 + KILL_S + times[top]
    assert times[side] == 3 + KILL_S + times[base]
