"""What is reported of a unit, and when not yet."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.fake import FakeSystemd
from agent.local import LocalUnit, LocalUnits, Note
from agent.publisher import Publisher
from agent.report import Trouble
from agent.reporter import QUICK_S, Look, Reporter, quick_s
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.store.memory import MemoryStore
from fleet.unit import parse_unit

UNIT = UnitName("web.service")
FILE = parse_unit("[Service]\nExecStart=/bin/sleep infinity\n")
WRITTEN = LocalUnit(unit=UNIT, file=FILE, hash=FILE.hash)
LINKED = replace(WRITTEN, note=Note(hash=FILE.hash))
LAUNCHED = replace(WRITTEN, note=Note(hash=FILE.hash, launched=True))
KNOWN: dict[str, str] = {UNIT: f"/run/systemd/system/{UNIT}"}
WAITS = Trouble(reason="waiting until old.service is gone from here")
VAIN = Trouble(reason="it was linked in vain", refused=True)


@dataclass
class Desk:
    """A reporter at work, and what it looks at."""

    folder: Path
    look: Look
    systemd: FakeSystemd = field(default_factory=FakeSystemd)
    publisher: Publisher = field(
        default_factory=lambda: Publisher(Registry(MemoryStore(), Keys()), MachineId("a" * 32))
    )

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Reporter]:
        local = LocalUnits(self.folder, boot_id="boot-1")
        machine = MachineId("a" * 32)
        reporter = Reporter(
            self.systemd, self.publisher, machine, local=local, look=lambda _: self.look
        )
        task = asyncio.create_task(reporter.run())
        try:
            yield reporter
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def told(self) -> str:
        """What was told of the unit, in a word."""
        state = self.publisher.state(UNIT)
        return state.active if state else ""


@pytest.mark.parametrize(
    ("look", "reported"),
    [
        pytest.param(Look(local=WRITTEN), False, id="its file is about to be linked"),
        pytest.param(Look(local=WRITTEN, trouble=WAITS), False, id="and its start has to wait"),
        pytest.param(Look(local=WRITTEN, trouble=VAIN), True, id="it cannot be linked"),
        pytest.param(Look(local=LINKED, starting=True), False, id="it is just being started"),
        pytest.param(Look(local=LINKED), True, id="it was linked and is not there"),
    ],
)
async def test_unit_unknown_to_systemd_is_reported_once_that_is_news(
    look: Look, reported: bool, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, look)
    async with desk.open() as reporter:
        reporter.touch([UNIT])
        await asyncio.sleep(5)

    assert (desk.publisher.state(UNIT) is not None) is reported


@pytest.mark.parametrize(
    ("look", "active"),
    [
        pytest.param(Look(local=LINKED, starting=True), "activating", id="a start"),
        pytest.param(Look(local=LAUNCHED, stopping=True), "deactivating", id="a stop"),
    ],
)
async def test_job_is_told_of_once_it_has_lasted(look: Look, active: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path, look, FakeSystemd(own=KNOWN))
    desk.systemd.set_state(UNIT, active=active)
    async with desk.open() as reporter:
        reporter.touch([UNIT])
        await asyncio.sleep(QUICK_S - 0.1)
        assert not desk.told
        await asyncio.sleep(0.2)
        assert desk.told == active


@pytest.mark.parametrize(
    ("look", "active", "told"),
    [
        pytest.param(Look(local=LAUNCHED), "inactive", "active", id="it came to rest"),
        pytest.param(Look(local=LAUNCHED), "failed", "failed", id="it failed"),
        pytest.param(Look(local=LAUNCHED, trouble=WAITS), "inactive", "inactive", id="it is stuck"),
        pytest.param(
            Look(local=LAUNCHED, wanted_hash="h"), "inactive", "inactive", id="it is wanted"
        ),
    ],
)
async def test_unit_that_is_wanted_no_more_and_came_to_rest_has_had_its_last_word(
    look: Look, active: str, told: str, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, replace(look, wanted_hash="h"), FakeSystemd(own=KNOWN))
    desk.systemd.set_state(UNIT, active="active")
    async with desk.open() as reporter:
        reporter.touch([UNIT])
        await asyncio.sleep(5)
        assert desk.told == "active"
        desk.look = look
        desk.systemd.set_state(UNIT, active=active)
        reporter.touch([UNIT])
        await asyncio.sleep(5)
        assert desk.told == told


async def test_job_that_is_quick_is_told_of_by_its_end(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Look(local=LINKED, starting=True, jobs=1), FakeSystemd(own=KNOWN))
    desk.systemd.set_state(UNIT, active="activating")
    async with desk.open() as reporter:
        reporter.touch([UNIT])
        await asyncio.sleep(QUICK_S / 2)
        desk.look = Look(local=LAUNCHED)
        desk.systemd.set_state(UNIT, active="failed")
        reporter.touch([UNIT])
        await asyncio.sleep(0.01)
        assert desk.told == "failed"


async def test_start_over_what_was_launched_before_is_told_of_at_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Look(local=LAUNCHED), FakeSystemd(own=KNOWN))
    desk.systemd.set_state(UNIT, active="failed")
    async with desk.open() as reporter:
        reporter.touch([UNIT])
        await asyncio.sleep(0.01)
        assert desk.told == "failed"
        desk.look = Look(local=LAUNCHED, starting=True)
        desk.systemd.set_state(UNIT, active="activating")
        reporter.touch([UNIT])
        await asyncio.sleep(0.01)
        assert desk.told == "activating"


@pytest.mark.parametrize(
    ("jobs", "by_s"),
    [
        pytest.param(0, 0.1, id="nothing else is under way"),
        pytest.param(100, 1.1, id="a hundred starts are under way"),
        pytest.param(10_000, 3.0, id="it is not waited for ever"),
    ],
)
async def test_simple_service_is_believed_later_beside_many_starts(
    jobs: int, by_s: float, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, Look(local=LAUNCHED, jobs=jobs), FakeSystemd(own=KNOWN))
    desk.systemd.set_state(UNIT, active="active")
    async with desk.open() as reporter:
        reporter.touch([UNIT])
        await asyncio.sleep(by_s - 0.05)
        before = desk.told
        await asyncio.sleep(0.1)
        assert (before, desk.told) == ("", "active")


async def test_simple_service_is_believed_a_moment_after_the_last_of_many_starts(
    tmp_path: Path,
) -> None:
    """Whether the calm lasts is what counts: starts that begin anew keep systemd from it again."""
    busy = Look(local=LAUNCHED, jobs=100)
    desk = Desk(tmp_path, busy, FakeSystemd(own=KNOWN))
    desk.systemd.set_state(UNIT, active="active")
    async with desk.open() as reporter:
        for jobs, for_s in ((100, 0.2), (0, 0.09), (100, 0.3), (0, 0.09)):
            desk.look = replace(busy, jobs=jobs)
            reporter.touch([UNIT])
            await asyncio.sleep(for_s)
            assert not desk.told
        await asyncio.sleep(0.05)
        assert desk.told == "active"


async def test_simple_service_that_fails_beside_many_starts_is_never_told_of_as_active(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, Look(local=LAUNCHED, jobs=100), FakeSystemd(own=KNOWN))
    desk.systemd.set_state(UNIT, active="active")
    async with desk.open() as reporter:
        reporter.touch([UNIT])
        await asyncio.sleep(0.5)
        desk.systemd.set_state(UNIT, active="failed")
        reporter.touch([UNIT])
        await asyncio.sleep(0.05)
        assert desk.told == "failed"


def test_more_jobs_at_a_time_may_take_longer_each() -> None:
    assert quick_s(1) < QUICK_S + 0.1 < quick_s(100) < quick_s(1000)
