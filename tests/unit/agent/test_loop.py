"""The agent as a whole, on a store and a systemd in memory and a virtual clock."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.fake import FakeSystemd
from agent.local import LocalUnits
from agent.loop import DOUBT_S, FEW_ROWS, FULL_PASS_S, ROWS_QUIET_S, Agent
from fleet.cluster import Assignment
from fleet.errors import Unavailable
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange, text_digest
from fleet.states import TargetState, UnitState
from fleet.store.memory import MemoryStore
from fleet.store.port import Delete, LeaseId, Put
from fleet.unit import parse_unit

ME = MachineId("a" * 32)
KEYS = Keys()
SLEEPER = "[Service]\nExecStart=/bin/sleep infinity\n"
OTHER = "[Service]\nExecStart=/bin/sleep 100000\n"
ONESHOT = "[Service]\nType=oneshot\nExecStart=/bin/sleep 5\n"
LAUNCHED, LOADED = TargetState.LAUNCHED, TargetState.LOADED
TTL_S = 1e6


@dataclass
class Bench:
    """One machine under test, and the hands of the engine that schedules on it."""

    folder: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    systemd: FakeSystemd = field(default_factory=FakeSystemd)
    boot_id: str = "boot-1"
    lease: LeaseId | None = None

    @property
    def registry(self) -> Registry:
        return Registry(self.store, KEYS)

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[Agent]:
        """An agent that runs, with the machine registered."""
        if self.lease is None:
            self.lease = await self.store.grant(TTL_S)
            await self.registry.register(Machine(id=ME), self.lease, over=0)
        agent = Agent(
            registry=Registry(self.store.connect(), KEYS),
            systemd=self.systemd,
            units=LocalUnits(self.folder, boot_id=self.boot_id),
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

    async def schedule(
        self,
        name: str,
        text: str = SLEEPER,
        *,
        target: TargetState = LAUNCHED,
        leaving: bool = False,
        stored: bool = True,
    ) -> UnitName:
        puts = self.row(name, text, target=target, leaving=leaving)
        await self.store.commit([], puts if stored else puts[:1])
        return UnitName(name)

    def row(
        self,
        name: str,
        text: str = SLEEPER,
        *,
        target: TargetState = LAUNCHED,
        leaving: bool = False,
    ) -> list[Put]:
        """The unit's row and its contents, to be written."""
        row = Assignment(
            unit=UnitName(name),
            machine=ME,
            hash=parse_unit(text).hash,
            file=text_digest(text),
            target=target,
            leaving=leaving,
            reason="least loaded",
        )
        return [self.registry.assignment_put(row), Put(KEYS.file(row.file), text.encode())]

    async def unschedule(self, unit: UnitName) -> None:
        await self.store.commit([], [Delete(KEYS.assignment(ME, unit))])

    async def state(self, unit: UnitName) -> UnitState | None:
        states = (await self.registry.cluster()).states
        return next((s for s in states if (s.unit, s.machine) == (unit, ME)), None)

    async def published(
        self, unit: UnitName, holds: Callable[[UnitState | None], bool]
    ) -> UnitState | None:
        """The unit's published state as soon as it holds."""
        deadline_s = now_s() + 100
        while not holds(state := await self.state(unit)):
            assert now_s() < deadline_s, f"still {state}"
            await asyncio.sleep(0.01)
        return state

    async def up(self, name: str, text: str = SLEEPER) -> UnitName:
        """A unit that is up, seen and published."""
        unit = await self.schedule(name, text)
        await self.published(unit, is_up)
        return unit

    def asked(self, *actions: str) -> list[tuple[str, ...]]:
        """What systemd was asked of these actions, by default of any."""
        return [call for call in self.systemd.calls if not actions or call[0] in actions]


def now_s() -> float:
    return asyncio.get_running_loop().time()


def is_up(state: UnitState | None) -> bool:
    return state is not None and state.is_up


def is_gone(state: UnitState | None) -> bool:
    return state is None


def has_failed(state: UnitState | None) -> bool:
    return state is not None and state.has_failed


async def test_scheduled_unit_is_written_linked_and_started(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        text = f"# as the author wrote it\n{SLEEPER}"
        unit = await bench.up("web.service", text)

        state = await bench.state(unit)
        assert state is not None
        assert (state.current, state.load, state.active) == (LAUNCHED, "loaded", "active")
        assert state.hash == parse_unit(text).hash
        assert (state.job, state.journal) == ("done", ())
        assert (tmp_path / "units" / unit).read_text() == text
        assert bench.asked() == [
            ("link", str(tmp_path / "units" / unit)),
            ("start", unit),
        ]


async def test_unit_to_be_loaded_is_not_started(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.schedule("web.service", target=LOADED)
        state = await bench.published(unit, lambda s: s is not None)

        assert state is not None
        assert (state.current, state.load, state.active) == (LOADED, "loaded", "inactive")
        assert not bench.asked("start")


async def test_many_units_share_one_link_and_no_reload(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    for number in range(50):
        await bench.schedule(f"web@{number}.service")
    async with bench.agent():
        for number in range(50):
            await bench.published(UnitName(f"web@{number}.service"), is_up)

    assert len(bench.asked("link")) == 1
    assert len(bench.asked("start")) == 50
    assert not bench.asked("reload")


async def test_launched_to_loaded_stops_and_back_starts(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.up("web.service")
        await bench.schedule(unit, target=LOADED)
        await bench.published(unit, lambda s: s is not None and s.current is LOADED)
        assert not bench.systemd.live
        assert (tmp_path / "units" / unit).exists()

        await bench.schedule(unit, target=LAUNCHED)
        await bench.published(unit, is_up)
        assert bench.systemd.live == {unit}


async def test_unscheduled_unit_is_stopped_then_unlinked_then_unpublished(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.up("web.service", f"{SLEEPER}ExecStop=/bin/sleep 5\n")
        await bench.unschedule(unit)
        await bench.published(unit, lambda s: s is not None and s.active == "deactivating")
        await asyncio.sleep(2)
        assert (tmp_path / "units" / unit).exists()

        await bench.published(unit, is_gone)
        assert not (tmp_path / "units" / unit).exists()
        assert bench.asked("stop", "forget") == [("stop", unit), ("forget", unit)]


async def test_start_that_ends_while_systemd_is_looked_at_is_not_made_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    bench.systemd.answer_s = 10
    async with bench.agent() as agent:
        unit = await bench.schedule("once.service", ONESHOT)
        await asyncio.sleep(2)
        bench.systemd.look_s = 20
        agent.nudge()
        await asyncio.sleep(60)
        assert bench.asked("start") == [("start", unit)]


async def test_slow_stop_does_not_hold_up_another_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        slow = await bench.up("slow.service", f"{SLEEPER}ExecStop=/bin/sleep 60\n")
        await bench.unschedule(slow)
        before_s = now_s()
        await bench.up("web.service")

        assert now_s() - before_s < 1
        assert slow in bench.systemd.live


async def test_running_oneshot_does_not_hold_up_another_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        job = await bench.schedule("job.service", ONESHOT)
        running = await bench.published(job, lambda s: s is not None and s.active == "activating")
        assert running is not None
        assert (running.job, running.is_up, running.has_failed) == ("", False, False)
        before_s = now_s()
        await bench.up("web.service")
        assert now_s() - before_s < 1

        done = await bench.published(job, is_up)
        assert done is not None
        assert (done.active, done.job, done.result) == ("inactive", "done", "success")


async def test_oneshot_that_ran_is_not_run_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        await bench.up("job.service", ONESHOT)
        await asyncio.sleep(3 * FULL_PASS_S)
    async with bench.agent():
        await asyncio.sleep(3 * FULL_PASS_S)

    assert len(bench.asked("start")) == 1


async def test_oneshot_that_ended_while_fleetd_was_away_counts_as_done(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.schedule("job.service", ONESHOT)
        await bench.published(unit, lambda s: s is not None and s.active == "activating")
    await asyncio.sleep(60)
    async with bench.agent():
        state = await bench.published(unit, is_up)
        assert state is not None
        assert state.job == "done"

    assert len(bench.asked("start")) == 1


async def test_fleetd_that_ends_before_a_start_is_answered_does_not_start_it_again(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path / "units")
    bench.systemd.answer_s = 1.0
    async with bench.agent():
        unit = await bench.schedule("job.service", ONESHOT)
        await asyncio.sleep(0.5)
        assert len(bench.asked("start")) == 1
    await asyncio.sleep(60)
    async with bench.agent():
        await bench.published(unit, is_up)

    assert len(bench.asked("start")) == 1


async def test_restarted_fleetd_adopts_what_runs_and_touches_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        for name in ("a.service", "b@1.service", "c.socket"):
            await bench.up(name)
        await bench.schedule("d.service", target=LOADED)
        await bench.published(UnitName("d.service"), lambda s: s is not None)
    bench.systemd.calls.clear()

    async with bench.agent():
        await asyncio.sleep(3 * FULL_PASS_S)
    assert bench.asked() == []


async def test_ended_fleetd_leaves_units_running(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.up("web.service")

    assert bench.systemd.live == {unit}
    assert not bench.asked("stop")


async def test_rebooted_machine_loads_and_launches_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.up("web.service")
    after = Bench(tmp_path / "units", store=bench.store, boot_id="boot-2", lease=bench.lease)

    async with after.agent():
        await after.published(unit, is_up)
        await asyncio.sleep(1)
    assert after.asked("start") == [("start", unit)]


async def test_outage_of_the_store_touches_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent() as agent:
        unit = await bench.up("web.service")
        bench.systemd.calls.clear()
        store = agent._registry.store
        assert isinstance(store, MemoryStore)
        store.fail_with(Unavailable("the store is away"))
        await bench.unschedule(unit)
        await asyncio.sleep(3 * FULL_PASS_S)
        assert bench.asked() == []
        assert bench.systemd.live == {unit}

        store.recover()
        await bench.published(unit, is_gone)
        assert bench.asked("stop") == [("stop", unit)]


async def test_outage_of_systemd_is_waited_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent() as agent:
        bench.systemd.fail_with(Unavailable("the bus is away"))
        unit = await bench.schedule("web.service")
        await asyncio.sleep(30)
        assert "the bus is away" in agent.problem

        bench.systemd.recover()
        await bench.published(unit, is_up)
        assert agent.problem == ""


async def test_leaving_unit_is_left_as_it_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.up("web.service")
        bench.systemd.calls.clear()
        await bench.schedule(unit, OTHER, target=LOADED, leaving=True)
        await asyncio.sleep(3 * FULL_PASS_S)
        assert bench.asked() == []
        assert is_up(await bench.state(unit))

        await bench.unschedule(unit)
        await bench.published(unit, is_gone)


async def test_leaving_unit_that_is_not_here_is_reported_as_such(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.agent():
        unit = await bench.schedule("web.service", leaving=True)
        state = await bench.published(unit, lambda state: state is not None)
        assert state is not None
        assert (state.active, state.current) == ("inactive", TargetState.INACTIVE)
        await bench.unschedule(unit)
        await bench.published(unit, is_gone)


async def test_unit_that_cannot_be_written_is_reported_until_it_is_taken_away(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    async with bench.agent():
        (tmp_path / "web.service").mkdir()
        unit = await bench.schedule("web.service")
        state = await bench.published(unit, has_failed)
        assert state is not None
        assert "Is a directory" in state.journal[-1]
        await bench.unschedule(unit)
        await bench.published(unit, is_gone)


async def test_replaced_unit_stops_is_rewritten_and_starts(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.up("web.service", f"{SLEEPER}ExecStop=/bin/sleep 2\n")
        bench.systemd.calls.clear()
        await bench.schedule(unit, OTHER)
        await asyncio.sleep(1)
        assert (tmp_path / "units" / unit).read_text() != OTHER

        await bench.published(
            unit, lambda s: s is not None and s.is_up and s.hash == parse_unit(OTHER).hash
        )
        assert [call[0] for call in bench.asked()] == ["stop", "link", "start"]
        assert (tmp_path / "units" / unit).read_text() == OTHER


async def test_many_rows_that_come_one_after_the_other_share_one_link(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.agent():
        await bench.up("first.service")
        bench.systemd.calls.clear()
        for burst in range(3):
            names = [f"u{burst}-{number}.service" for number in range(FEW_ROWS + 1)]
            puts = {put.key: put for name in names for put in bench.row(name)}
            await bench.store.commit([], list(puts.values()))
            await asyncio.sleep(ROWS_QUIET_S / 2)
        await bench.published(UnitName(names[-1]), is_up)
    assert len(bench.asked("link")) == 1
    assert len(bench.asked("start")) == 3 * (FEW_ROWS + 1)


async def test_few_rows_are_acted_upon_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.agent():
        await bench.up("first.service")
        asked_s = now_s()
        unit = await bench.schedule("second.service")
        while ("start", unit) not in bench.asked("start"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert now_s() == asked_s  # the virtual clock: nothing was waited for


async def test_replaced_contents_that_systemd_holds_are_reloaded_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.schedule("bad.service", "[Service]\nExecStart=/bin/false\n")
        await bench.published(unit, has_failed)
        await bench.schedule(unit, OTHER)
        await bench.published(unit, is_up)

        assert [call[0] for call in bench.asked()] == ["link", "start", "link", "reload", "start"]


async def test_crashed_unit_stays_as_it_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.up("web.service")
        bench.systemd.calls.clear()
        bench.systemd.set_state(unit, active="failed", sub="failed", result="signal")
        await bench.published(unit, has_failed)
        await asyncio.sleep(3 * FULL_PASS_S)

        assert bench.asked() == []


async def test_unit_stopped_by_hand_stays_stopped(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.up("web.service")
        bench.systemd.calls.clear()
        bench.systemd.set_state(unit, active="inactive", sub="dead", result="success")
        await bench.published(unit, lambda s: s is not None and s.active == "inactive")
        await asyncio.sleep(3 * FULL_PASS_S)

        assert bench.asked() == []


async def test_failure_is_published_with_its_journal_and_exit_status(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    bench.systemd.journal["bad.service"] = tuple(f"line {n} {'x' * 600}" for n in range(20))
    async with bench.agent():
        unit = await bench.schedule("bad.service", "[Service]\nExecStart=/nonexistent/bin\n")
        state = await bench.published(unit, lambda s: s is not None and s.active != "inactive")

        assert state is not None
        assert state.active == "failed", "a simple service is not called active before it is"
        assert state.exit_status == "code=exited, status=203/EXEC"
        assert state.result == "exit-code"
        assert [line[:7].strip() for line in state.journal] == [f"line {n}" for n in range(10, 20)]
        assert {len(line) for line in state.journal} == {500}


async def test_name_that_the_machine_itself_uses_is_refused(tmp_path: Path) -> None:
    own = "/lib/systemd/system/ssh.service"
    bench = Bench(tmp_path / "units", systemd=FakeSystemd(own={"ssh.service": own}))
    async with bench.agent():
        unit = await bench.schedule("ssh.service")
        state = await bench.published(unit, has_failed)
        assert state is not None
        assert state.load == "error"
        assert own in state.journal[-1]
        await bench.unschedule(unit)
        await bench.published(unit, is_gone)

    assert bench.asked() == []
    assert not (tmp_path / "units" / unit).exists()


async def test_failed_stop_is_retried_and_the_file_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.up("web.service")
        bench.systemd.stop_results[unit] = "timeout"
        await bench.unschedule(unit)
        await asyncio.sleep(10)
        state = await bench.state(unit)
        assert state is not None
        assert "could not stop web.service" in state.journal[-1]
        assert 3 <= len(bench.asked("stop")) <= 5
        assert (tmp_path / "units" / unit).exists()
        assert not bench.asked("forget")

        del bench.systemd.stop_results[unit]
        await bench.published(unit, is_gone)
        assert not (tmp_path / "units" / unit).exists()


async def test_unit_that_refuses_to_be_started_by_hand_is_asked_for_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.agent():
        unit = await bench.schedule("shy.service", f"[Unit]\nRefuseManualStart=yes\n{SLEEPER}")
        state = await bench.published(unit, lambda s: s is not None and bool(s.journal))
        assert state is not None
        assert state.journal[-1].endswith("it may be requested by dependency only")
        assert unit not in bench.systemd.live


async def test_refused_start_is_reported_and_retried(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    bench.systemd.refusals["start", "web.service"] = "Unit web.service is masked."
    async with bench.agent():
        unit = await bench.schedule("web.service")
        state = await bench.published(unit, has_failed)
        assert state is not None
        assert (state.job, state.current) == ("refused", LAUNCHED)
        assert "masked" in state.journal[-1]

        bench.systemd.refusals.clear()
        await bench.published(unit, is_up)


async def test_what_one_unit_fails_to_do_holds_up_no_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    bench.systemd.refusals["link", "bad.service"] = "File exists."
    await bench.schedule("bad.service")
    await bench.schedule("good.service")
    async with bench.agent():
        await bench.published(UnitName("good.service"), is_up)
        await bench.published(UnitName("bad.service"), has_failed)


async def test_missing_contents_are_reported_until_they_are_there(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.schedule("web.service", stored=False)
        await bench.up("beside.service", OTHER)
        state = await bench.published(unit, has_failed)
        assert state is not None
        assert "does not have its contents" in state.journal[-1]

        await bench.store.commit([], [Put(KEYS.file(text_digest(SLEEPER)), SLEEPER.encode())])
        await bench.published(unit, is_up)


async def test_malformed_contents_harm_only_their_unit(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    unit = await bench.schedule("bad.service", stored=False)
    await bench.store.commit([], [Put(KEYS.file(text_digest(SLEEPER)), b"\xff[not a unit")])
    await bench.schedule("good.service", OTHER)
    async with bench.agent():
        await bench.published(UnitName("good.service"), is_up)
        await bench.published(unit, has_failed)


async def test_malformed_rows_are_passed_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    rows = {"x.service": b"not json", "../../etc/passwd": b"{}", "noname": b'{"hash":"a"}'}
    await bench.store.commit(
        [], [Put(KEYS.assignment(ME, UnitName(n)), v) for n, v in rows.items()]
    )
    await bench.schedule("..%2f.service")
    async with bench.agent():
        await bench.up("web.service")

    assert [path.name for path in (tmp_path / "units").iterdir()] == ["web.service"]


async def test_unit_that_conflicts_with_one_that_goes_waits_for_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        text = f"{SLEEPER}ExecStop=/bin/sleep 20\n\n[X-Fleet]\nConflicts=new.service\n"
        old = await bench.up("old.service", text)
        await bench.unschedule(old)
        new = await bench.schedule("new.service")
        await asyncio.sleep(10)
        state = await bench.state(new)
        assert state is not None
        assert (state.active, state.has_failed) == ("inactive", False)
        assert "old.service" in state.journal[-1]
        assert not {("start", new)} & set(bench.asked())

        await bench.published(new, is_up)
        assert bench.systemd.live == {new}


async def test_wiped_store_stops_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent() as agent:
        unit = await bench.up("web.service")
        everything = (await bench.store.read("/")).entries
        await bench.store.commit([], [Delete(key) for key in everything])
        await asyncio.sleep(3 * FULL_PASS_S)
        assert bench.systemd.live == {unit}
        assert "as if it had been wiped" in agent.problem

        await bench.registry.apply([UnitChange(name=unit, file=parse_unit(SLEEPER))], by="me")
        await bench.registry.destroy(unit, by="me")
        await asyncio.sleep(2 * DOUBT_S)
        assert bench.systemd.live == frozenset()


async def test_units_taken_away_while_cut_off_are_stopped(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        unit = await bench.up("web.service")
        await bench.registry.apply([UnitChange(name=unit, file=parse_unit(SLEEPER))], by="me")
        await bench.store.commit([], [Delete(KEYS.machine(ME))])
        await bench.unschedule(unit)
        await asyncio.sleep(5)

        assert bench.systemd.live == frozenset()


async def test_new_lease_has_every_state_published_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent() as agent:
        unit = await bench.up("web.service")
        assert bench.lease is not None
        await bench.store.revoke(bench.lease)
        agent.use_lease(None)
        assert await bench.state(unit) is None
        bench.lease = await bench.store.grant(TTL_S)
        agent.use_lease(bench.lease)

        await bench.published(unit, is_up)
