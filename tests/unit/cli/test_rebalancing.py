"""When a unit that was moved has arrived, and when it stays where it was."""

from dataclasses import replace

import pytest

from cli.rebalancing import judge_move
from cli.waiting import CONTRADICTION_STANDS_S, JOB_FOLLOWS_S, Failed, Pending, Reached
from fleet.api.reports import ReportedAssignment, UnitReport
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState, UnitState

FULL = MachineId("113f16a7aaaaaaaaaaaaaaaaaaaaaaaa")
NEW = MachineId("2222bbbbaaaaaaaaaaaaaaaaaaaaaaaa")
WEB = UnitName("web.service")
_UP = UnitState(
    unit=WEB,
    machine=FULL,
    hash="h",
    current=TargetState.LAUNCHED,
    load="loaded",
    active="active",
    sub="running",
    job="done",
)
_ROW = ReportedAssignment(machine=FULL, target=TargetState.LAUNCHED)
_BEFORE = UnitReport(
    name=WEB,
    exists=True,
    desired=TargetState.LAUNCHED,
    machine=FULL,
    states=(_UP,),
    assignments=(_ROW,),
    addresses={FULL: "10.0.0.1", NEW: "10.0.0.2"},
)
_MOVING = replace(
    _BEFORE,
    machine=NEW,
    assignments=(replace(_ROW, leaving=True), replace(_ROW, machine=NEW)),
)
_BACK = replace(_BEFORE, assignments=(replace(_ROW, reason="it stays there after all"),))


def test_move_is_waited_for_until_the_unit_is_up_there_and_gone_from_here() -> None:
    assert judge_move(_MOVING, FULL) == Pending("it goes when it is up on 2222bbbb.../10.0.0.2")
    up_there = replace(_UP, machine=NEW)
    both = replace(_MOVING, assignments=_MOVING.assignments[1:], states=(_UP, up_there))
    assert judge_move(both, FULL) == Pending("it stops on 113f16a7.../10.0.0.1")
    moved = Reached("Unit web.service launched on 2222bbbb.../10.0.0.2")
    assert judge_move(replace(both, states=(up_there,)), FULL) == moved


@pytest.mark.parametrize(
    ("report", "why"),
    [
        pytest.param(_BEFORE, "it is there", id="what is told is older than the move"),
        pytest.param(_BACK, "it stays there after all", id="its new machine was lost"),
    ],
)
def test_unit_that_does_not_leave_stays_once_that_has_stood_a_while(
    report: UnitReport, why: str
) -> None:
    said = f"Unit web.service stays on 113f16a7.../10.0.0.1 after all: {why}"
    assert judge_move(report, FULL) == Failed((said,), CONTRADICTION_STANDS_S)


def test_unit_that_fails_there_is_told_with_its_last_words() -> None:
    failed = replace(
        _UP, machine=NEW, active="failed", sub="failed", result="exit-code", journal=("no disk",)
    )
    verdict = judge_move(replace(_MOVING, states=(_UP, failed)), FULL)
    assert isinstance(verdict, Failed)
    assert verdict.stands_s == JOB_FOLLOWS_S
    assert verdict.lines[0] == (
        "Unit web.service stays on 113f16a7.../10.0.0.1, because it fails on 2222bbbb.../10.0.0.2:"
    )
    assert "    no disk" in verdict.lines
