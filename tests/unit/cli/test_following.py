"""Following units along a scripted stream of reports, on a virtual clock."""

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from cli.following import Screen, follow
from cli.waiting import REFUSAL_STANDS_S, Aim, Failed, Goal, Pending, Reached, Verdict, judge
from fleet.api.reports import UnitReport
from fleet.errors import Unavailable
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState, UnitState

HERE = MachineId("113f16a7b5be4a7ba3a9d58bf1b0b2c1")
WEB, DB = UnitName("web.service"), UnitName("db.service")
START = Goal(aim=Aim.LAUNCHED)


def _report(name: UnitName, active: str, **state: str) -> UnitReport:
    told = UnitState(
        unit=name,
        machine=HERE,
        hash="h",
        current=TargetState.LAUNCHED,
        load="loaded",
        active=active,
        sub="x",
        job="done",
    )
    return UnitReport(
        name=name,
        exists=True,
        hash="h",
        desired=TargetState.LAUNCHED,
        current=TargetState.LAUNCHED,
        machine=HERE,
        states=(replace(told, **state),),  # type: ignore[arg-type]
    )


def _refused(name: UnitName) -> UnitReport:
    return replace(_report(name, "x"), machine=None, states=(), refusals={HERE: "no"})


@dataclass(slots=True)
class Script:
    """A stream that tells each report at its moment, and then ends or goes on in silence."""

    steps: Sequence[tuple[float, UnitReport]]
    ends: bool = False
    watched: list[UnitName] = field(default_factory=list)

    async def watch(self, names: Sequence[UnitName]) -> AsyncGenerator[UnitReport, None]:
        self.watched += names
        for at_s, report in self.steps:
            await asyncio.sleep(at_s - asyncio.get_running_loop().time())
            yield report
        if not self.ends:
            await asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class Told:
    """What was said of which unit, and when."""

    lines: list[tuple[float, UnitName, Verdict]] = field(default_factory=list)

    def __call__(self, name: UnitName, verdict: Reached | Failed) -> None:
        self.lines.append((round(asyncio.get_running_loop().time(), 3), name, verdict))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def _follow(
    script: Script, goals: Mapping[UnitName, Goal], *, limit_s: float | None = None
) -> tuple[Mapping[UnitName, Verdict], Told]:
    told = Told()
    screen = Screen(io.StringIO())
    return await follow(
        script, goals, settled=told, judge=judge, limit_s=limit_s, screen=screen
    ), told


async def test_each_unit_is_told_of_when_it_comes_to_its_goal() -> None:
    script = Script(
        [
            (0.0, _report(WEB, "activating")),
            (0.0, _report(DB, "activating")),
            (0.5, _report(DB, "active")),
            (2.0, _report(WEB, "active")),
        ]
    )
    verdicts, told = await _follow(script, {WEB: START, DB: START})
    assert [(at, name) for at, name, _ in told.lines] == [(0.5, DB), (2.0, WEB)]
    assert all(isinstance(verdict, Reached) for verdict in verdicts.values())
    assert script.watched == [WEB, DB]


async def test_nothing_to_follow_asks_for_nothing() -> None:
    script = Script([])
    assert await _follow(script, {}) == ({}, Told())
    assert script.watched == []


async def test_refusal_counts_once_it_has_stood() -> None:
    script = Script([(0.0, _refused(WEB)), (0.2, _refused(WEB))])
    verdicts, told = await _follow(script, {WEB: START})
    assert isinstance(verdicts[WEB], Failed)
    assert told.lines[0][0] == REFUSAL_STANDS_S


async def test_refusal_that_passes_is_not_told() -> None:
    script = Script(
        [(0.0, _refused(WEB)), (0.9, _report(WEB, "activating")), (5.0, _report(WEB, "active"))]
    )
    verdicts, told = await _follow(script, {WEB: START})
    assert isinstance(verdicts[WEB], Reached)
    assert [at for at, _, _ in told.lines] == [5.0]


async def test_failure_waits_a_moment_for_its_journal() -> None:
    failed = _report(WEB, "failed", result="exit-code")
    with_journal = replace(failed, states=(replace(failed.states[0], journal=("why",)),))
    script = Script([(0.0, failed), (0.1, with_journal)])
    verdicts, told = await _follow(script, {WEB: START})
    assert told.lines[0][0] == 0.1
    verdict = verdicts[WEB]
    assert isinstance(verdict, Failed)
    assert "    why" in verdict.lines


async def test_limit_bounds_the_wait() -> None:
    script = Script([(0.0, _report(WEB, "activating")), (0.0, _report(DB, "active"))])
    loop = asyncio.get_running_loop()
    verdicts, told = await _follow(script, {WEB: START, DB: START}, limit_s=6.0)
    assert loop.time() == pytest.approx(6.0)
    assert isinstance(verdicts[WEB], Pending)
    assert isinstance(verdicts[DB], Reached)
    assert [name for _, name, _ in told.lines] == [DB]


async def test_end_of_the_stream_is_a_loss() -> None:
    script = Script([(0.0, _report(WEB, "activating"))], ends=True)
    with pytest.raises(
        Unavailable, match=r"Lost the cluster while waiting for web\.service"
    ) as lost:
        await _follow(script, {WEB: START})
    assert "fleetctl list-units" in str(lost.value)


async def test_terminal_shows_what_is_waited_for_and_is_left_clean() -> None:
    script = Script([(0.0, _report(WEB, "activating")), (3.0, _report(WEB, "active"))])
    terminal = Terminal()
    await follow(script, {WEB: START}, settled=Told(), judge=judge, screen=Screen(terminal))
    shown = terminal.getvalue()
    assert "waiting for web.service: activating (x) on 113f16a7..." in shown
    assert shown.endswith("\r\x1b[K")


async def test_short_waits_show_nothing_on_a_terminal() -> None:
    script = Script([(0.0, _report(WEB, "activating")), (0.9, _report(WEB, "active"))])
    terminal = Terminal()
    await follow(script, {WEB: START}, settled=Told(), judge=judge, screen=Screen(terminal))
    assert terminal.getvalue() == ""


async def test_long_waits_are_noted_now_and_then_in_a_log() -> None:
    script = Script([(0.0, _report(WEB, "activating")), (70.0, _report(WEB, "active"))])
    log = io.StringIO()
    await follow(script, {WEB: START}, settled=Told(), judge=judge, screen=Screen(log))
    assert len(log.getvalue().splitlines()) == 2
