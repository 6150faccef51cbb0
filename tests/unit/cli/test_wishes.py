"""What `wait` makes of reports."""

from dataclasses import replace

import pytest

from cli.waiting import Failed, Pending, Reached
from cli.wishes import Wish, judge_wish
from fleet.api.reports import ReportedAssignment, UnitReport
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import Health, TargetState, UnitState

HERE = MachineId("113f16a7aaaaaaaaaaaaaaaaaaaaaaaa")
THERE = MachineId("2222bbbbaaaaaaaaaaaaaaaaaaaaaaaa")
UP = UnitState(
    unit=UnitName("web.service"),
    machine=HERE,
    hash="h",
    current=TargetState.LAUNCHED,
    load="loaded",
    active="active",
    sub="running",
)
STOPPED = replace(UP, active="inactive", sub="dead", current=TargetState.LOADED)
FAILED = replace(UP, active="failed", sub="failed", result="exit-code", journal=("oops",))
RUNS = UnitReport(
    name=UP.unit,
    exists=True,
    desired=TargetState.LAUNCHED,
    current=TargetState.LAUNCHED,
    machine=HERE,
    states=(UP,),
    assignments=(ReportedAssignment(machine=HERE, target=TargetState.LAUNCHED),),
    addresses={HERE: "10.0.0.1"},
)
STORED = replace(RUNS, desired=TargetState.INACTIVE, machine=None, states=(), assignments=())
EVERYWHERE = replace(
    RUNS,
    is_global=True,
    assignments=(
        *RUNS.assignments,
        ReportedAssignment(machine=THERE, target=TargetState.LAUNCHED),
    ),
)
GONE = UnitReport(name=UP.unit)
LEAVING = ReportedAssignment(machine=THERE, target=TargetState.LAUNCHED, leaving=True)
ILL = replace(UP, health=Health.FAILED)
AGAIN = replace(FAILED, active="activating", sub="auto-restart")


@pytest.mark.parametrize(
    ("report", "wish", "kind", "says"),
    [
        pytest.param(RUNS, "active", Reached, "active on 113f16a7.../10.0.0.1", id="it runs"),
        pytest.param(STORED, "active", Pending, "target state is inactive", id="only stored"),
        pytest.param(
            replace(STORED, refusals={HERE: "no"}), "active", Pending, "fleetctl why", id="refused"
        ),
        pytest.param(replace(STORED, leaderless=True), "active", Pending, "leads", id="no engine"),
        pytest.param(EVERYWHERE, "active", Pending, "not there yet on 2222", id="one is missing"),
        pytest.param(
            replace(EVERYWHERE, states=(UP, replace(UP, machine=THERE))),
            "active",
            Reached,
            "113f16a7.../10.0.0.1, 2222bbbb...",
            id="on all machines",
        ),
        pytest.param(
            replace(RUNS, assignments=(*RUNS.assignments, LEAVING)),
            "active",
            Reached,
            "active on 113f16a7",
            id="a copy that leaves does not count",
        ),
        pytest.param(replace(RUNS, states=(FAILED,)), "active", Failed, "exit-code", id="failed"),
        pytest.param(
            replace(RUNS, states=(replace(UP, health=Health.CHECKING),)),
            "active",
            Pending,
            "its health is being checked",
            id="its health is checked",
        ),
        pytest.param(replace(RUNS, states=(ILL,)), "active", Failed, "HealthCommand", id="ill"),
        pytest.param(replace(RUNS, states=(AGAIN,)), "active", Pending, "auto-restart", id="again"),
        pytest.param(GONE, "active", Failed, "destroyed meanwhile", id="destroyed meanwhile"),
        pytest.param(RUNS, "inactive", Pending, "still active (running)", id="it still runs"),
        pytest.param(replace(RUNS, states=(STOPPED,)), "inactive", Reached, "", id="stopped"),
        pytest.param(
            replace(RUNS, states=(FAILED,)), "inactive", Reached, "", id="at rest: failed"
        ),
        pytest.param(GONE, "inactive", Reached, "inactive", id="destroyed counts as inactive"),
        pytest.param(STORED, "gone", Pending, "in the cluster", id="still stored"),
        pytest.param(replace(GONE, states=(UP,)), "gone", Pending, "still active", id="stopping"),
        pytest.param(GONE, "gone", Reached, "gone", id="gone"),
    ],
)
def test_wish_is_judged(
    report: UnitReport, wish: str, kind: type[Reached | Failed | Pending], says: str
) -> None:
    verdict = judge_wish(report, Wish(wish))
    assert isinstance(verdict, kind)
    match verdict:
        case Reached(line=line):
            assert says in line
        case Failed(lines=lines):
            assert says in "\n".join(lines)
        case Pending(reason=reason):
            assert says in reason
