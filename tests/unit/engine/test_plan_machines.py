"""Global units, and machines that go and come: what the plan makes of them."""

import pytest

from engine.losses import EngineMemory
from engine.plan import plan
from engine.tasks import Task, TaskKind
from fleet.machine import MachineId
from tests.unit.engine.worlds import (
    SETTINGS,
    all_up,
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

A, B = "a.service", "b.service"


def kinds_of(tasks: tuple[Task, ...]) -> list[str]:
    return [f"{task.kind} {task.unit or task.digest}" for task in tasks]


# Globals


def test_a_global_unit_runs_on_every_machine_that_suits_it() -> None:
    hosts = [machine("m1", disk="ssd"), machine("m2"), machine("m3", disk="ssd")]
    after = settled(world(hosts, [unit(A, "Global=true", "MachineMetadata=disk=ssd")]))
    assert rows_of(after) == {"a.service@m1", "a.service@m3"}
    assert rows_of(settled(with_machines(after, machine("m4", disk="ssd")))) == {
        "a.service@m1",
        "a.service@m3",
        "a.service@m4",
    }
    assert rows_of(settled(with_machines(after, machine("m1")))) == {"a.service@m3"}


def test_globals_count_as_load() -> None:
    units = [unit("g.service", "Global=true", "MachineMetadata=disk=ssd"), unit(A, revision=2)]
    after = settled(world([machine("m1", disk="ssd"), machine("m2")], units))
    assert homes_of(after)[A] == ["m2"]


def test_of_two_conflicting_globals_the_first_runs() -> None:
    units = [
        unit("z.service", "Global=true", revision=1),
        unit(A, "Global=true", "Conflicts=z.service", revision=2),
    ]
    after = settled(world(["m1", "m2"], units))
    assert homes_of(after) == {"z.service": ["m1", "m2"]}
    assert set(reasons_of(after, A)) == {"m1", "m2"}


@pytest.mark.parametrize("name", ["gc.service", "zgc.service"])
def test_a_new_global_does_not_evict_a_running_unit_whatever_its_name(name: str) -> None:
    before = all_up(settled(world(["m1", "m2"], [unit("hello.service")])))
    hostile = unit(name, "Global=true", "Conflicts=hello.service", revision=2)
    after = settled(with_units(before, hostile))
    assert homes_of(after) == {"hello.service": ["m1"], name: ["m2"]}


def test_an_inactive_global_repels_nobody_and_carries_nobody() -> None:
    units = [
        unit("g.service", "Global=true", "Conflicts=a.service", target="inactive"),
        unit(A, revision=2),
        unit(B, "MachineOf=g.service", revision=3),
    ]
    after = settled(world(["m1"], units))
    assert homes_of(after) == {A: ["m1"]}


def test_a_global_row_waits_for_a_machine_that_is_gone() -> None:
    before = all_up(settled(world(["m1", "m2"], [unit(A, "Global=true")])))
    lost = settled(without_machines(before, "m1"))
    assert rows_of(lost) == {"a.service@m1", "a.service@m2"}
    assert rows_of(settled(without_units(lost, A))) == set()


def test_a_unit_that_is_no_longer_global_keeps_one_machine() -> None:
    before = all_up(settled(world(["m1", "m2"], [unit(A, "Global=true")])))
    assert rows_of(settled(with_units(before, unit(A, revision=2)))) == {"a.service@m1"}


# Machines that go and come


def test_units_that_are_no_longer_global_do_not_meet_their_enemies_while_machines_are_held() -> (
    None
):
    spread = [unit(A, "Global=true"), unit(B, "Global=true", revision=2)]
    before = settled(world(["m1", "m2", "m3"], spread))
    held = without_machines(all_up(before), "m1", "m2")
    known = EngineMemory(is_new=False, known=frozenset(map(MachineId, ("m1", "m2", "m3"))))
    alone = [unit(A, f"Conflicts={B}", revision=3), unit(B, revision=4)]

    after = settled(with_units(held, *alone), known)

    assert rows_of(after) == {f"{A}@m1", f"{A}@m2", f"{A}@m3", f"{B}@m1", f"{B}@m2"}
    back = settled(with_machines(after, "m1", "m2"))
    assert {unit: len(homes) for unit, homes in homes_of(back).items()} == {A: 1, B: 1}


def test_units_of_a_lost_machine_are_placed_elsewhere_in_the_same_plan() -> None:
    before = all_up(settled(world(["m1", "m2", "m3"], [unit(A), unit(B, revision=2)])))
    lost = without_machines(before, "m1")
    tasks = planned(lost).tasks
    assert kinds_of(tasks) == ["leave a.service", "place a.service"]
    assert tasks[1].reason.startswith("its machine m1 is gone; machine m3 suits it")
    moving = settled(lost)
    assert rows_of(moving) == {"a.service@m1 leaving", "a.service@m3", "b.service@m2"}
    assert rows_of(settled(all_up(moving))) == {"a.service@m3", "b.service@m2"}


def test_instances_of_a_lost_machine_are_spread() -> None:
    units = [unit(f"web@{n}.service", revision=n) for n in range(6)]
    before = all_up(settled(world(["m1", "m2", "m3"], units)))
    after = settled(without_machines(before, "m1"))
    assert sorted(where for (where,) in homes_of(after).values()) == ["m2"] * 3 + ["m3"] * 3


def test_a_unit_that_fits_nowhere_else_keeps_its_row_on_the_lost_machine() -> None:
    pinned = unit(A, "MachineID=m1")
    before = all_up(settled(world(["m1", "m2"], [pinned])))
    lost = settled(without_machines(before, "m1"))
    assert rows_of(lost) == {"a.service@m1"}
    assert reasons_of(lost, A) == {
        "m1": "its machine is gone, and no other fits",
        "m2": "the unit asks for MachineID=m1",
    }
    back = with_machines(lost, "m1")
    assert kinds_of(planned(back).tasks) == ["clear refusal a.service"]


def test_a_returning_machine_gets_nothing_back() -> None:
    before = all_up(settled(world(["m1", "m2"], [unit(A)])))
    moved = settled(all_up(settled(without_machines(before, "m1"))))
    assert planned(with_machines(moved, "m1")).tasks == ()


def test_a_unit_that_moves_back_where_it_still_runs_is_not_touched_there() -> None:
    before = with_rows(
        world(["m1", "m3"], [unit(A), unit(B)]),
        "a.service@m1 leaving",
        "a.service@m2",
        "b.service@m1",
    )
    assert rows_of(settled(before)) == {"a.service@m1", "a.service@m2 leaving", "b.service@m1"}


def test_when_the_last_machine_is_gone_nothing_is_written() -> None:
    before = all_up(settled(world(["m1"], [unit(A), unit(B, "Global=true")])))
    assert planned(without_machines(before, "m1")).tasks == ()


def test_a_machine_that_cannot_be_read_keeps_its_units() -> None:
    before = all_up(settled(world(["m1", "m2"], [unit(A)])))
    hidden = without_machines(before, "m1")
    made = plan(
        hidden, EngineMemory(), 0.0, SETTINGS, unreadable_machines=frozenset(before.machines)
    )
    assert made.tasks == ()


def test_nothing_is_ever_rebalanced() -> None:
    units = [unit(f"u{n}.service", revision=n) for n in range(6)]
    before = all_up(settled(world(["m1"], units)))
    assert planned(with_machines(before, "m2", "m3")).tasks == ()


def test_new_contents_wait_for_a_machine_that_is_held_and_a_stop_does_not() -> None:
    before = settled(
        world(
            ["m1", "m2", "m3"],
            [unit("a.service", "MachineID=m1"), unit("b.service", "MachineID=m2")],
        )
    )
    known = planned(all_up(before)).memory
    held = without_machines(all_up(before), "m1", "m2")
    renewed = unit("a.service", "MachineID=m1", version="2", revision=9)
    made = planned(with_units(held, renewed), known)
    assert [task.kind for task in made.tasks if task.unit == "a.service"] == []

    stopped = unit("a.service", "MachineID=m1", target="loaded", revision=9)
    made = planned(with_units(held, stopped), known)
    assert [task.kind for task in made.tasks if task.unit == "a.service"] == [TaskKind.UPDATE]

    back = with_machines(with_units(held, renewed), "m1", "m2")
    made = planned(back, known)
    assert [task.kind for task in made.tasks if task.unit == "a.service"] == [TaskKind.UPDATE]
