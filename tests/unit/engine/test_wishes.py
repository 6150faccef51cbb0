"""Softer constraints: where units go that spread, prefer, keep their number down, or reserve."""

from dataclasses import replace

from fleet.cluster import Cluster, UnitRecord
from fleet.machine import Machine
from fleet.names import UnitName
from fleet.resources import Resources
from tests.unit.engine.worlds import (
    all_up,
    homes_of,
    machine,
    reasons_of,
    settled,
    unit,
    with_rows,
    with_units,
    without_machines,
    world,
)

GIB = 1 << 30
A, B = "a.service", "b.service"
RACKS = [
    machine("m1", rack="r1"),
    machine("m2", rack="r1"),
    machine("m3", rack="r2"),
    machine("m4"),
]


def instances(count: int, *options: str) -> list[UnitRecord]:
    return [unit(f"w@{n}.service", *options, revision=n) for n in range(1, count + 1)]


def big(name: str, gib: float, cpus: float = 8) -> Machine:
    return replace(machine(name), resources=Resources(cpus=cpus, memory=round(gib * GIB)))


def reason_of(cluster: Cluster, name: str) -> str:
    (row,) = cluster.assignments_of(UnitName(name))
    return row.reason


def homes_in_order(cluster: Cluster) -> list[str]:
    return [home for _, (home,) in sorted(homes_of(cluster).items())]


def test_instances_are_spread_over_the_values_before_the_machines() -> None:
    after = settled(world(RACKS, instances(5, "Spread=rack")))
    assert homes_in_order(after) == ["m1", "m3", "m2", "m3", "m1"]
    assert reason_of(after, "w@2.service") == (
        "machine m3 suits it, rack=r2 has 0 of w@.service, and it has 0 of w@.service and 0 units"
    )


def test_machines_without_the_key_are_for_when_no_other_suits() -> None:
    after = settled(world(RACKS, instances(4, "Spread=rack", "Conflicts=w@*")))
    assert homes_in_order(after) == ["m1", "m3", "m2", "m4"]
    assert "no machine with rack does" in reason_of(after, "w@4.service")


def test_first_of_several_keys_counts_most() -> None:
    hosts = [
        machine("m1", zone="a", rack="r1"),
        machine("m2", zone="a", rack="r2"),
        machine("m3", zone="b", rack="r1"),
    ]
    after = settled(world(hosts, instances(3, "Spread=zone", "Spread=rack")))
    assert homes_in_order(after) == ["m1", "m3", "m2"]


def test_unit_that_is_no_instance_has_nothing_to_spread() -> None:
    assert homes_of(settled(world(["m1", *RACKS[1:]], [unit(A, "Spread=rack")])))[A] == ["m1"]


def test_preferred_machine_is_taken_whatever_its_load_and_weights_add_up() -> None:
    hosts = [
        machine("m1", region="us", disk="ssd"),
        machine("m2", region="eu", disk="hdd"),
        machine("m3", region="eu", disk="ssd"),
    ]
    wishes = ("Prefer=region=eu 10", "Prefer=disk=ssd 5")
    others = [unit(f"x{n}.service", "MachineID=m3", revision=1) for n in range(3)]
    after = settled(world(hosts, [*others, unit(A, *wishes, revision=2)]))
    assert homes_of(after)[A] == ["m3"]
    assert reason_of(after, A) == (
        "machine m3 suits it, it meets 15 of 15 of what the unit prefers (region=eu, disk=ssd), "
        "and it has 3 units"
    )
    moved = settled(without_machines(all_up(after), "m3"))
    assert homes_of(moved)[A] == ["m2"]
    assert "it meets 10 of 15 of what the unit prefers (region=eu)" in reason_of(moved, A)


def test_unit_does_not_move_for_a_wish() -> None:
    there = with_rows(world(RACKS, [unit(A, "Prefer=rack=r2")]), f"{A}@m1")
    assert homes_of(settled(all_up(there)))[A] == ["m1"]


def test_machine_takes_no_more_instances_than_it_may() -> None:
    after = settled(world(["m1", "m2"], [*instances(5, "MaxPerMachine=2"), unit(A, revision=9)]))
    assert homes_of(after).keys() == {A, *(f"w@{n}.service" for n in range(1, 5))}
    assert reasons_of(after, "w@5.service") == {
        "m1": "2 of w@.service are here already (MaxPerMachine=2)",
        "m2": "2 of w@.service are here already (MaxPerMachine=2)",
    }


def test_instances_beyond_a_new_limit_leave_the_youngest_first() -> None:
    two = world(["m1"], instances(2))
    both = all_up(with_rows(two, "w@1.service@m1", "w@2.service@m1"))
    limited = with_units(both, *instances(2, "MaxPerMachine=1"))
    assert homes_of(settled(limited)) == {"w@1.service": ["m1"]}
    more = replace(limited, machines={**limited.machines, **world(["m2"], []).machines})
    assert homes_of(settled(more)) == {"w@1.service": ["m1"], "w@2.service": ["m2"]}


def test_units_reserve_what_a_machine_has() -> None:
    units = [
        unit(f"{name}.service", "Memory=3G", "CPU=1", revision=n) for n, name in enumerate("abc")
    ]
    after = settled(world([big("m1", 8), big("m2", 4)], units))
    assert homes_of(after) == {A: ["m1"], B: ["m2"], "c.service": ["m1"]}
    late = settled(with_units(after, unit("d.service", "Memory=2.5G", revision=9)))
    assert reasons_of(late, "d.service") == {
        "m1": "it asks for Memory=2.5G, 2G of 8G is free",
        "m2": "it asks for Memory=2.5G, 1G of 4G is free",
    }


def test_global_unit_reserves_on_every_machine_and_is_not_where_there_is_no_room() -> None:
    units = [unit(A, "Global=true", "CPU=2", revision=1), unit(B, "CPU=3", revision=2)]
    after = settled(world([big("m1", 8, cpus=4), big("m2", 8, cpus=1)], units))
    assert homes_of(after) == {A: ["m1"]}
    assert reasons_of(after, B)["m1"] == "it asks for CPU=3, 2 of 4 is free"


def test_unit_that_makes_room_gives_back_what_it_reserved() -> None:
    before = settled(world([big("m1", 4)], [unit(B, "Memory=3G", revision=1)]))
    after = settled(with_units(before, unit(A, f"Replaces={B}", "Memory=2G", revision=2)))
    assert homes_of(after) == {A: ["m1"]}
    assert reasons_of(after, B) == {"m1": f"{A} is here and replaces it"}
