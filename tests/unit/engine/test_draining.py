"""Cordoned machines take nothing new; what is on a drained one goes, if it can, before it stops."""

from fleet.cluster import Cluster
from fleet.machine import MachineId
from fleet.names import UnitName
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
    uncordoned,
    unit,
    with_machines,
    with_rows,
    with_units,
    without_machines,
    world,
)

A, B, C = "a.service", "b.service", "c.service"


def running(*options: str, machines: int = 2) -> Cluster:
    """One unit that runs on m1, of as many machines."""
    hosts = [f"m{number}" for number in range(1, machines + 1)]
    return all_up(with_rows(world(hosts, [unit(A, *options)]), f"{A}@m1"))


def test_cordoned_machine_takes_no_new_unit_and_keeps_what_it_has() -> None:
    before = with_units(cordoned(running(), "m1"), unit(B, revision=2), unit(C, revision=3))
    assert homes_of(settled(before)) == {A: ["m1"], B: ["m2"], C: ["m2"]}


def test_unit_that_only_a_cordoned_machine_suits_is_told_who_cordoned_it_and_why() -> None:
    before = cordoned(world(["m1"], [unit(A)]), "m1")
    assert reasons_of(settled(before), A) == {"m1": "it is cordoned by alice: new disks"}


def test_units_of_a_lost_machine_do_not_go_to_a_cordoned_one() -> None:
    before = without_machines(cordoned(running(machines=3), "m2"), "m1")
    assert homes_of(settled(before)) == {A: ["m3"]}


def test_changed_or_restarted_unit_stays_on_its_cordoned_machine() -> None:
    before = with_units(cordoned(running(), "m1"), unit(A, version="2", target="loaded"))
    after = settled(before)
    assert homes_of(after) == {A: ["m1"]}
    assert after.schedule[0].hash == "hash-2"


def test_global_unit_stays_on_a_cordoned_machine_and_does_not_come_to_one() -> None:
    there = settled(world(["m1", "m2"], [unit(A, "Global=true")]))
    drained = cordoned(there, "m1", drain=True)
    assert planned(all_up(drained)).tasks == ()
    joined = cordoned(with_machines(drained, "m3"), "m3")
    assert homes_of(settled(joined)) == {A: ["m1", "m2"]}
    assert homes_of(settled(uncordoned(joined, "m3"))) == {A: ["m1", "m2", "m3"]}


def test_unit_on_a_drained_machine_is_up_elsewhere_before_it_stops() -> None:
    moving = settled(cordoned(running(), "m1", drain=True))
    assert rows_of(moving) == {f"{A}@m1 leaving", f"{A}@m2"}
    (home,) = moving.assignments_of(UnitName(A))
    assert home.reason.startswith("machine m1 is drained by alice: new disks; machine m2 suits it")
    assert rows_of(settled(all_up(moving))) == {f"{A}@m2"}


def test_drain_taken_back_lets_a_move_that_began_come_to_its_end() -> None:
    moving = settled(cordoned(running(), "m1", drain=True))
    assert rows_of(settled(all_up(uncordoned(moving, "m1")))) == {f"{A}@m2"}


def test_unit_whose_new_machine_is_lost_meanwhile_still_runs_on_the_old_one() -> None:
    moving = settled(cordoned(running(), "m1", drain=True))
    assert rows_of(settled(without_machines(moving, "m2"))) >= {f"{A}@m1"}


def test_unit_that_fits_nowhere_else_stays_on_its_drained_machine_with_the_reasons() -> None:
    before = cordoned(running("MachineMetadata=disk=ssd", machines=1), "m1", drain=True)
    hosts = [machine("m1", disk="ssd"), machine("m2"), machine("m3", disk="ssd")]
    stays = cordoned(with_machines(before, *hosts), "m1", "m3", drain=True)
    after = settled(stays)
    assert rows_of(after) == {f"{A}@m1"}
    assert reasons_of(after, A) == {
        "m2": "the unit asks for metadata disk=ssd, the machine has no disk",
        "m3": "it is drained by alice: new disks",
    }
    freed = settled(uncordoned(after, "m3"))
    assert rows_of(freed) == {f"{A}@m1 leaving", f"{A}@m3"}
    assert UnitName(A) not in freed.refusals


def test_lone_machine_that_is_drained_keeps_its_units() -> None:
    after = settled(cordoned(running(machines=1), "m1", drain=True))
    assert rows_of(after) == {f"{A}@m1"}
    assert reasons_of(after, A) == {"m1": "there is no other machine in the cluster"}


def test_units_that_hang_together_leave_together_or_not_at_all() -> None:
    follower = unit(B, f"MachineOf={A}", "MachineMetadata=disk=ssd", revision=2)
    two = with_units(running(), follower)
    before = all_up(with_rows(with_machines(two, machine("m1", disk="ssd")), f"{B}@m1"))
    stuck = settled(cordoned(before, "m1", drain=True))
    assert rows_of(stuck) == {f"{A}@m1", f"{B}@m1"}
    assert "which it goes with, cannot be here" in reasons_of(stuck, A)["m2"]
    assert rows_of(settled(with_machines(stuck, machine("m2", disk="ssd")))) == {
        f"{A}@m1 leaving",
        f"{A}@m2",
        f"{B}@m1 leaving",
        f"{B}@m2",
    }


def test_drain_displaces_nobody() -> None:
    units = [unit(A, f"Replaces={B}"), unit(B, revision=2)]
    before = all_up(with_rows(world(["m1", "m2"], units), f"{A}@m1", f"{B}@m2"))
    after = settled(cordoned(before, "m1", drain=True))
    assert rows_of(after) == {f"{A}@m1", f"{B}@m2"}
    assert reasons_of(after, A) == {"m2": f"it would displace {B}"}


def test_unit_that_is_only_loaded_moves_at_once() -> None:
    loaded = world(["m1", "m2"], [unit(A, target="loaded")])
    before = all_up(with_rows(loaded, f"{A}@m1"))
    assert rows_of(settled(cordoned(before, "m1", drain=True))) == {f"{A}@m2"}


def test_drain_of_many_units_never_has_one_of_them_nowhere() -> None:
    units = [unit(f"u{n}.service", revision=n) for n in range(100)]
    before = settled(world(["m1", "m2", "m3"], units))
    cluster = cordoned(all_up(before), "m1", drain=True)
    up = {state.unit for state in cluster.states}
    assert len(up) == 100
    while tasks := planned(cluster).tasks:
        for steps in range(1, len(tasks) + 1):
            running = {(s.unit, s.machine) for s in cluster.states}
            rows = carried_out(cluster, tasks[:steps]).schedule
            assert {row.unit for row in rows if (row.unit, row.machine) in running} == up
        cluster = all_up(carried_out(cluster, tasks))
    assert {row.machine for row in cluster.schedule} == {MachineId("m2"), MachineId("m3")}
