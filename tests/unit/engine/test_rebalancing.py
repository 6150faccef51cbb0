"""What would move to even out the load: only what gains something, and only to where it may be."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from engine.rebalancing import MOST_TOGETHER, find_moves, foreseen_of, tasks_of
from engine.tasks import TaskKind
from fleet.cluster import Cluster, UnitRecord
from fleet.hold import Hold
from fleet.machine import MachineId
from tests.unit.engine.worlds import (
    all_up,
    carried_out,
    cordoned,
    machine,
    planned,
    rows_of,
    settled,
    unit,
    with_machines,
    with_rows,
    with_units,
    without_units,
    world,
)

PLAIN = [unit(f"{letter}.service", revision=n) for n, letter in enumerate("abcd", 1)]


def crowded(units: Sequence[UnitRecord] = PLAIN, *others: str, rows: Sequence[str] = ()) -> Cluster:
    """All units on m1, where they are up, and other machines that came late."""
    made = world(["m1"], units)
    placed = with_rows(made, *(rows or [f"{record.name}@m1" for record in units]))
    return all_up(with_machines(placed, *(others or ("m2",))))


def moves(cluster: Cluster, most: int = 100) -> list[str]:
    """The moves as `a.service m1-m2`."""
    found = find_moves(cluster, most)
    return [f"{unit} {move.source}-{move.target}" for move in found for unit in move.pack]


def test_units_go_from_the_fullest_machine_to_the_emptiest_until_nothing_is_gained() -> None:
    assert moves(crowded()) == ["a.service m1-m2", "b.service m1-m2"]
    assert moves(crowded(PLAIN, "m2", "m3")) == ["a.service m1-m2", "b.service m1-m3"]


def test_nobody_comes_to_where_a_unit_has_yet_to_go_that_may_not_bear_it() -> None:
    guard = unit("guard.service", "Conflicts=*", revision=9)
    cluster = with_rows(
        crowded([*PLAIN, guard], rows=["a.service@m1", "b.service@m1", "c.service@m1"]),
        "guard.service@m2",
    )
    destroyed = without_units(all_up(cluster), "guard.service")
    assert moves(destroyed) == []
    assert moves(carried_out(destroyed, planned(destroyed).tasks)) != []


def test_no_more_moves_than_asked_for() -> None:
    assert moves(crowded(), most=1) == ["a.service m1-m2"]


def test_move_says_why_and_where() -> None:
    cluster = crowded()
    found = foreseen_of(cluster, find_moves(cluster, 1))
    (move,) = found.units
    reason = move.reasons[MachineId("m2")]
    assert reason.startswith("machine m1 has 4 units; machine m2 suits it")
    assert set(found.addresses) == {"m1", "m2"}


@pytest.mark.parametrize(
    ("units", "moved"),
    [
        pytest.param(PLAIN[:1], [], id="a lone unit gains nothing"),
        pytest.param(PLAIN[:2], ["a.service m1-m2"], id="a difference of two is worth it"),
        pytest.param(
            [unit("a.service", "MachineID=m1"), *PLAIN[1:2]], ["b.service m1-m2"], id="pinned"
        ),
        pytest.param(
            [unit("a.service", "Fenced=true"), *PLAIN[1:2]], ["b.service m1-m2"], id="fenced"
        ),
        pytest.param(
            [unit("a.service", "Global=true"), *PLAIN[1:2]], ["b.service m1-m2"], id="global"
        ),
        pytest.param(
            [
                unit("a.service", "MachineMetadata=disk=ssd"),
                unit("b.service", "MachineMetadata=disk=ssd"),
            ],
            [],
            id="the other machine does not suit them",
        ),
        pytest.param(
            [unit("a.service"), unit("b.service", "MachineOf=a.service")],
            [],
            id="a pair would only swap the machines",
        ),
        pytest.param(
            [unit("a.service"), unit("b.service", "MachineOf=a.service"), *PLAIN[2:]],
            ["c.service m1-m2", "d.service m1-m2"],
            id="single units before pairs",
        ),
    ],
)
def test_moves_of(units: list[UnitRecord], moved: list[str]) -> None:
    assert moves(crowded(units)) == moved


def test_pair_goes_together_if_that_gains_something() -> None:
    pairs = [
        unit("a.service"),
        unit("b.service", "MachineOf=a.service", revision=2),
        unit("c.service", revision=3),
        unit("d.service", "MachineOf=c.service", revision=4),
    ]
    assert moves(crowded(pairs), most=1) == ["a.service m1-m2", "b.service m1-m2"]
    assert moves(crowded(pairs)) == ["a.service m1-m2", "b.service m1-m2"]


def test_nobody_is_displaced_and_conflicts_hold() -> None:
    rivals = [
        unit("a.service", "Replaces=x.service"),
        unit("b.service", "Conflicts=x.service"),
        unit("c.service", "Conflicts=x.service"),
        unit("x.service"),
    ]
    rows = ["a.service@m1", "b.service@m1", "c.service@m1", "x.service@m2"]
    assert moves(crowded(rivals, rows=rows)) == []


def test_instances_are_not_stacked_for_the_load() -> None:
    units = [unit("w@1.service"), unit("w@2.service"), *PLAIN[:3]]
    rows = ["w@1.service@m1", "w@2.service@m2", *(f"{one.name}@m1" for one in PLAIN[:3])]
    assert moves(crowded(units, rows=rows)) == ["a.service m1-m2"]


def test_units_that_must_not_meet_are_kept_apart_while_they_move() -> None:
    apart = [unit("w@1.service", "Conflicts=w@*"), unit("w@2.service", "Conflicts=w@*")]
    units = [*apart, *PLAIN]
    rows = ["w@1.service@m1", "w@2.service@m2", *(f"{one.name}@m1" for one in PLAIN)]
    assert moves(crowded(units, rows=rows), most=1) == ["a.service m1-m2"]
    assert not [move for move in moves(crowded(units, rows=rows)) if move.startswith("w@1")]


def test_cordoned_machine_neither_gives_nor_takes() -> None:
    assert moves(cordoned(crowded(), "m1")) == []
    assert moves(cordoned(crowded(), "m2", drain=True)) == []
    assert moves(cordoned(crowded(PLAIN, "m2", "m3"), "m2")) == [
        "a.service m1-m3",
        "b.service m1-m3",
    ]


def test_what_is_not_up_or_moves_already_stays() -> None:
    cluster = crowded()
    down = replace(cluster, states=cluster.states[2:])
    assert moves(down) == ["c.service m1-m2", "d.service m1-m2"]
    rows = ["a.service@m1 leaving", "a.service@m3", *(f"{one.name}@m1" for one in PLAIN[1:])]
    assert moves(crowded(PLAIN, "m3", rows=rows)) == ["b.service m1-m3"]


def test_unit_that_is_not_yet_as_it_is_wanted_stays() -> None:
    cluster = crowded()
    newer = with_units(cluster, unit("a.service", version="2"))
    assert moves(newer) == ["b.service m1-m2", "c.service m1-m2"]


def test_pack_that_is_too_large_for_one_transaction_stays() -> None:
    pack = [unit(f"p{n:02}.service", "MachineOf=z.service") for n in range(MOST_TOGETHER)]
    others = [unit("z.service"), unit("pinned.service", "MachineID=m1")]
    assert len(moves(crowded([*others, *pack[1:]]))) == MOST_TOGETHER
    assert moves(crowded([*others, *pack])) == []


def test_tasks_of_a_move_are_those_of_a_plan_and_say_who_asked() -> None:
    cluster = crowded()
    (move,) = find_moves(cluster, 1)
    leave, place = tasks_of(cluster, move, by="root@box")
    assert (leave.kind, place.kind) == (TaskKind.LEAVE, TaskKind.PLACE)
    assert place.reason == f"{move.reason}; rebalance asked for by root@box"
    assert leave.reason == f"{place.reason}; it stays until it is up on machine m2"
    after = carried_out(cluster, (leave, place))
    assert {"a.service@m1 leaving", "a.service@m2"} <= rows_of(after)
    assert planned(after).tasks == ()
    assert "a.service@m1 leaving" not in rows_of(settled(all_up(after)))


def test_nothing_moves_while_vanished_machines_are_held() -> None:
    hold = Hold(machines=frozenset({MachineId("m9")}), until_s=1e12)
    assert moves(replace(crowded(), hold=hold)) == []


def test_nothing_is_gained_where_the_scheduler_has_just_placed_everything() -> None:
    placed = all_up(settled(world(["m1", "m2", "m3"], PLAIN)))
    assert len(rows_of(placed)) == 4
    assert moves(placed) == []
    assert moves(world([machine("m1")], [])) == []
    assert moves(world([], PLAIN)) == []
