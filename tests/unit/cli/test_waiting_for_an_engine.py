"""What is waited for takes an engine: without one it is said why nothing happens."""

from dataclasses import replace

import pytest

from cli.waiting import LEADERLESS_STANDS_S, Aim, Failed, Goal, Pending, Reached, judge
from fleet.api.reports import ReportedAssignment, UnitReport
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState, UnitState

HERE = MachineId("113f16a7aaaaaaaaaaaaaaaaaaaaaaaa")
WEB = UnitName("web.service")
LAUNCHED, LOADED, INACTIVE = TargetState.LAUNCHED, TargetState.LOADED, TargetState.INACTIVE
UNPLACED = UnitReport(name=WEB, exists=True, hash="h", desired=LAUNCHED, leaderless=True)
STARTING = replace(
    UNPLACED,
    machine=HERE,
    assignments=(ReportedAssignment(machine=HERE, target=LAUNCHED),),
    states=(
        UnitState(
            unit=WEB,
            machine=HERE,
            hash="h",
            current=LAUNCHED,
            load="loaded",
            active="activating",
            sub="start",
        ),
    ),
)
START = Goal(aim=Aim.LAUNCHED, hash="h")


@pytest.mark.parametrize(
    ("report", "goal", "wish"),
    [
        pytest.param(UNPLACED, START, "stays launched in the cluster", id="start, on no machine"),
        pytest.param(
            replace(STARTING, desired=LOADED),
            Goal(aim=Aim.STOPPED),
            "stays loaded in the cluster",
            id="stop of what runs",
        ),
        pytest.param(
            replace(STARTING, desired=INACTIVE),
            Goal(aim=Aim.INACTIVE),
            "stays inactive in the cluster",
            id="unload of what runs",
        ),
        pytest.param(
            replace(STARTING, exists=False, desired=None),
            Goal(aim=Aim.GONE),
            "is destroyed",
            id="destroy of what runs",
        ),
    ],
)
def test_what_takes_an_engine_fails_without_one_after_a_while(
    report: UnitReport, goal: Goal, wish: str
) -> None:
    verdict = judge(report, goal)

    assert isinstance(verdict, Failed)
    assert "because no engine leads the cluster" in verdict.lines[0]
    assert verdict.lines[1].startswith(f"It {wish}")
    assert verdict.stands_s == LEADERLESS_STANDS_S
    assert not isinstance(judge(replace(report, leaderless=False), goal), Failed)


def test_patient_goal_waits_for_an_engine() -> None:
    verdict = judge(UNPLACED, replace(START, patient=True))

    assert verdict == Pending("no engine leads the cluster")


def test_unit_that_is_on_its_way_takes_no_engine() -> None:
    assert isinstance(judge(STARTING, START), Pending)
    (state,) = STARTING.states
    up = replace(STARTING, states=(replace(state, active="active", sub="running", job="done"),))
    assert isinstance(judge(up, START), Reached)
