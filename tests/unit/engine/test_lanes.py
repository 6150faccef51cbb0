"""Lanes, against machines that are sorted anew at every look."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.lanes import Lane, Level
from fleet.machine import MachineId

IDS = [MachineId(name) for name in "abcdefgh"]


class Town:
    """Machines with levels that a test changes, a lane of them, and what the lane asked about."""

    def __init__(self, levels: dict[str, Level]) -> None:
        self.levels = {MachineId(name): level for name, level in levels.items()}
        self.lane = Lane(self.levels, lambda machine: self.levels[machine])
        self.asked: list[MachineId] = []

    def first(self, full: Iterable[str] = ()) -> MachineId | None:
        """The lane's answer if these machines refuse."""
        self.asked = []

        def accepts(machine: MachineId) -> bool:
            self.asked.append(machine)
            return machine not in full

        return self.lane.first(accepts)

    def in_order(self) -> list[MachineId]:
        return sorted(self.levels, key=lambda machine: (self.levels[machine], machine))

    def set(self, machine: MachineId, level: Level) -> None:
        """The machine has this level, which is told if it is new or has fallen."""
        old = self.levels.get(machine)
        self.levels[machine] = level
        if old is None or level < old:
            self.lane.lower(machine)

    def remove(self, machine: MachineId) -> None:
        if self.levels.pop(machine, None) is not None:
            self.lane.remove(machine)


def test_lane_goes_by_instances_then_by_load_then_by_id() -> None:
    town = Town({"c": (0, 1), "b": (0, 2), "a": (1, 0), "d": (0, 1)})
    assert town.first(full="abcd") is None
    assert town.asked == ["c", "d", "b", "a"]
    assert town.first() == "c"


def test_lane_sees_that_a_level_has_grown_without_being_told() -> None:
    town = Town({"a": (0, 0), "b": (0, 0), "c": (0, 1)})
    taken = []
    for _ in range(6):
        machine = town.first()
        assert machine is not None
        taken.append(machine)
        alike, load = town.levels[machine]
        town.levels[machine] = (alike, load + 1)
    assert taken == ["a", "b", "a", "b", "c", "a"]


def test_lane_asks_no_machine_twice_that_came_back_to_where_it_was_left_behind() -> None:
    town = Town({"a": (0, 3), "b": (0, 3)})
    town.set(MachineId("a"), (0, 1))
    town.levels[MachineId("a")] = (0, 3)
    assert town.first(full="ab") is None
    assert town.asked == ["a", "b"]


def test_lane_keeps_those_that_refused_in_order() -> None:
    town = Town({"a": (0, 0), "b": (0, 0), "c": (0, 1), "d": (0, 2)})
    assert town.first(full="abc") == "d"
    assert town.first(full="a") == "b"
    assert town.asked == ["a", "b"]


@pytest.mark.parametrize("rounds", [pytest.param(1000, id="so often that shelves are built anew")])
def test_lane_forgets_what_falls_and_grows_over_and_over(rounds: int) -> None:
    town = Town(dict.fromkeys(IDS, (0, 5)))
    chance = random.Random(rounds)
    for _ in range(rounds):
        machine = chance.choice(IDS)
        town.set(machine, (0, 0))
        town.levels[machine] = (0, 5)
    assert town.first(full=IDS) is None
    assert town.asked == IDS


# A machine with its new level, or None if it goes, and who is full at the look after it, if any.
CHANGES = st.tuples(
    st.sampled_from(IDS),
    st.none() | st.tuples(st.integers(0, 2), st.integers(0, 3)),
    st.none() | st.frozensets(st.sampled_from(IDS)),
)


@pytest.mark.fuzz
@given(st.lists(CHANGES, max_size=60))
def test_lane_answers_as_if_it_sorted_at_every_look(
    changes: list[tuple[MachineId, Level | None, frozenset[MachineId] | None]],
) -> None:
    town = Town({"b": (0, 1), "d": (0, 0), "f": (1, 0)})
    for machine, level, full in changes:
        if level is None:
            town.remove(machine)
        else:
            town.set(machine, level)
        if full is not None:
            order = town.in_order()
            found = next((each for each in order if each not in full), None)
            assert town.first(full) == found
            assert town.asked == (order[: order.index(found) + 1] if found else order)
