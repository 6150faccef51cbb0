"""The plan as an answer, without anything done."""

from dataclasses import replace

from engine.foresee import foresee
from fleet.foresight import ForeseenUnit
from fleet.names import UnitName
from tests.unit.engine.worlds import settled, unit, world

A, B = UnitName("a.service"), UnitName("b.service")


def only(units: tuple[ForeseenUnit, ...]) -> ForeseenUnit:
    (unit,) = units
    return unit


def test_new_unit_is_foreseen_where_the_plan_then_puts_it() -> None:
    before = settled(world(["m1", "m2"], [unit(A)]))
    new = unit(B)
    foreseen = only(foresee(before, {B: new}).units)
    after = settled(replace(before, units={**before.units, B: new}))
    assert foreseen.machines == tuple(row.machine for row in after.assignments_of(B))
    assert foreseen.was == ()
    assert all(foreseen.reasons[machine] for machine in foreseen.machines)


def test_unit_that_suits_no_machine_is_foreseen_with_the_reasons() -> None:
    foreseen = only(foresee(world(["m1"], []), {A: unit(A, "MachineMetadata=disk=tape")}).units)
    assert foreseen.machines == ()
    assert "disk" in foreseen.refusals["m1"]


def test_changed_unit_stays_and_one_that_goes_leaves_its_machine() -> None:
    before = settled(world(["m1"], [unit(A), unit(B)]))
    stays = only(foresee(before, {A: replace(before.units[A], hash="new", file="new")}).units)
    assert (stays.was, stays.machines) == (("m1",), ("m1",))
    goes = only(foresee(before, {A: None}).units)
    assert (goes.was, goes.machines) == (("m1",), ())


def test_unit_that_has_to_make_room_is_told_of_too() -> None:
    before = settled(world(["m1"], [unit(A)]))
    foreseen = {one.name: one for one in foresee(before, {B: unit(B, f"Replaces={A}")}).units}
    assert foreseen[B].machines == ("m1",)
    assert (foreseen[A].was, foreseen[A].machines) == (("m1",), ())


def test_what_happens_anyway_is_not_told() -> None:
    waiting = world(["m1"], [unit(A)])  # not placed yet
    assert [one.name for one in foresee(waiting, {B: unit(B)}).units] == [B]
