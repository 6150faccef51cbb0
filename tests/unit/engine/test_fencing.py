"""Fenced units in the plan: what is waited for, for how long, and under which conditions."""

from dataclasses import replace

import pytest

from engine.losses import EngineMemory
from engine.plan import Plan
from engine.tasks import Task, TaskKind
from fleet.claims import Claim
from fleet.cluster import Cluster, UnitRecord
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState, UnitState
from tests.unit.engine.worlds import (
    all_up,
    carried_out,
    cordoned,
    homes_of,
    machine,
    planned,
    reasons_of,
    rows_of,
    settled,
    unit,
    with_machines,
    with_rows,
    with_units,
    without_machines,
    without_units,
    world,
)

STOP_S = 12.0
# A leader that has seen m1 to m3, so that a loss of one is one.
SEASONED = EngineMemory(is_new=False, known=frozenset(map(MachineId, ("m1", "m2", "m3"))))


def fenced(*options: str, revision: int = 1) -> UnitRecord:
    return unit("a.service", "Fenced=true", *options, revision=revision)


def claimed(cluster: Cluster, *places: str, stop_s: float = STOP_S) -> Cluster:
    """The cluster with claims such as `a.service@m1`."""
    made = []
    for place in places:
        name, _, where = place.rpartition("@")
        made.append(Claim(unit=UnitName(name), machine=MachineId(where), stop_s=stop_s, revision=7))
    return replace(cluster, claims=(*cluster.claims, *made))


def released(cluster: Cluster) -> Cluster:
    return replace(cluster, claims=())


def running(*options: str) -> Cluster:
    """One fenced unit, up and claimed on m1 of three machines."""
    made = world(["m1", "m2", "m3"], [fenced(*options)])
    return claimed(all_up(with_rows(made, "a.service@m1")), "a.service@m1")


def told(made: Plan, kind: TaskKind) -> list[Task]:
    return [task for task in made.tasks if task.kind is kind]


def test_fenced_unit_that_nobody_claims_is_placed_at_once() -> None:
    made = planned(world(["m1"], [fenced()]))

    assert rows_of(carried_out(Cluster(), told(made, TaskKind.PLACE))) == {"a.service@m1"}
    assert made.wake_at_s is None


def test_lost_machines_fenced_unit_waits_for_its_stop_time() -> None:
    lost = without_machines(running(), "m1")

    first = planned(lost, SEASONED, 100.0)
    waiting = carried_out(lost, first.tasks)
    assert rows_of(waiting) == {"a.service@m1"}
    assert "until 12 s after that was lost" in reasons_of(waiting, "a.service")[""]
    assert waiting.refusals[UnitName("a.service")].is_fenced
    assert first.wake_at_s == 112.0

    assert planned(waiting, first.memory, 111.9).tasks == ()
    (free,) = planned(waiting, first.memory, 112.0).tasks
    assert (free.kind, free.machine, free.claim_revision) == (TaskKind.FREE, "m1", 7)


def test_unit_is_placed_elsewhere_once_its_claim_is_gone() -> None:
    lost = without_machines(released(running()), "m1")

    made = planned(lost, SEASONED, 112.0)

    (gone,) = told(made, TaskKind.REMOVE)
    assert (gone.machine, gone.claim_revision) == ("m1", 0)
    assert homes_of(carried_out(lost, made.tasks)) == {"a.service": ["m2"]}


def test_machine_that_is_back_in_time_keeps_the_unit() -> None:
    lost = without_machines(running(), "m1")
    first = planned(lost, SEASONED, 100.0)
    back = with_machines(carried_out(lost, first.tasks), "m1")

    made = planned(back, first.memory, 105.0)
    assert [task.kind for task in made.tasks] == [TaskKind.CLEAR]
    assert made.memory.missing_since_s == {}

    again = planned(without_machines(back, "m1"), made.memory, 110.0)
    assert again.memory.missing_since_s == {"m1": 110.0}, "the time counts from the second loss"


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(EngineMemory(), id="a-new-leader"),
        pytest.param(
            replace(SEASONED, missing_since_s={MachineId("m1"): 100.0}).after_outage(100.0),
            id="after-an-outage",
        ),
    ],
)
def test_who_did_not_see_the_loss_counts_from_when_it_looks(memory: EngineMemory) -> None:
    lost = without_machines(running(), "m1")

    made = planned(lost, memory, 130.0)

    assert told(made, TaskKind.FREE) == []
    assert made.memory.missing_since_s == {"m1": 130.0}


def test_move_between_living_machines_stops_before_it_starts() -> None:
    at_m1 = running()
    asks = with_units(at_m1, fenced("MachineID=m2", revision=2))

    first = planned(asks, SEASONED)
    stopping = carried_out(asks, first.tasks)
    (removal,) = told(first, TaskKind.REMOVE)
    assert "it is fenced, so it stops before it starts elsewhere" in removal.reason
    assert removal.claim_revision == 7
    assert rows_of(stopping) == set()
    assert "waits until machine m1 has stopped it" in reasons_of(stopping, "a.service")[""]
    assert planned(stopping, first.memory).tasks == ()

    stopped = released(replace(stopping, states=()))
    assert rows_of(carried_out(stopped, planned(stopped, first.memory).tasks)) == {"a.service@m2"}


def test_drain_stops_a_fenced_unit_before_it_starts_elsewhere() -> None:
    drained = cordoned(running(), "m1", drain=True)

    first = planned(drained, SEASONED)
    stopping = carried_out(drained, first.tasks)
    (removal,) = told(first, TaskKind.REMOVE)
    assert (removal.machine, removal.claim_revision) == ("m1", 7)
    assert "it is fenced, so it stops before it starts elsewhere" in removal.reason
    assert rows_of(stopping) == set()
    assert "waits until machine m1 has stopped it" in reasons_of(stopping, "a.service")[""]
    assert planned(stopping, first.memory).tasks == ()

    stopped = released(replace(stopping, states=()))
    made = planned(stopped, first.memory)
    assert rows_of(carried_out(stopped, made.tasks)) == {"a.service@m2"}
    assert made.wake_at_s is None, "a living machine is waited for, no time"


def test_fenced_unit_that_fits_nowhere_else_runs_on_its_drained_machine() -> None:
    pinned = cordoned(running("MachineID=m1"), "m1", drain=True)

    after = settled(pinned, SEASONED)

    assert rows_of(after) == {"a.service@m1"}
    assert reasons_of(after, "a.service").keys() == {"m2", "m3"}


def test_fenced_unit_on_its_way_off_a_drained_machine_that_is_lost_waits_for_its_stop_time() -> (
    None
):
    drained = cordoned(running(), "m1", drain=True)
    first = planned(drained, SEASONED, 100.0)
    lost = without_machines(carried_out(drained, first.tasks), "m1")

    waiting = planned(lost, first.memory, 101.0)
    assert told(waiting, TaskKind.PLACE) == []
    assert waiting.wake_at_s == 101.0 + STOP_S


def test_follower_of_a_fenced_unit_is_drained_with_it() -> None:
    made = with_units(running(), unit("b.service", "MachineOf=a.service", revision=2))
    made = all_up(with_rows(made, "b.service@m1"))
    drained = cordoned(made, "m1", drain=True)

    stopping = settled(drained, SEASONED)
    assert rows_of(stopping) == set()

    stopped = released(replace(stopping, states=()))
    after = settled(stopped, SEASONED)
    assert homes_of(after) == {"a.service": ["m2"], "b.service": ["m2"]}


def test_unit_that_runs_unclaimed_is_waited_for_as_well() -> None:
    asks = with_units(released(running()), fenced("MachineID=m2", revision=2))

    stopping = carried_out(asks, planned(asks, SEASONED).tasks)

    assert rows_of(stopping) == set()


@pytest.mark.parametrize("active", ["inactive", "failed"])
def test_state_at_rest_keeps_nobody_waiting(active: str) -> None:
    state = UnitState(
        unit=UnitName("a.service"),
        machine=MachineId("m1"),
        hash="",
        current=TargetState.LOADED,
        load="loaded",
        active=active,
        sub="dead",
    )
    made = replace(world(["m2"], [fenced()]), states=(state,))

    assert rows_of(carried_out(made, planned(made).tasks)) == {"a.service@m2"}


def test_unit_submitted_anew_waits_for_the_machine_that_still_runs_it() -> None:
    gone = without_units(running(), "a.service")
    gone = carried_out(gone, planned(gone, SEASONED).tasks)
    again = with_units(gone, fenced(revision=9))

    waiting = carried_out(again, planned(again, SEASONED).tasks)

    assert rows_of(waiting) == set()
    assert "waits until machine m1" in reasons_of(waiting, "a.service")[""]


def test_claims_on_units_that_are_gone_are_cleared_away() -> None:
    gone = without_machines(without_units(running(), "a.service"), "m1")
    first = planned(gone, SEASONED, 100.0)

    assert told(planned(gone, first.memory, 112.0), TaskKind.FREE)


def test_stop_time_without_end_waits_for_the_machine() -> None:
    lost = without_machines(released(running()), "m1")
    lost = claimed(lost, "a.service@m1", stop_s=float("inf"))

    made = planned(lost, SEASONED, 100.0)

    assert made.wake_at_s is None
    assert told(planned(lost, made.memory, 1e9), TaskKind.FREE) == []
    assert (
        "which is lost, until it is back"
        in reasons_of(carried_out(lost, made.tasks), "a.service")[""]
    )


def test_follower_of_a_waiting_unit_waits_with_it() -> None:
    made = with_units(running(), unit("b.service", "MachineOf=a.service", revision=2))
    made = all_up(with_rows(made, "b.service@m1"))
    lost = without_machines(made, "m1")

    waiting = carried_out(lost, planned(lost, SEASONED).tasks)

    assert homes_of(waiting)["a.service"] == ["m1"]
    assert not [row for row in waiting.schedule if row.machine in ("m2", "m3")]


def test_unfenced_neighbour_moves_at_once() -> None:
    made = with_units(running(), unit("b.service", revision=2))
    made = all_up(with_rows(made, "b.service@m1"))
    lost = without_machines(made, "m1")

    after = carried_out(lost, planned(lost, SEASONED).tasks)

    assert homes_of(after)["b.service"] == ["m2"]
    assert homes_of(after)["a.service"] == ["m1"]


def test_held_machine_keeps_the_unit_though_its_time_is_over() -> None:
    made = claimed(
        all_up(
            with_rows(
                world([machine("m1"), machine("m2"), machine("m3")], [fenced()]), "a.service@m1"
            )
        ),
        "a.service@m1",
    )
    lost = without_machines(made, "m1", "m2")

    first = planned(lost, SEASONED, 100.0)
    assert told(first, TaskKind.HOLD)
    waiting = carried_out(lost, first.tasks)
    later = released(carried_out(waiting, planned(waiting, first.memory, 120.0).tasks))

    assert rows_of(carried_out(later, planned(later, first.memory, 121.0).tasks)) == {
        "a.service@m1"
    }
