"""What every `Systemd` holds to: run on the fake always, and on the real one inside a machine.

With `-m systemd` on an ordinary host one machine is booted, and this file runs in it on D-Bus.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.binding import drop_in_path, runtime_directory
from agent.dbus import DbusSystemd
from agent.fake import FakeSystemd
from agent.systemd import DONE, Command, Systemd, SystemdState
from fleet.errors import SystemdError
from fleet.names import UnitName
from tests.inside import INSIDE_A_MACHINE, run_in_a_machine

OWN_UNIT = UnitName("systemd-tmpfiles-clean.service")
OWN_PATH = "/lib/systemd/system/systemd-tmpfiles-clean.service"
DEADLINE_S = 20.0

SLEEPER = "[Service]\nExecStart=/bin/sleep infinity\n"
ONESHOT = "[Service]\nType=oneshot\nExecStart=/bin/sleep {seconds}\n"
FAILING = "[Service]\nType=oneshot\nExecStart=/bin/false\n"
ABSENT = "[Service]\nExecStart=/nonexistent/program\n"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        kinds = [pytest.param("fake", id="fake")]
        if INSIDE_A_MACHINE:
            kinds = [pytest.param("dbus", id="dbus", marks=pytest.mark.systemd)]
        metafunc.parametrize("kind", kinds)


@dataclass
class World:
    """A systemd under test, a folder for unit files, and what was told of changes."""

    systemd: Systemd
    folder: Path
    drop_ins: Path
    told: list[frozenset[UnitName] | None] = field(default_factory=list)
    made: list[UnitName] = field(default_factory=list)

    def write(self, name: str, text: str) -> UnitName:
        (self.folder / name).write_text(text)
        self.made.append(UnitName(name))
        return UnitName(name)

    def path(self, unit: str) -> str:
        return str(self.folder / unit)

    async def make(self, name: str, text: str) -> UnitName:
        unit = self.write(name, text)
        await self.systemd.link([self.path(unit)])
        return unit

    async def make_bound(self, name: str, lease: UnitName) -> UnitName:
        """A unit that a drop-in makes a part of the lease, and that starts only beside it."""
        path = drop_in_path(self.drop_ins, UnitName(name))
        path.parent.mkdir(parents=True)
        folder = lease.removesuffix(".service")
        path.write_text(f"[Unit]\nPartOf={lease}\nAssertPathExists=%t/{folder}\n")
        return await self.make(name, f"{SLEEPER}Restart=always\nRestartSec=0\n")

    async def make_fence(self, number: int) -> tuple[UnitName, UnitName]:
        """A lease unit, and a service that ends it when it starts."""
        lease = f"lease-{number}.service"
        kept = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
        await self.make(lease, f"{kept}RuntimeDirectory=lease-{number}\n")
        text = f"[Unit]\nConflicts={lease}\n[Service]\nType=oneshot\nExecStart=/bin/true\n"
        return UnitName(lease), await self.make(f"fence-{number}.service", text)

    async def start(self, unit: UnitName) -> str:
        return await (await self.systemd.start(unit))

    async def stop(self, unit: UnitName) -> str:
        return await (await self.systemd.stop(unit))

    async def state(self, unit: UnitName) -> SystemdState:
        return (await self.systemd.states([unit]))[unit]

    async def until(self, unit: UnitName, holds: Callable[[SystemdState], bool]) -> SystemdState:
        """The unit's state as soon as it holds, as known from signals alone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE_S
        while not holds(state := await self.state(unit)):
            assert loop.time() < deadline, f"still {state}"
            await asyncio.sleep(0.01)
        return state


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that systemd sees too: not below /tmp, which its services may have for their own."""
    if not INSIDE_A_MACHINE:
        yield tmp_path
        return
    path = Path("/run/fleet-test/units")
    path.mkdir(parents=True, exist_ok=True)
    yield path


@contextlib.asynccontextmanager
async def world_of(kind: str, folder: Path) -> AsyncIterator[World]:
    drop_ins = runtime_directory(user=False) if kind == "dbus" else folder / "drop-ins"
    fake = FakeSystemd(own={OWN_UNIT: OWN_PATH}, drop_ins=drop_ins)
    systemd = DbusSystemd() if kind == "dbus" else fake
    world = World(systemd=systemd, folder=folder, drop_ins=drop_ins)
    task = asyncio.create_task(systemd.run(world.told.append))
    try:
        await told(world, lambda names: names is None)
        yield world
    finally:
        for unit in world.made:
            with contextlib.suppress(SystemdError):
                await world.stop(unit)
        if world.made:
            await systemd.forget(world.made)
            await systemd.reload()
        for unit in world.made:
            (folder / unit).unlink(missing_ok=True)
            shutil.rmtree(drop_ins / f"{unit}.d", ignore_errors=True)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def real(path: str | Path) -> str:
    return os.path.realpath(path)


async def told(world: World, holds: Callable[[frozenset[UnitName] | None], bool]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not any(holds(names) for names in world.told):
        assert loop.time() < deadline, f"told only {world.told}"
        await asyncio.sleep(0.01)


async def test_unknown_unit_is_not_found(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        state = await world.state(UnitName("nobody-knows.service"))

        assert (state.load, state.active, state.sub) == ("not-found", "inactive", "dead")
        assert not state.is_live


async def test_linked_unit_is_loaded(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("linked.service", SLEEPER)
        state = await world.state(unit)

        assert (state.load, state.active) == ("loaded", "inactive")
        path = (await world.systemd.fragments([unit]))[unit]
        assert real(path) == real(folder / unit)


async def test_linking_one_asked_for_before_is_seen(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        assert (await world.state(UnitName("later.service"))).load == "not-found"
        unit = await world.make("later.service", SLEEPER)

        assert (await world.state(unit)).load == "loaded"


async def test_link_of_a_missing_file_is_refused(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        with pytest.raises(SystemdError, match=r"could not link missing\.service"):
            await world.systemd.link([world.path("missing.service")])


async def test_start_brings_a_service_up(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("up.service", SLEEPER)
        before_s = time.time()

        assert await world.start(unit) == DONE
        state = await world.until(unit, lambda s: s.active == "active")
        assert (state.load, state.sub) == ("loaded", "running")
        assert state.result in ("", "success")
        assert before_s - 1 <= state.since_s <= time.time() + 1
        assert state.is_live


async def test_change_of_a_unit_asked_for_is_told(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("told.service", SLEEPER)
        await world.state(unit)
        world.told.clear()
        await world.start(unit)

        await told(world, lambda names: names is not None and unit in names)


async def test_start_of_a_running_unit_is_done_at_once(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("twice.service", SLEEPER)
        await world.start(unit)
        first = await world.until(unit, lambda s: s.active == "active")

        assert await world.start(unit) == DONE
        assert (await world.state(unit)).since_s == first.since_s


async def test_start_of_an_unknown_unit_is_refused(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        with pytest.raises(SystemdError, match=r"could not start none\.service: .*not found"):
            await world.systemd.start(UnitName("none.service"))


async def test_unit_that_cannot_be_loaded_says_so(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("broken.service", "[Service]\nType=simple\n")

        assert (await world.state(unit)).load == "bad-setting"
        with pytest.raises(SystemdError, match="bad unit file setting"):
            await world.systemd.start(unit)


async def test_stop_brings_a_service_down(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("down.service", SLEEPER)
        await world.state(unit)
        await world.start(unit)

        assert await world.stop(unit) == DONE
        state = await world.until(unit, lambda s: not s.is_live)
        assert (state.active, state.load) == ("inactive", "loaded")
        assert state.since_s > 0


async def test_stop_of_an_unknown_unit_is_done(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        assert await world.stop(UnitName("never-was.service")) == DONE


async def test_slow_stop_ends_when_the_unit_has_stopped(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        text = f"{SLEEPER}ExecStop=/bin/sleep 0.3\n"
        unit = await world.make("slow-stop.service", text)
        await world.start(unit)
        job = await world.systemd.stop(unit)
        stopping = await world.until(unit, lambda s: s.active == "deactivating")

        assert stopping.is_live
        assert await job == DONE
        await world.until(unit, lambda s: s.active == "inactive")


async def test_oneshot_is_done_when_it_has_run(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("oneshot.service", ONESHOT.format(seconds=0.3))
        await world.state(unit)
        job = asyncio.ensure_future(await world.systemd.start(unit))
        await world.until(unit, lambda s: s.active == "activating")

        assert not job.done()
        assert await job == DONE
        state = await world.until(unit, lambda s: not s.is_live)
        assert (state.active, state.result) == ("inactive", "success")


async def test_oneshot_that_remains_is_active(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        text = ONESHOT.format(seconds=0) + "RemainAfterExit=yes\n"
        unit = await world.make("remains.service", text)
        await world.start(unit)

        await world.until(unit, lambda s: (s.active, s.sub) == ("active", "exited"))


async def test_failing_oneshot_fails_its_job(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("failing.service", FAILING)
        await world.state(unit)

        assert await world.start(unit) == "failed"
        state = await world.until(unit, lambda s: s.active == "failed")
        assert (state.result, state.exit_code, state.exit_status) == ("exit-code", 1, 1)


async def test_missing_program_shows_after_the_job(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("absent.service", ABSENT)
        await world.state(unit)
        await world.start(unit)

        state = await world.until(unit, lambda s: s.active == "failed")
        assert (state.result, state.exit_code, state.exit_status) == ("exit-code", 1, 203)


async def test_failed_state_asked_anew_has_its_details(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("anew.service", FAILING)
        await world.start(unit)
        state = (await world.systemd.states([unit], fresh=True))[unit]

        assert (state.active, state.result, state.exit_status) == ("failed", "exit-code", 1)
        assert state.since_s > 0


async def test_failed_unit_starts_again(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("again.service", FAILING)
        await world.start(unit)

        assert await world.start(unit) == "failed"


async def test_stop_cancels_a_start_under_way(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("canceled.service", ONESHOT.format(seconds=30))
        job = await world.systemd.start(unit)
        await world.until(unit, lambda s: s.active == "activating")
        await world.stop(unit)

        assert await job == "canceled"


async def test_starts_of_one_unit_share_a_job(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("shared.service", ONESHOT.format(seconds=0.2))
        jobs = [await world.systemd.start(unit) for _ in range(2)]

        assert await asyncio.gather(*jobs) == [DONE, DONE]


async def test_many_starts_at_once_all_end(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        units = [world.write(f"many-{n}.service", SLEEPER) for n in range(60)]
        await world.systemd.link([world.path(unit) for unit in units])

        results = await asyncio.gather(*(world.start(unit) for unit in units))
        assert set(results) == {DONE}
        states = await world.systemd.states(units)
        assert {state.active for state in states.values()} == {"active"}


async def test_of_many_starts_at_once_each_ends_as_it_would_alone(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        good = [await world.make(f"good-{n}.service", SLEEPER) for n in range(8)]
        await world.start(good[0])
        before = await world.until(good[0], lambda s: s.active == "active")
        failing = await world.make("amid-failing.service", FAILING)
        slow = await world.make("amid-slow.service", ONESHOT.format(seconds=0.3))
        broken = await world.make("amid-broken.service", "[Service]\nType=simple\n")
        units = [*good, failing, slow, broken, UnitName("amid-none.service")]
        await world.systemd.states(units)

        *jobs, refused, unknown = await asyncio.gather(
            *(world.start(unit) for unit in units), return_exceptions=True
        )
        assert jobs == [*(DONE for _ in good), "failed", DONE]
        assert "bad unit file setting" in str(refused)
        assert "could not start amid-none.service" in str(unknown)
        assert (await world.state(good[0])).since_s == before.since_s
        for unit in good:
            await world.until(unit, lambda s: s.active == "active")
        await world.until(failing, lambda s: s.active == "failed")
        await world.until(slow, lambda s: s.active == "inactive" and s.since_s > 0)


async def test_of_many_stops_at_once_each_ends_as_it_would_alone(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        quick = [await world.make(f"quick-{n}.service", SLEEPER) for n in range(8)]
        slow = await world.make("late.service", f"{SLEEPER}ExecStop=/bin/sleep 0.3\n")
        down = await world.make("is-down.service", SLEEPER)
        await asyncio.gather(*(world.start(unit) for unit in [*quick, slow]))
        units = [*quick, slow, down, UnitName("nobody-knows.service")]
        await world.systemd.states(units)

        jobs = [asyncio.ensure_future(world.stop(unit)) for unit in units]
        await asyncio.wait([jobs[0]], timeout=DEADLINE_S)
        assert not jobs[len(quick)].done()
        assert set(await asyncio.gather(*jobs)) == {DONE}
        for unit in [*quick, slow]:
            await world.until(unit, lambda s: s.active == "inactive")


async def test_unit_that_refuses_to_be_asked_by_hand_refuses_beside_many(
    kind: str, folder: Path
) -> None:
    async with world_of(kind, folder) as world:
        others = [await world.make(f"beside-{n}.service", SLEEPER) for n in range(6)]
        shy = await world.make("shy.service", f"[Unit]\nRefuseManualStart=yes\n{SLEEPER}")
        *_, refused = await asyncio.gather(
            *(world.start(unit) for unit in others),
            world.systemd.start(shy, alone=True),
            return_exceptions=True,
        )
        assert "by dependency only" in str(refused)
        assert not (await world.state(shy)).is_live


async def test_stop_overtakes_no_start_that_was_asked_for_before(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        units = [world.write(f"row-{n}.service", SLEEPER) for n in range(150)]
        await world.systemd.link([world.path(unit) for unit in units])
        await world.systemd.states(units)
        starts = [asyncio.ensure_future(world.start(unit)) for unit in units]
        await asyncio.sleep(0)
        last = units[-1]

        assert await world.stop(last) == DONE
        await asyncio.gather(*starts)
        assert not (await world.systemd.states([last], fresh=True))[last].is_live
        assert await world.start(last) == DONE
        await world.until(last, lambda s: s.active == "active")


async def test_nothing_is_left_of_how_many_were_started(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        units = [await world.make(f"crowd-{n}.service", SLEEPER) for n in range(6)]
        await asyncio.gather(*(world.start(unit) for unit in units))
        await asyncio.gather(*(world.stop(unit) for unit in units))

        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE_S
        while left := await world.systemd.matching("fleet-st*"):
            assert loop.time() < deadline, f"still there: {sorted(left)}"
            await asyncio.sleep(0.01)


async def test_ends_that_come_amid_questions_are_not_lost(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        for number in range(20):
            unit = await world.make(f"amid-{number}.service", ABSENT)
            asking = [asyncio.create_task(world.systemd.states([unit])) for _ in range(3)]
            await world.start(unit)
            asking += [asyncio.create_task(world.systemd.states([unit], fresh=True))]
            await world.until(unit, lambda s: s.active == "failed")
            await asyncio.gather(*asking)
            assert (await world.state(unit)).active == "failed"


async def test_new_contents_are_seen_after_a_reload(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("changed.service", SLEEPER)
        await world.start(unit)
        assert await world.systemd.loaded([unit]) == {unit}
        await world.stop(unit)
        world.write(unit, FAILING)
        await world.systemd.reload()

        assert await world.start(unit) == "failed"


async def test_reload_says_that_everything_may_have_changed(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("kept.service", SLEEPER)
        await world.start(unit)
        before = await world.until(unit, lambda s: s.active == "active")
        world.told.clear()
        await world.systemd.reload()

        await told(world, lambda names: names is None)
        assert await world.state(unit) == before


async def test_never_loaded_unit_needs_no_reload(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        await world.state(UnitName("stub.service"))

        assert await world.systemd.loaded([UnitName("stub.service")]) == frozenset()
        unit = await world.make("stub.service", SLEEPER)
        assert await world.start(unit) == DONE


async def test_forgotten_unit_is_not_found(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("forgotten.service", FAILING)
        await world.start(unit)
        await world.until(unit, lambda s: s.active == "failed")
        await world.systemd.forget([unit])
        (folder / unit).unlink()

        assert await world.systemd.loaded([unit]) == frozenset()
        assert (await world.state(unit)).load == "not-found"
        await world.systemd.forget([unit])


async def test_unit_of_the_machine_itself_shows_its_file(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        assert (await world.state(OWN_UNIT)).load == "loaded"
        path = (await world.systemd.fragments([OWN_UNIT]))[OWN_UNIT]
        assert real(path) == real(OWN_PATH)


async def test_template_is_linked_and_its_name_spoils_no_other(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        template = await world.make("worker@.service", SLEEPER)
        unit = await world.make("beside.service", SLEEPER)
        states = await world.systemd.states([template, unit])

        assert states[template].load == "error"
        assert states[unit].load == "loaded"


async def test_instance_runs_from_its_own_file(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("worker@one-1.service", SLEEPER)
        await world.start(unit)

        assert (await world.until(unit, lambda s: s.is_live)).active == "active"


async def test_enabled_timer_starts(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        world.write("tick.service", ONESHOT.format(seconds=0))
        text = "[Timer]\nOnActiveSec=1h\n\n[Install]\nWantedBy=timers.target\n"
        timer = world.write("tick.timer", text)
        await world.systemd.link([world.path("tick.service"), world.path(timer)])
        await world.systemd.enable([world.path(timer)])
        await world.systemd.reload()

        assert await world.start(timer) == DONE
        assert (await world.until(timer, lambda s: s.is_live)).load == "loaded"


async def test_bound_unit_starts_only_beside_the_lease(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        lease, _ = await world.make_fence(1)
        unit = await world.make_bound("bound-1.service", lease)

        assert await world.start(unit) == "assert"
        assert not (await world.state(unit)).is_live

        await world.start(lease)
        assert await world.systemd.active_since(lease) > 0
        assert await world.start(unit) == DONE
        assert (await world.until(unit, lambda s: s.is_live)).active == "active"


async def test_bound_unit_stops_when_systemd_ends_the_lease(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        lease, fence = await world.make_fence(2)
        unit = await world.make_bound("bound-2.service", lease)
        await world.start(lease)
        await world.start(unit)
        since_s = await world.systemd.active_since(lease)

        await world.systemd.start_at(fence, asyncio.get_running_loop().time() + 0.3)
        assert await world.systemd.matching("fence-2.t*") == {"fence-2.timer"}
        await world.until(unit, lambda s: not s.is_live)
        assert await world.systemd.active_since(lease) == 0.0
        assert await world.start(unit) == "assert"

        await world.start(lease)
        assert await world.systemd.active_since(lease) > since_s


async def test_moment_that_has_passed_is_now(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        lease, fence = await world.make_fence(3)
        unit = await world.make_bound("bound-3.service", lease)
        await world.start(lease)
        await world.start(unit)

        await world.systemd.start_at(fence, asyncio.get_running_loop().time() - 100)
        await world.until(unit, lambda s: not s.is_live)


async def test_timer_that_is_stopped_starts_nothing(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        lease, fence = await world.make_fence(4)
        await world.start(lease)
        await world.systemd.start_at(fence, asyncio.get_running_loop().time() + 0.5)
        with pytest.raises(SystemdError, match=r"fence-4\.timer"):
            await world.systemd.start_at(fence, asyncio.get_running_loop().time() + 0.5)

        assert await world.stop(UnitName("fence-4.timer")) == DONE
        assert await world.systemd.matching("fence-4.timer") == frozenset()
        await asyncio.sleep(1.0)
        assert await world.systemd.active_since(lease) > 0


def command(name: str, *words: str, limit_s: float = DEADLINE_S, user: str = "") -> Command:
    return Command(unit=UnitName(f"{name}.service"), words=words, limit_s=limit_s, user=user)


async def test_command_that_succeeds_is_gone(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        for _ in range(8):  # more often than `StartLimitBurst=` lets a unit start
            ended = await world.systemd.execute(command("fleet-c@a@1.service", "/bin/true"))
            assert (ended.active, ended.result) == ("inactive", "success")
        await gone(world, "fleet-c@*")


async def test_command_that_fails_says_how_and_is_gone(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        for words, status in ((("/bin/false",), 1), (("/nonexistent/program",), 203)):
            ended = await world.systemd.execute(command("fleet-c-fails", *words))
            assert (ended.active, ended.result) == ("failed", "exit-code")
            assert (ended.exit_code, ended.exit_status) == (1, status)
            await gone(world, "fleet-c-fails*")
        assert not any(names and "fleet-c-fails.service" in names for names in world.told)


async def test_command_is_run_anew_each_time(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        path = folder / "flag"
        asked = command("fleet-c-test", "/usr/bin/test", "-e", str(path))
        assert (await world.systemd.execute(asked)).exit_status == 1
        path.touch()
        assert (await world.systemd.execute(asked)).active == "inactive"
        path.unlink()


async def test_command_that_takes_too_long_is_ended(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        ended = await world.systemd.execute(
            command("fleet-c-slow", "/bin/sleep", "60", limit_s=0.3)
        )

        assert (ended.active, ended.result) == ("failed", "timeout")
        assert (ended.exit_code, ended.exit_status) == (2, signal.SIGTERM)
        await gone(world, "fleet-c-slow*")


async def test_command_ends_when_nobody_waits_for_it(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        running = asyncio.create_task(
            world.systemd.execute(command("fleet-c-left", "/bin/sleep", "60"))
        )
        await until_known(world, "fleet-c-left*", frozenset({UnitName("fleet-c-left.service")}))
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await gone(world, "fleet-c-left*")


async def test_command_of_a_name_that_is_taken_takes_its_turn(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        earlier = asyncio.create_task(
            world.systemd.execute(command("fleet-c-twice", "/bin/sleep", "60"))
        )
        await until_known(world, "fleet-c-twice*", frozenset({UnitName("fleet-c-twice.service")}))
        later = command("fleet-c-twice", "/bin/true")
        with pytest.raises(SystemdError, match=r"fleet-c-twice\.service"):
            await world.systemd.execute(later)

        await earlier
        await gone(world, "fleet-c-twice*")
        assert (await world.systemd.execute(later)).active == "inactive"


async def gone(world: World, pattern: str) -> None:
    await until_known(world, pattern, frozenset())


async def until_known(world: World, pattern: str, units: frozenset[UnitName]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while (found := await world.systemd.matching(pattern)) != units:
        assert loop.time() < deadline, f"still {found}"
        await asyncio.sleep(0.01)


if INSIDE_A_MACHINE:

    @pytest.mark.systemd
    async def test_command_runs_as_its_user() -> None:
        async with world_of("dbus", Path("/run/fleet-test")) as world:
            test = ("/bin/sh", "-c", "test $(id -un) = nobody")
            as_nobody = await world.systemd.execute(command("fleet-c-who", *test, user="nobody"))
            as_root = await world.systemd.execute(command("fleet-c-who", *test))

        assert (as_nobody.active, as_root.exit_status) == ("inactive", 1)


async def test_machine_is_not_stopping(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        assert not await world.systemd.is_stopping()


async def test_journal_has_the_last_lines(kind: str, folder: Path) -> None:
    async with world_of(kind, folder) as world:
        unit = await world.make("noted.service", FAILING)
        await world.start(unit)
        lines = await world.systemd.journal_tail(unit, 1)

        assert len(lines) == 1
        assert "Failed" in lines[0]


if not INSIDE_A_MACHINE:

    @pytest.mark.systemd
    def test_dbus_passes_this_suite_in_a_booted_machine() -> None:
        """The real half: these very tests, run on the system bus of a machine of their own."""
        run_in_a_machine(__file__, timeout_s=100)
