"""The agent on a real systemd: this file runs itself inside a machine that it boots.

The store is in memory, so that what is seen is the agent and systemd alone.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.dbus import DbusSystemd
from agent.local import LocalUnits
from agent.loop import Agent
from fleet.cluster import Assignment
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, text_digest
from fleet.states import TargetState, UnitState
from fleet.store.memory import MemoryStore
from fleet.store.port import MAX_TXN_OPS, Delete, LeaseId, Put
from fleet.unit import parse_unit
from tests.inside import INSIDE_A_MACHINE, run_in_a_machine

ME = MachineId("a" * 32)
KEYS = Keys()
FOLDER = Path("/run/fleet-agent-test/units")
SLEEPER = "[Service]\nExecStart=/bin/sleep infinity\n"
LAUNCHED, LOADED = TargetState.LAUNCHED, TargetState.LOADED
DEADLINE_S = 30.0

Units = dict[str, str]


@dataclass
class Bench:
    """One agent on this machine's systemd, and the hands of the engine."""

    store: MemoryStore = field(default_factory=MemoryStore)
    lease: LeaseId | None = None

    @property
    def registry(self) -> Registry:
        return Registry(self.store, KEYS)

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[Agent]:
        if self.lease is None:
            self.lease = await self.store.grant(1e6)
            await self.registry.register(Machine(id=ME), self.lease, over=0)
        agent = Agent(
            registry=Registry(self.store.connect(), KEYS),
            systemd=DbusSystemd(),
            units=LocalUnits(FOLDER, boot_id="boot"),
            machine=ME,
        )
        agent.use_lease(self.lease)
        task = asyncio.create_task(agent.run())
        try:
            yield agent
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @contextlib.asynccontextmanager
    async def whole(self) -> AsyncIterator["Bench"]:
        """An agent whose units are all gone in the end."""
        async with self.agent():
            yield self
            await self.unschedule(*(row.unit for row in (await self.registry.cluster()).schedule))
            await self.until(lambda states: not states)
        assert os.listdir(FOLDER) == []
        assert os.listdir(FOLDER.parent / "loaded") == []

    async def schedule(self, units: Units, target: TargetState = LAUNCHED) -> None:
        for name, text in units.items():
            file = parse_unit(text)
            row = Assignment(
                unit=UnitName(name),
                machine=ME,
                hash=file.hash,
                file=text_digest(text),
                target=target,
            )
            puts = [self.registry.assignment_put(row), Put(KEYS.file(row.file), text.encode())]
            await self.store.commit([], puts)

    async def unschedule(self, *units: str) -> None:
        keys = [Delete(KEYS.assignment(ME, UnitName(unit))) for unit in units]
        for start in range(0, len(keys), MAX_TXN_OPS):
            await self.store.commit([], keys[start : start + MAX_TXN_OPS])

    async def until(
        self, holds: Callable[[dict[str, UnitState]], bool], within_s: float = DEADLINE_S
    ) -> dict[str, UnitState]:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        while True:
            states = {str(s.unit): s for s in (await self.registry.cluster()).states}
            if holds(states):
                return states
            assert loop.time() < deadline_s, f"still {states}"
            await asyncio.sleep(0.02)

    async def up(self, name: str, text: str = SLEEPER) -> UnitState:
        await self.schedule({name: text})
        wanted = parse_unit(text).hash
        return (await self.until(lambda s: name in s and s[name].is_up and s[name].hash == wanted))[
            name
        ]

    async def failed(self, name: str, text: str) -> UnitState:
        await self.schedule({name: text})
        return (await self.until(lambda s: name in s and s[name].has_failed))[name]


async def shell(command: str) -> str:
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode().strip()


async def main_pid(unit: str) -> str:
    return await shell(f"systemctl show --value --property=MainPID {unit}")


if INSIDE_A_MACHINE:
    pytestmark = pytest.mark.systemd

    async def test_service_starts_stops_and_goes() -> None:
        async with Bench().whole() as bench:
            state = await bench.up("web.service")
            assert (state.active, state.sub, state.job) == ("active", "running", "done")
            assert state.since_s > 0
            assert await shell("systemctl is-enabled web.service") == "linked-runtime"
            await bench.schedule({"web.service": SLEEPER}, LOADED)
            await bench.until(lambda s: s["web.service"].current is LOADED)

            assert await shell("systemctl is-active web.service") == "inactive"

    async def test_replaced_contents_run_after_the_old_have_ended() -> None:
        log = FOLDER.parent / "order"
        text = f"[Service]\nExecStartPre=/bin/sh -c 'echo new >>{log}'\nExecStart=/bin/sleep 1d\n"
        old = f"{SLEEPER}ExecStopPost=/bin/sh -c 'sleep 0.3; echo old >>{log}'\n"
        async with Bench().whole() as bench:
            await bench.up("web.service", old)
            await bench.up("web.service", text)

        assert log.read_text().split() == ["old", "new"]
        log.unlink()

    async def test_oneshot_is_up_when_it_has_run_and_runs_once() -> None:
        log = FOLDER.parent / "runs"
        text = f"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 2; echo ran >>{log}'\n"
        bench = Bench()
        async with bench.agent():
            await bench.schedule({"job.service": text})
            await bench.until(lambda s: "job.service" in s)  # it is activating
        await asyncio.sleep(2)
        async with bench.whole():
            state = (await bench.until(lambda s: s["job.service"].is_up))["job.service"]
            assert (state.active, state.job) == ("inactive", "done")
            assert log.read_text() == "ran\n"
        log.unlink()

    async def test_failures_say_what_happened() -> None:
        async with Bench().whole() as bench:
            absent = await bench.failed("absent.service", "[Service]\nExecStart=/nonexistent/x\n")
            assert absent.exit_status == "code=exited, status=203/EXEC"
            assert any("/nonexistent/x" in line for line in absent.journal)

            text = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo why >&2; exit 3'\n"
            failed = await bench.failed("failed.service", text)
            assert (failed.job, failed.exit_status) == ("failed", "code=exited, status=3")
            assert "why" in failed.journal

            needy = f"[Unit]\nRequires=failed.service\nAfter=failed.service\n{SLEEPER}"
            dependent = await bench.failed("needy.service", needy)
            assert dependent.job == "dependency"
            assert any("Dependency failed" in line for line in dependent.journal)

            broken = await bench.failed("broken.service", "[Service]\nType=simple\n")
            assert (broken.load, broken.job) == ("bad-setting", "refused")

            template = await bench.failed("some@.service", SLEEPER)
            assert "missing the instance name" in template.journal[-1]

            own = await bench.failed("systemd-tmpfiles-clean.service", SLEEPER)
            assert "has a systemd-tmpfiles-clean.service of its own" in own.journal[-1]

    async def test_crash_is_seen_and_left_alone() -> None:
        async with Bench().whole() as bench:
            await bench.up("web.service")
            os.kill(int(await main_pid("web.service")), 9)
            state = (await bench.until(lambda s: s["web.service"].has_failed))["web.service"]

            assert state.exit_status == "code=killed, status=9/KILL"

    async def test_timer_fires_the_service_that_it_is_loaded_with() -> None:
        async with Bench().whole() as bench:
            await bench.schedule({"tick.service": "[Service]\nExecStart=/bin/sleep 1d\n"}, LOADED)
            text = (
                "[Timer]\nOnActiveSec=300ms\nAccuracySec=1ms\n[Install]\nWantedBy=timers.target\n"
            )
            await bench.up("tick.timer", text)
            assert await shell("systemctl is-enabled tick.timer") == "enabled-runtime"

            await bench.until(lambda s: s["tick.service"].active == "active")

    async def test_units_of_one_pass_start_in_order_of_their_dependencies() -> None:
        log = FOLDER.parent / "order"
        one = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 0.3; echo {} >>{}'\n{}"
        first = one.format("first", log, "RemainAfterExit=yes\n")
        second = "[Unit]\nRequires=b.service\nAfter=b.service\n" + one.format("second", log, "")
        bench = Bench()
        await bench.schedule({"a@1.service": second, "b.service": first})
        async with bench.whole():
            await bench.until(lambda s: "a@1.service" in s and s["a@1.service"].is_up)

        assert log.read_text().split() == ["first", "second"]
        log.unlink()

    @pytest.mark.parametrize(
        "trouble", ["restart dbus.service", "daemon-reexec", "kill -s KILL dbus.service"]
    )
    async def test_bus_that_goes_away_is_found_again(trouble: str) -> None:
        async with Bench().whole() as bench:
            await bench.up("before.service")
            pid = await main_pid("before.service")
            await shell(f"systemctl {trouble}")
            await bench.up("after.service")

            assert await main_pid("before.service") == pid
            os.kill(int(pid), 9)
            await bench.until(lambda s: s["before.service"].has_failed)

    async def test_restarted_agent_adopts_300_units_and_touches_none() -> None:
        units = {f"many@{number}.service": SLEEPER for number in range(300)}
        bench = Bench()
        loop = asyncio.get_running_loop()
        async with bench.agent():
            began_s = loop.time()
            await bench.schedule(units)
            await bench.until(lambda s: sum(state.is_up for state in s.values()) == 300)
            took_s = loop.time() - began_s
        pids = await shell("systemctl show --value --property=MainPID 'many@*'")
        assert len(set(pids.split())) == 300
        assert bench.lease is not None
        await bench.store.revoke(bench.lease)
        bench.lease = None
        async with bench.whole():
            await bench.until(lambda s: sum(state.is_up for state in s.values()) == 300)
            await asyncio.sleep(1)
            assert await shell("systemctl show --value --property=MainPID 'many@*'") == pids
        assert took_s < 15, "systemd alone starts 60 to 100 units a second"

else:

    @pytest.mark.systemd
    def test_agent_keeps_a_real_systemd() -> None:
        """Boot a machine and run this file in it."""
        run_in_a_machine(__file__, timeout_s=110)
