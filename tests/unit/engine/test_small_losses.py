"""Every small world whose machines vanish, are held, cannot be read, or come back."""

from collections.abc import Iterator

import pytest

from engine.losses import EngineMemory
from engine.plan import plan
from engine.tasks import TaskKind
from fleet.cluster import Assignment, Cluster
from fleet.machine import MachineId
from tests.unit.engine.test_small_worlds import (
    MACHINES,
    all_worlds,
    at_rest,
    check_peace,
    check_settled,
)
from tests.unit.engine.worlds import (
    SETTINGS,
    all_up,
    carried_out,
    planned,
    settled,
    stride,
    with_machines,
    without_machines,
)

pytestmark = pytest.mark.fuzz

# Of all worlds these tests take every so many, beginning at another one for each fault.
STRIDE = stride(7)
NOW_S, SOON_S, LATE_S = 100.0, 101.0, 100.0 + SETTINGS.mass_loss_hold_s + 2
PAIRS = [("m1", "m2"), ("m1", "m3"), ("m2", "m3")]


def worlds_at_rest(begin: int) -> Iterator[tuple[Cluster, EngineMemory]]:
    """Worlds of three machines where nothing is left to do, with what their leader remembers."""
    for number, start in enumerate(all_worlds(3)):
        if number % STRIDE == begin % STRIDE:
            cluster = at_rest(settled(start))
            yield cluster, planned(cluster, now_s=NOW_S).memory


def rows_on(cluster: Cluster, *machines: str) -> list[Assignment]:
    return [row for row in cluster.schedule if row.machine in machines]


def has_stakes(cluster: Cluster, *machines: str) -> bool:
    """Whether both machines are missed: a loss is weighed only where units are."""
    return all(rows_on(cluster, machine) for machine in machines)


@pytest.mark.parametrize(("begin", "lost"), list(enumerate(PAIRS)), ids=lambda value: str(value))
def test_machines_that_vanish_together_are_held_and_what_is_on_them_stays_theirs(
    begin: int, lost: tuple[str, str]
) -> None:
    seen = 0
    for before, memory in worlds_at_rest(begin):
        if not has_stakes(before, *lost):
            continue
        seen += 1
        gone = without_machines(before, *lost)
        made = planned(gone, memory, SOON_S)
        held = carried_out(gone, made.tasks)
        assert TaskKind.HOLD in {task.kind for task in made.tasks}
        assert rows_on(held, *lost) == rows_on(gone, *lost)
        check_peace(held)

        back = all_up(with_machines(held, *(m for m in MACHINES if m.id in lost)))
        again = planned(back, made.memory, SOON_S + 1)
        # Who waits is told of the machines that are there again, and no row is touched.
        told = {TaskKind.RELEASE, TaskKind.REFUSE, TaskKind.CLEAR}
        assert {task.kind for task in again.tasks} <= told, again.tasks

        believed = carried_out(held, planned(held, made.memory, LATE_S).tasks)
        check_settled(believed)
    assert seen > 10


@pytest.mark.parametrize(("begin", "dark"), list(enumerate(("m1", "m2", "m3"))))
def test_machine_whose_registration_cannot_be_read_keeps_its_units(begin: int, dark: str) -> None:
    seen = 0
    for before, memory in worlds_at_rest(begin + 3):
        mine = rows_on(before, dark)
        seen += bool(mine)
        gone = without_machines(before, dark)
        made = plan(gone, memory, SOON_S, SETTINGS, unreadable_machines={MachineId(dark)})
        after = carried_out(gone, made.tasks)
        assert rows_on(after, dark) == mine
        check_peace(after)
    assert seen > 10


@pytest.mark.parametrize("lost", ["m1", "m2", "m3"])
def test_machine_that_comes_back_gets_nothing_back_and_keeps_nothing_that_is_elsewhere(
    lost: str,
) -> None:
    for before, memory in worlds_at_rest(6):
        gone = without_machines(before, lost)
        made = planned(gone, memory, SOON_S)
        elsewhere = at_rest(carried_out(gone, made.tasks))
        homes = {
            row.unit: row.machine
            for row in elsewhere.schedule
            if not row.leaving and row.machine != lost and not before.units[row.unit].is_global
        }
        back = with_machines(elsewhere, next(m for m in MACHINES if m.id == lost))
        after = at_rest(settled(back))
        check_settled(after)
        for unit, home in homes.items():
            if unit not in displaced(elsewhere, after):
                assert [row.machine for row in after.assignments_of(unit)] == [home]


def displaced(before: Cluster, after: Cluster) -> set[str]:
    """Units that another one took the place of when it found a machine at last."""
    came = {r.unit for r in after.schedule} - {r.unit for r in before.schedule if not r.leaving}
    asked = [after.units[unit].requirements for unit in came if unit in after.units]
    return {peer for each in asked for peer in each.replaces}
