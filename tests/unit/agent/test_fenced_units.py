"""Fenced units under the agent: claimed, started, stopped by the fence, started again, let go."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.fake import FakeSystemd
from agent.fence import Fence
from agent.fencing import FencedUnits, was_launched_unfenced
from agent.local import LocalUnit, LocalUnits, Note, requirements_of
from agent.loop import FULL_PASS_S, Agent
from fleet.claims import Claims
from fleet.errors import Conflict, Unavailable
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.store.port import MAX_TXN_OPS, Commit, Delete, Guard, Put
from fleet.unit import parse_unit
from tests.unit.agent.test_loop import KEYS, ME, Bench, is_up, now_s
from tests.unit.town.troubled import Fate, TroubledStore

TTL_S = 6.0
SOLO = "[Service]\nExecStart=/bin/sleep infinity\nTimeoutStopSec=5\n[X-Fleet]\nFenced=true\n"
SLOW = SOLO.replace("TimeoutStopSec", "ExecStop=/bin/sleep 4\nTimeoutStopSec")
UNFENCED = SOLO.replace("Fenced=true\n", "")
ONESHOT = "[Service]\nType=oneshot\nExecStart=/bin/sleep 1\n[X-Fleet]\nFenced=true\n"


@dataclass
class FencedBench(Bench):
    """A machine whose lease is renewed as long as `renews` says so."""

    renews: bool = True
    fence: Fence | None = None
    agents: list[Agent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.systemd = FakeSystemd(drop_ins=self.folder / "drop-ins")

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[Agent]:
        fence = self.fence = Fence(
            self.systemd,
            self.folder / "fence",
            ttl_s=TTL_S,
            changed=self._nudge,
        )
        if self.lease is None:
            self.lease = await self.store.grant(1e6)
        agent = Agent(
            registry=Registry(self.store.connect(), KEYS),
            systemd=self.systemd,
            units=LocalUnits(
                self.folder / "units", boot_id=self.boot_id, drop_ins=self.folder / "drop-ins"
            ),
            machine=ME,
            fence=fence,
        )
        self.agents = [agent]
        agent.use_lease(self.lease)
        tasks = [
            asyncio.create_task(part) for part in (agent.run(), fence.run(), self._beat(fence))
        ]
        try:
            yield agent
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _nudge(self) -> None:
        for agent in self.agents:
            agent.nudge()

    async def _beat(self, fence: Fence) -> None:
        while True:
            if self.renews:
                fence.renewed(now_s())
            await asyncio.sleep(TTL_S / 3)

    async def claims(self) -> frozenset[UnitName]:
        return frozenset(await Claims(self.store, KEYS, ME).held())

    def is_running(self, unit: UnitName) -> bool:
        return unit in self.systemd.live


async def until(bench: FencedBench, unit: UnitName, *, up: bool, within_s: float = 30.0) -> None:
    deadline_s = now_s() + within_s
    while bench.is_running(unit) is not up:
        assert now_s() < deadline_s, f"{unit} is {'not ' if up else ''}running"
        await asyncio.sleep(0.01)


async def test_fenced_unit_is_claimed_before_it_starts(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        unit = await bench.up("solo.service", SOLO)

        assert await bench.claims() == {unit}
        claim = (await bench.store.read(KEYS.claim(ME, unit))).entries[KEYS.claim(ME, unit)]
        assert claim.value == b'{"stop": 6.0}'
        assert (tmp_path / "drop-ins/solo.service.d/zz-fleet-fence.conf").exists()


async def test_first_fenced_unit_of_a_machine_waits_for_no_full_pass(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        await bench.up("web.service")
        await asyncio.sleep(10)
        unit = await bench.schedule("solo.service", SOLO)

        await until(bench, unit, up=True, within_s=5.0)


async def test_release_that_arrives_late_takes_no_newer_claim_away() -> None:
    class Late(MemoryStore):
        """Its first removal of a key arrives only when it is told to."""

        late: list[tuple[Sequence[Guard], Sequence[Put | Delete]]] | None = None

        async def commit(
            self, guards: Sequence[Guard], operations: Sequence[Put | Delete]
        ) -> Commit:
            if self.late is None and isinstance(operations[0], Delete):
                self.late = [(guards, operations)]
                raise Unavailable("given up, for a test")
            return await super().commit(guards, operations)

    store, unit = Late(), UnitName("solo.service")
    claims = Claims(store, KEYS, ME)
    await claims.take(unit, 0, {unit: 5.0})
    with pytest.raises(Unavailable):
        await claims.release([unit])
    await claims.take(unit, 0, {unit: 5.0})
    assert store.late is not None
    await store.commit(*store.late[0])

    assert await claims.held() == {unit: 5.0}
    await claims.release([unit])
    assert await claims.held() == {}


async def test_more_claims_are_released_than_one_transaction_takes() -> None:
    store = MemoryStore()
    claims = Claims(store, KEYS, ME)
    units = {UnitName(f"u{number}.service"): 5.0 for number in range(100)}
    await claims.take(UnitName("a.service"), 0, units)
    more = {UnitName(f"v{number}.service"): 5.0 for number in range(100)}
    await claims.take(UnitName("b.service"), 0, more)

    await claims.release([*units, *more])

    assert await claims.held() == {}


async def test_machine_has_more_fenced_units_than_one_transaction_takes(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    units = {UnitName(f"u{number}.service") for number in range(MAX_TXN_OPS + 2)}
    async with bench.agent():
        for unit in units:
            await bench.schedule(unit, SOLO)
        await asyncio.sleep(5)

        assert units <= bench.systemd.live
        assert await bench.claims() == units


async def test_claim_tells_of_the_units_that_stop_before_it(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    claims = Claims(bench.store, KEYS, ME)
    async with bench.agent():
        first = await bench.up("solo.service", SOLO)
        second = await bench.up("late.service", f"[Unit]\nAfter={first}\n{SOLO}")
        assert await claims.held() == {first: 12.0, second: 6.0}

    async with bench.agent():
        third = await bench.up("later.service", f"[Unit]\nAfter={first}\n{SLOW}")
        assert await claims.held() == {first: 17.0, second: 6.0, third: 11.0}


async def test_claims_told_in_several_transactions_have_the_units_own_last() -> None:
    store = MemoryStore()
    claims = Claims(store, KEYS, ME)
    own = UnitName("a.service")
    others = {UnitName(f"b{number}.service"): 5.0 for number in range(2 * MAX_TXN_OPS)}

    await claims.take(own, 0, {own: 5.0} | others)

    entries = dict((await store.read(KEYS.claims)).entries)
    own_entry = entries.pop(KEYS.claim(ME, own))
    assert {KEYS.claim(ME, unit) for unit in others} == entries.keys()
    assert own_entry.modified >= max(entry.modified for entry in entries.values())
    assert own_entry.modified > min(entry.modified for entry in entries.values())


async def test_what_is_claimed_is_known_though_more_is_claimed_while_it_is_read(
    tmp_path: Path,
) -> None:
    bench = FencedBench(tmp_path)
    other = UnitName("other.service")
    async with bench.agent():
        unit = await bench.up("solo.service", SOLO)
        row = (await bench.store.read(KEYS.schedule)).entries[KEYS.assignment(ME, unit)].modified
        store = TroubledStore(bench.store.connect())
        local = LocalUnits(tmp_path / "units", boot_id=bench.boot_id)
        local.read()
        fenced = FencedUnits(bench.fence, Claims(store, KEYS, ME), local)
        await Claims(bench.store, KEYS, ME).release([unit])
        await bench.store.commit([], [Put(KEYS.claim(ME, other), b"no claim")])

        store.fates.append(Fate.HELD)
        recalling = asyncio.create_task(fenced.recall())
        await asyncio.sleep(0)
        await fenced.admit(unit, row)
        await recalling

        assert fenced.claimed == {unit, other}


async def test_unfenced_unit_costs_no_fence(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        await bench.up("web.service")

        assert await bench.claims() == frozenset()
        assert not bench.asked("start_at")
        assert not (tmp_path / "drop-ins").exists()


async def test_unit_does_not_start_without_a_renewed_lease(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path, renews=False)
    async with bench.agent():
        unit = await bench.schedule("solo.service", SOLO)
        state = await bench.published(unit, lambda state: state is not None)
        await asyncio.sleep(60)

        assert not bench.is_running(unit)
        assert await bench.claims() == frozenset()
        assert state is not None
        assert "it is fenced" in state.journal[-1]


async def test_unit_that_the_fence_stopped_starts_again_with_the_lease(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        unit = await bench.up("solo.service", SOLO)
        bench.renews = False
        await until(bench, unit, up=False)
        await asyncio.sleep(20)
        assert not bench.is_running(unit)
        assert await bench.claims() == {unit}, "it is scheduled here all the same"

        bench.renews = True
        await until(bench, unit, up=True)


async def test_unit_that_the_fence_stopped_while_fleetd_was_away_starts_again(
    tmp_path: Path,
) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        unit = await bench.up("solo.service", SOLO)
    await until(bench, unit, up=False)

    async with bench.agent():
        await until(bench, unit, up=True)


async def test_fleetd_that_starts_anew_in_time_touches_nothing(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        unit = await bench.up("solo.service", SOLO)
    await asyncio.sleep(2)
    async with bench.agent():
        await asyncio.sleep(30)

        assert bench.is_running(unit)
        assert bench.asked("start").count(("start", "solo.service")) == 1


async def test_unit_that_ended_by_itself_stays_as_it_is(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        unit = await bench.up("once.service", ONESHOT)
        await until(bench, unit, up=False)
        bench.renews = False
        await asyncio.sleep(20)
        bench.renews = True
        await asyncio.sleep(20)

        assert bench.asked("start").count(("start", "once.service")) == 1


async def test_claim_is_given_back_when_the_unit_has_stopped(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        unit = await bench.up("solo.service", SLOW)
        await bench.up("web.service")
        await bench.unschedule(unit)
        await asyncio.sleep(3)
        assert bench.is_running(unit)
        assert await bench.claims() == {unit}

        await until(bench, unit, up=False)
        await asyncio.sleep(1)
        assert await bench.claims() == frozenset()
        assert not (tmp_path / "drop-ins/solo.service.d").exists()


async def test_claim_on_a_row_that_has_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    unit = await bench.schedule("solo.service", SOLO)
    key = KEYS.assignment(ME, unit)
    row = (await bench.store.read(key)).entries[key]
    claims = Claims(bench.store, KEYS, ME)
    await bench.unschedule(unit)

    with pytest.raises(Conflict, match="scheduled otherwise by now"):
        await claims.take(unit, row.modified, {unit: 1.0})
    assert await claims.held() == {}


async def test_claims_left_over_from_before_are_given_back(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    other = UnitName("other.service")
    await bench.schedule("web.service")
    await bench.store.commit([], [Put(KEYS.claim(ME, other), b"{}")])
    async with bench.agent():
        await bench.published(UnitName("web.service"), is_up)
        await asyncio.sleep(1)

        assert await bench.claims() == frozenset()


async def test_unit_that_becomes_fenced_while_it_runs_starts_anew_behind_the_fence(
    tmp_path: Path,
) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        unit = await bench.up("solo.service", UNFENCED)
        await bench.schedule("solo.service", SOLO)
        await asyncio.sleep(TTL_S)
        calls = [action for action, *names in bench.asked("start", "stop") if unit in names]
        assert calls == ["start", "stop", "start"]
        assert await bench.claims() == {unit}
        assert (tmp_path / "drop-ins/solo.service.d/zz-fleet-fence.conf").exists()

        bench.renews = False
        await until(bench, unit, up=False)


async def test_unit_that_becomes_fenced_does_not_start_anew_without_a_fence(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path, renews=False)
    async with bench.agent():
        unit = await bench.up("solo.service", UNFENCED)
        await bench.schedule("solo.service", SOLO)
        await until(bench, unit, up=False)
        await asyncio.sleep(30)
        assert not bench.is_running(unit)

        bench.renews = True
        await until(bench, unit, up=True)
        assert await bench.claims() == {unit}


async def test_claim_is_held_until_what_ran_fenced_has_stopped_and_no_longer(
    tmp_path: Path,
) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        unit = await bench.up("solo.service", SLOW)
        await bench.schedule("solo.service", UNFENCED)
        await asyncio.sleep(3)
        assert ("stop", unit) in bench.asked()
        assert bench.is_running(unit)
        assert await bench.claims() == {unit}

        await until(bench, unit, up=False)
        await until(bench, unit, up=True)
        assert await bench.claims() == frozenset()


async def test_claim_of_an_earlier_boot_is_given_back_though_the_unit_runs_unfenced(
    tmp_path: Path,
) -> None:
    bench = FencedBench(tmp_path)
    unit = await bench.schedule("solo.service", UNFENCED)
    await bench.store.commit([], [Put(KEYS.claim(ME, unit), b'{"stop": 5.0}')])
    async with bench.agent():
        await until(bench, unit, up=True)
        await asyncio.sleep(1)

        assert await bench.claims() == frozenset()


async def test_claim_that_the_store_did_not_take_back_in_time_is_given_back_later(
    tmp_path: Path,
) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        unit = await bench.up("web.service", UNFENCED)
        await bench.store.commit([], [Put(KEYS.claim(ME, unit), b'{"stop": 5.0}')])
        await asyncio.sleep(FULL_PASS_S + 1)

        assert await bench.claims() == frozenset()
        assert bench.asked("stop") == []


@pytest.mark.parametrize(
    ("note", "text", "was"),
    [
        pytest.param(Note(hash="", launched=True), UNFENCED, True, id="launched-unfenced"),
        pytest.param(Note(hash="", launched=True, lease="1"), UNFENCED, False, id="under-a-lease"),
        pytest.param(Note(hash="", launched=True), SOLO, False, id="fenced-since"),
        pytest.param(Note(hash=""), UNFENCED, False, id="not-launched"),
        pytest.param(None, UNFENCED, False, id="nothing-is-noted"),
    ],
)
def test_unit_was_launched_unfenced_if_its_note_and_its_file_say_so(
    note: Note | None, text: str, was: bool
) -> None:
    unit, file = UnitName("solo.service"), parse_unit(text)
    asks = requirements_of(unit, file)

    assert was_launched_unfenced(LocalUnit(unit=unit, note=note, requirements=asks)) is was


async def test_fenced_units_alone_leave_a_machine_that_goes_down(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent() as agent:
        solos = [await bench.up(f"solo{number}.service", SOLO) for number in (1, 2, 3)]
        web = await bench.up("web.service")
        assert agent.has_fenced

        assert await agent.depart(30, fenced_only=True) == ()
        assert not any(bench.is_running(solo) for solo in solos)
        assert bench.is_running(web)
        assert await bench.claims() == frozenset()


async def test_unit_that_is_only_loaded_is_not_claimed(tmp_path: Path) -> None:
    bench = FencedBench(tmp_path)
    async with bench.agent():
        await bench.schedule("solo.service", SOLO, target=TargetState.LOADED)
        await asyncio.sleep(5)

        assert await bench.claims() == frozenset()
