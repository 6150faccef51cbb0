from dataclasses import replace

import pytest

from cli.tables import clock_time
from cli.waiting import (
    CONTRADICTION_STANDS_S,
    JOB_FOLLOWS_S,
    JOURNAL_FOLLOWS_S,
    REFUSAL_STANDS_S,
    Aim,
    Failed,
    Goal,
    Pending,
    Reached,
    Verdict,
    judge,
)
from fleet.api.reports import ReportedAssignment, UnitReport
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import Health, TargetState, UnitState

HERE = MachineId("113f16a7aaaaaaaaaaaaaaaaaaaaaaaa")
THERE = MachineId("2222bbbbaaaaaaaaaaaaaaaaaaaaaaaa")
WEB = UnitName("web.service")
LEGEND = "113f16a7.../172.17.8.103"

_UP = UnitState(
    unit=WEB,
    machine=HERE,
    hash="new",
    current=TargetState.LAUNCHED,
    load="loaded",
    active="active",
    sub="running",
    job="done",
    result="success",
)
_LAUNCHED = UnitReport(
    name=WEB,
    exists=True,
    hash="new",
    desired=TargetState.LAUNCHED,
    current=TargetState.LAUNCHED,
    machine=HERE,
    states=(_UP,),
    assignments=(ReportedAssignment(machine=HERE, target=TargetState.LAUNCHED),),
    addresses={HERE: "172.17.8.103"},
)
_KEPT = replace(
    _LAUNCHED,
    hash="newer",
    refusals={"": "a.service fails with its new contents"},
)
_LOADED_STATE = replace(_UP, current=TargetState.LOADED, active="inactive", sub="dead")
_LOADED = replace(
    _LAUNCHED, desired=TargetState.LOADED, current=TargetState.LOADED, states=(_LOADED_STATE,)
)
_INACTIVE = replace(
    _LAUNCHED,
    desired=TargetState.INACTIVE,
    current=TargetState.INACTIVE,
    machine=None,
    states=(),
    assignments=(),
)
_REFUSED = replace(
    _INACTIVE,
    desired=TargetState.LAUNCHED,
    refusals={HERE: "the machine has no disk", THERE: "it conflicts with a.service here"},
)
_GONE = UnitReport(name=WEB)

_START = Goal(aim=Aim.LAUNCHED, hash="new")
_LOAD = Goal(aim=Aim.LOADED, hash="new")
_STOP = Goal(aim=Aim.STOPPED)
_UNLOAD = Goal(aim=Aim.INACTIVE)
_DESTROY = Goal(aim=Aim.GONE)

_STARTED = Reached(f"Unit web.service launched on {LEGEND}")


def _with(report: UnitReport, state: UnitState) -> UnitReport:
    return replace(report, states=(state,))


def _started_with(**changes: object) -> UnitReport:
    return _with(_LAUNCHED, replace(_UP, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("report", "goal", "verdict"),
    [
        pytest.param(
            replace(_LAUNCHED, states=(), addresses={}, hold="they vanished"),
            _START,
            Pending("its machine 113f16a7... is held (see fleetctl hold): they vanished"),
            id="its machine is held",
        ),
        pytest.param(
            _started_with(health=Health.CHECKING, health_reason="timeout"),
            _START,
            Pending(f"active (running), its health is being checked: timeout, on {LEGEND}"),
            id="its health is checked",
        ),
        pytest.param(_started_with(health=Health.OK), _START, _STARTED, id="healthy"),
        pytest.param(
            replace(_LAUNCHED, states=(), addresses={}, fence="it is fenced, and waits"),
            _START,
            Pending("it is fenced, and waits"),
            id="fenced",
        ),
        pytest.param(
            replace(_LAUNCHED, states=(), addresses={}, fence="it waits", fence_until_s=9.0),
            _START,
            Pending(f"it waits ({clock_time(9.0)})"),
            id="fenced, until a time",
        ),
        # start
        pytest.param(_LAUNCHED, _START, _STARTED, id="active"),
        pytest.param(_started_with(active="reloading"), _START, _STARTED, id="reloading is up"),
        pytest.param(
            _started_with(active="inactive", sub="dead"), _START, _STARTED, id="oneshot has run"
        ),
        pytest.param(
            _started_with(active="activating", sub="start", job=""),
            _START,
            Pending(f"activating (start) on {LEGEND}"),
            id="oneshot runs",
        ),
        pytest.param(
            _started_with(active="inactive", sub="dead", job=""),
            _START,
            Pending(f"inactive (dead) on {LEGEND}"),
            id="job is queued",
        ),
        pytest.param(
            _started_with(hash="old"),
            _START,
            Pending(f"{LEGEND} has not taken it up yet"),
            id="the old process still runs",
        ),
        pytest.param(
            _with(_LAUNCHED, replace(_LOADED_STATE, active="failed")),
            _START,
            Pending(f"{LEGEND} has it loaded"),
            id="failed before, not started again yet",
        ),
        pytest.param(
            replace(_LAUNCHED, states=()),
            _START,
            Pending(f"{LEGEND} has not taken it up yet"),
            id="scheduled, not reported",
        ),
        pytest.param(
            replace(_LAUNCHED, machine=None, states=(), assignments=()),
            _START,
            Pending("no machine has been chosen for it yet"),
            id="not scheduled",
        ),
        pytest.param(
            replace(_LAUNCHED, machine=THERE, states=(_UP,)),
            _START,
            Pending("2222bbbb... has not taken it up yet"),
            id="up where it is leaving",
        ),
        pytest.param(
            replace(_LAUNCHED, refusals={THERE: "no"}), _START, _STARTED, id="up, refusals are old"
        ),
        pytest.param(
            _started_with(active="activating", sub="auto-restart"),
            _START,
            _STARTED,
            id="ended well and is started again and again",
        ),
        # load
        pytest.param(_LOADED, _LOAD, Reached(f"Unit web.service loaded on {LEGEND}"), id="loaded"),
        pytest.param(
            _with(_LOADED, _UP),
            _LOAD,
            Pending(f"still active (running) on {LEGEND}"),
            id="load of a launched unit stops it",
        ),
        # stop
        pytest.param(_LOADED, _STOP, Reached(f"Unit web.service loaded on {LEGEND}"), id="stopped"),
        pytest.param(
            _with(_LOADED, replace(_LOADED_STATE, active="failed", sub="failed")),
            _STOP,
            Reached(f"Unit web.service loaded on {LEGEND}"),
            id="stopped, had failed",
        ),
        pytest.param(
            _with(_LOADED, replace(_UP, active="deactivating", sub="stop-sigterm")),
            _STOP,
            Pending(f"still deactivating (stop-sigterm) on {LEGEND}"),
            id="stopping",
        ),
        pytest.param(
            replace(_REFUSED, desired=TargetState.LOADED),
            _STOP,
            Reached("Unit web.service inactive"),
            id="stop of a unit that no machine takes",
        ),
        pytest.param(
            replace(_INACTIVE, desired=TargetState.LOADED),
            _STOP,
            Reached("Unit web.service inactive", REFUSAL_STANDS_S),
            id="stop of a unit that nobody schedules",
        ),
        pytest.param(
            replace(
                _LOADED,
                is_global=True,
                machine=None,
                states=(_LOADED_STATE, replace(_UP, machine=THERE)),
            ),
            _STOP,
            Pending("still active (running) on 2222bbbb..."),
            id="global, stopped on one of two",
        ),
        pytest.param(
            replace(_LOADED, is_global=True, machine=None),
            _STOP,
            Reached("Unit web.service loaded"),
            id="global, stopped everywhere",
        ),
        # unload
        pytest.param(_INACTIVE, _UNLOAD, Reached("Unit web.service inactive"), id="unloaded"),
        pytest.param(
            replace(_INACTIVE, states=(_UP,)),
            _UNLOAD,
            Pending(f"still active (running) on {LEGEND}"),
            id="unscheduled, still runs",
        ),
        pytest.param(
            replace(_INACTIVE, assignments=_LAUNCHED.assignments),
            _UNLOAD,
            Pending("it is still assigned to a machine"),
            id="still scheduled",
        ),
        pytest.param(
            replace(_REFUSED, desired=TargetState.INACTIVE),
            _UNLOAD,
            Reached("Unit web.service inactive"),
            id="unload of a unit that no machine takes",
        ),
        # destroy
        pytest.param(_GONE, _DESTROY, Reached("Destroyed web.service"), id="gone"),
        pytest.param(
            replace(_GONE, states=(replace(_UP, active="deactivating", sub="stop"),)),
            _DESTROY,
            Pending("still deactivating (stop) on 113f16a7..."),
            id="destroyed, still stopping",
        ),
    ],
)
def test_report_is_judged(report: UnitReport, goal: Goal, verdict: Verdict) -> None:
    assert judge(report, goal) == verdict


@pytest.mark.parametrize(
    ("changes", "lines", "stands_s"),
    [
        pytest.param(
            {
                "active": "failed",
                "sub": "failed",
                "result": "exit-code",
                "job": "done",
                "exit_status": "code=exited, status=203/EXEC",
                "journal": ("Failed at step EXEC", "Main process exited"),
            },
            (
                f"Unit web.service failed on {LEGEND}: exit-code (code=exited, status=203/EXEC)",
                "    Failed at step EXEC",
                "    Main process exited",
                "It stays launched in the cluster, and systemd has given it up; "
                "to try again: fleetctl restart web.service",
            ),
            0.0,
            id="nothing to execute",
        ),
        pytest.param(
            {
                "health": Health.FAILED,
                "health_reason": "exit-code (code=exited, status=7)",
                "journal": ("connection refused",),
            },
            (
                f"Unit web.service came up on {LEGEND}, but its HealthCommand failed: "
                "exit-code (code=exited, status=7)",
                "    connection refused",
                "It stays launched in the cluster and is left as it is; "
                "to try again: fleetctl restart web.service",
            ),
            0.0,
            id="not healthy",
        ),
        pytest.param(
            {
                "active": "activating",
                "sub": "auto-restart",
                "result": "exit-code",
                "job": "failed",
                "exit_status": "code=exited, status=1",
            },
            (
                f"Unit web.service failed on {LEGEND}: exit-code (code=exited, status=1)",
                "It stays launched in the cluster and systemd starts it again there (Restart=); "
                "to end that: fleetctl stop web.service",
            ),
            JOURNAL_FOLLOWS_S,
            id="crash loop",
        ),
        pytest.param(
            {
                "load": "not-found",
                "active": "inactive",
                "sub": "dead",
                "job": "failed",
                "result": "",
            },
            (
                f"Unit web.service cannot be loaded on {LEGEND}: not-found",
                "It stays launched in the cluster; correct the file, then: "
                "fleetctl start --replace web.service",
            ),
            JOURNAL_FOLLOWS_S,
            id="not found",
        ),
        pytest.param(
            {
                "current": TargetState.INACTIVE,
                "load": "error",
                "active": "inactive",
                "sub": "dead",
                "result": "refused",
                "journal": ("Invalid argument",),
            },
            (
                f"Unit web.service cannot be loaded on {LEGEND}: error",
                "    Invalid argument",
                "It stays launched in the cluster; correct the file, then: "
                "fleetctl start --replace web.service",
            ),
            0.0,
            id="refused by systemd",
        ),
        pytest.param(
            {"active": "failed", "sub": "failed", "job": "", "result": "exit-code"},
            (
                f"Unit web.service failed on {LEGEND}: exit-code",
                "It stays launched in the cluster, and systemd has given it up; "
                "to try again: fleetctl restart web.service",
            ),
            JOB_FOLLOWS_S,
            id="failed, perhaps before this start",
        ),
        pytest.param(
            {"active": "inactive", "sub": "dead", "job": "dependency", "result": "success"},
            (
                f"Unit web.service failed on {LEGEND}: its start ended with dependency",
                "It stays launched in the cluster, and systemd has given it up; "
                "to try again: fleetctl restart web.service",
            ),
            JOURNAL_FOLLOWS_S,
            id="a dependency failed",
        ),
    ],
)
def test_failed_start_tells_what_where_and_what_follows(
    changes: dict[str, object], lines: tuple[str, ...], stands_s: float
) -> None:
    assert judge(_started_with(**changes), _START) == Failed(lines, stands_s)


def test_refused_unit_fails_with_a_reason_per_machine() -> None:
    assert judge(_REFUSED, _START) == Failed(
        (
            "Unit web.service runs nowhere, because no machine can take it:",
            f"  {LEGEND}  the machine has no disk",
            "  2222bbbb...               it conflicts with a.service here",
            "It stays launched in the cluster and starts when a machine fits.",
        ),
        REFUSAL_STANDS_S,
    )


def test_unit_whose_machine_is_gone_and_that_fits_no_other_is_refused() -> None:
    gone = "its machine is gone, and no other fits"
    lost = replace(_LAUNCHED, states=(), addresses={}, refusals={HERE: gone, THERE: "no disk"})

    verdict = judge(lost, _START)

    assert isinstance(verdict, Failed)
    assert any(gone in line for line in verdict.lines)
    assert isinstance(judge(replace(lost, refusals={}), _START), Pending)


def test_patient_goal_waits_on_when_refused() -> None:
    verdict = judge(_REFUSED, replace(_START, patient=True))
    assert isinstance(verdict, Pending)
    assert "the machine has no disk" in verdict.reason


@pytest.mark.parametrize(
    ("report", "goal", "word"),
    [
        pytest.param(_GONE, _START, "destroyed", id="destroyed"),
        pytest.param(replace(_LAUNCHED, hash="other"), _START, "replaced", id="replaced"),
        pytest.param(_LOADED, _START, "set to loaded", id="stopped"),
        pytest.param(_LAUNCHED, _STOP, "set to launched", id="started"),
        pytest.param(_LAUNCHED, _DESTROY, "again", id="submitted again"),
    ],
)
def test_somebody_elses_change_counts_only_if_it_stands(
    report: UnitReport, goal: Goal, word: str
) -> None:
    verdict = judge(report, goal)
    assert isinstance(verdict, Failed)
    assert word in verdict.lines[0]
    assert verdict.stands_s == CONTRADICTION_STANDS_S


def test_unit_whose_turn_never_comes_is_told_why() -> None:
    assert judge(_KEPT, Goal(aim=Aim.LAUNCHED, hash="newer")) == Failed(
        ("Unit web.service stays as it is: a.service fails with its new contents",),
        REFUSAL_STANDS_S,
    )
    patient = Goal(aim=Aim.LAUNCHED, hash="newer", patient=True)
    assert judge(_KEPT, patient) == Pending("a.service fails with its new contents")
