"""When a unit has left a machine that is drained, and what is said of one that does not."""

from dataclasses import replace

import pytest

from cli.draining import find_leavers, judge_leaving
from cli.waiting import (
    JOB_FOLLOWS_S,
    LEADERLESS_STANDS_S,
    REFUSAL_STANDS_S,
    Failed,
    Pending,
    Reached,
    Verdict,
)
from fleet.api.reports import UnitReport
from fleet.api.schema import ListedState, Unit
from fleet.names import UnitName
from fleet.states import TargetState
from fleet.unit import UnitOption
from tests.unit.cli.moving import (
    HERE,
    MOVING,
    REPORT,
    ROW_THERE,
    THERE,
    UP,
    UP_THERE,
    WEB,
)

_BROKEN_THERE = replace(
    UP_THERE, active="failed", sub="failed", result="exit-code", journal=("no disk",)
)
_LOADED_THERE = replace(UP_THERE, current=TargetState.LOADED, active="inactive", job="")
_FENCED = "it is fenced, and waits until machine 113f16a7 has stopped it"
_MOVED = replace(MOVING, assignments=(ROW_THERE,), states=(UP_THERE,))


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        pytest.param(
            REPORT, Pending("no other machine has been chosen for it yet"), id="not planned yet"
        ),
        pytest.param(
            replace(REPORT, refusals={THERE: "it has no disk"}),
            Failed(
                (
                    "Unit web.service stays on 113f16a7.../10.0.0.1, "
                    "because no other machine can take it:",
                    "  2222bbbb.../10.0.0.2  it has no disk",
                ),
                REFUSAL_STANDS_S,
            ),
            id="fits nowhere else",
        ),
        pytest.param(
            MOVING, Pending("it goes when it is up on 2222bbbb.../10.0.0.2"), id="on its way"
        ),
        pytest.param(
            replace(MOVING, states=(UP, _BROKEN_THERE)),
            Failed(
                (
                    "Unit web.service stays on 113f16a7.../10.0.0.1, "
                    "because it fails on 2222bbbb.../10.0.0.2:",
                    "    no disk",
                    "    exit-code: fleetctl status web.service",
                ),
                JOB_FOLLOWS_S,
            ),
            id="fails elsewhere",
        ),
        pytest.param(
            replace(MOVING, assignments=(ROW_THERE,), states=(UP, UP_THERE)),
            Pending("it stops on 113f16a7.../10.0.0.1"),
            id="stops",
        ),
        pytest.param(
            _MOVED, Reached("Unit web.service launched on 2222bbbb.../10.0.0.2"), id="has moved"
        ),
        pytest.param(
            replace(_MOVED, desired=TargetState.LOADED, states=()),
            Reached("Unit web.service loaded on 2222bbbb.../10.0.0.2"),
            id="was loaded only",
        ),
        pytest.param(
            replace(REPORT, machine=None, assignments=(), fence=_FENCED),
            Pending("it stops on 113f16a7.../10.0.0.1"),
            id="is fenced and stops first",
        ),
        pytest.param(
            replace(REPORT, machine=None, assignments=(), states=(), fence=_FENCED),
            Pending(_FENCED),
            id="has stopped, but the leader does not know yet",
        ),
        pytest.param(
            replace(_MOVED, states=()),
            Pending("it starts on 2222bbbb.../10.0.0.2"),
            id="has stopped and has yet to start",
        ),
        pytest.param(
            replace(_MOVED, states=(_LOADED_THERE,)),
            Pending("it starts on 2222bbbb.../10.0.0.2"),
            id="waits for the fence of its new machine",
        ),
        pytest.param(
            replace(_MOVED, states=(_BROKEN_THERE,)),
            Reached(
                "Unit web.service has left 113f16a7.../10.0.0.1, and fails on "
                "2222bbbb.../10.0.0.2: fleetctl status web.service"
            ),
            id="had to stop first, and fails elsewhere",
        ),
        pytest.param(
            UnitReport(name=WEB, addresses={HERE: "10.0.0.1"}),
            Reached("Unit web.service is not wanted on 113f16a7.../10.0.0.1 any more"),
            id="destroyed meanwhile",
        ),
        pytest.param(
            replace(REPORT, leaderless=True),
            Failed(
                ("Unit web.service stays where it is, because no engine leads the cluster",),
                LEADERLESS_STANDS_S,
            ),
            id="no engine",
        ),
    ],
)
def test_unit_on_a_drained_machine_is_judged(report: UnitReport, verdict: Verdict) -> None:
    assert judge_leaving(report, HERE) == verdict


def test_leavers_are_all_but_global_units_that_are_meant_to_be_or_still_are_on_the_machines() -> (
    None
):
    spread = Unit(
        name=UnitName("g.service"), options=(UnitOption("X-Fleet", "Global", "true"),), machine=HERE
    )
    units = [
        Unit(name=WEB, machine=HERE),
        Unit(name=UnitName("gone.service"), machine=THERE),
        Unit(name=UnitName("other.service"), machine=THERE),
        spread,
    ]
    words = {"hash": "", "load": "loaded", "active": "active", "sub": "running"}
    states = [
        ListedState(unit=UnitName(name), machine=HERE, **words)
        for name in ("gone.service", "g.service", "unknown.service")
    ]
    assert find_leavers(units, states, [HERE]) == {"gone.service": HERE, "web.service": HERE}
