"""When a unit that was moved has arrived, and when it stays where it was."""

from dataclasses import replace

import pytest

from cli.rebalancing import judge_move
from cli.waiting import CONTRADICTION_STANDS_S, JOB_FOLLOWS_S, Failed, Pending, Reached
from fleet.api.reports import UnitReport
from tests.unit.cli.moving import HERE, MOVING, REPORT, ROW, THERE, UP

_BACK = replace(REPORT, assignments=(replace(ROW, reason="it stays there after all"),))


def test_move_is_waited_for_until_the_unit_is_up_there_and_gone_from_here() -> None:
    assert judge_move(MOVING, HERE) == Pending("it goes when it is up on 2222bbbb.../10.0.0.2")
    up_there = replace(UP, machine=THERE)
    both = replace(MOVING, assignments=MOVING.assignments[1:], states=(UP, up_there))
    assert judge_move(both, HERE) == Pending("it stops on 113f16a7.../10.0.0.1")
    moved = Reached("Unit web.service launched on 2222bbbb.../10.0.0.2")
    assert judge_move(replace(both, states=(up_there,)), HERE) == moved


@pytest.mark.parametrize(
    ("report", "why"),
    [
        pytest.param(REPORT, "it is there", id="what is told is older than the move"),
        pytest.param(_BACK, "it stays there after all", id="its new machine was lost"),
    ],
)
def test_unit_that_does_not_leave_stays_once_that_has_stood_a_while(
    report: UnitReport, why: str
) -> None:
    said = f"Unit web.service stays on 113f16a7.../10.0.0.1 after all: {why}"
    assert judge_move(report, HERE) == Failed((said,), CONTRADICTION_STANDS_S)


def test_unit_that_fails_there_is_told_with_its_last_words() -> None:
    failed = replace(
        UP, machine=THERE, active="failed", sub="failed", result="exit-code", journal=("no disk",)
    )
    verdict = judge_move(replace(MOVING, states=(UP, failed)), HERE)
    assert isinstance(verdict, Failed)
    assert verdict.stands_s == JOB_FOLLOWS_S
    assert verdict.lines[0] == (
        "Unit web.service stays on 113f16a7.../10.0.0.1, because it fails on 2222bbbb.../10.0.0.2:"
    )
    assert "    no disk" in verdict.lines
