"""The scheduler's choice, as tables of what is where."""

import pytest

from engine.board import Board
from engine.scheduler import choose
from fleet.machine import MachineId
from fleet.names import UnitName
from tests.unit.engine.worlds import machine, unit

M1, M2, M3 = (MachineId(name) for name in ("m1", "m2", "m3"))


def board_of(*places: str) -> Board:
    """Three machines with units such as `a.service@m1` on them."""
    board = Board([machine("m3"), machine("m1"), machine("m2", disk="ssd")])
    for place in places:
        name, _, where = place.rpartition("@")
        board.put(UnitName(name), unit(name).requirements, MachineId(where))
    return board


@pytest.mark.parametrize(
    ("there", "name", "options", "machine"),
    [
        pytest.param([], "x.service", [], "m1", id="lowest id when all are empty"),
        pytest.param(["a.service@m1"], "x.service", [], "m2", id="least loaded"),
        pytest.param(
            ["a.service@m1", "b.service@m1", "w@1.service@m2", "c.service@m3"],
            "w@2.service",
            [],
            "m3",
            id="spread instances before load",
        ),
        pytest.param(
            ["w@1.service@m1", "w@2.service@m2", "w@3.service@m3", "a.service@m1"],
            "w@4.service",
            [],
            "m2",
            id="load among machines with as many instances",
        ),
        pytest.param(
            ["w@1.service@m1", "w@1.socket@m2", "a.service@m3", "b.service@m3"],
            "w@2.service",
            [],
            "m2",
            id="a socket is no instance of a service",
        ),
        pytest.param(
            ["a.service@m2"], "x.service", ["MachineMetadata=disk=ssd"], "m2", id="what suits first"
        ),
        pytest.param(
            ["a.service@m1", "b.service@m1"],
            "x.service",
            ["MachineOf=a.service"],
            "m1",
            id="beside its peer",
        ),
    ],
)
def test_choose_takes(there: list[str], name: str, options: list[str], machine: str) -> None:
    made = unit(name, *options)
    choice = choose(board_of(*there), {made.name: made.requirements})
    assert (choice.machine, choice.reasons) == (machine, {})


def test_choose_says_why_for_every_machine_it_refuses() -> None:
    made = unit("x.service", "MachineMetadata=disk=ssd", "Conflicts=a.service")
    choice = choose(board_of("a.service@m2"), {made.name: made.requirements})
    assert choice.machine is None
    assert choice.reasons == {
        "m1": "the unit asks for metadata disk=ssd, the machine has no disk",
        "m2": "it conflicts with a.service here (Conflicts=a.service)",
        "m3": "the unit asks for metadata disk=ssd, the machine has no disk",
    }


def test_choose_prefers_where_a_unit_is_over_load() -> None:
    made = unit("x.service")
    board = board_of("a.service@m1", "b.service@m1")
    assert choose(board, {made.name: made.requirements}, [M1]).machine == M1


def test_choose_names_whom_it_displaces() -> None:
    made = unit("x.service", "Replaces=a.service")
    board = board_of("a.service@m1", "b.service@m2", "c.service@m3")
    choice = choose(board, {made.name: made.requirements})
    assert (choice.machine, choice.displaces) == (M1, ("a.service",))


def test_choose_heeds_a_veto_on_displacing() -> None:
    made = unit("x.service", "Replaces=a.service")
    board = Board([machine("m1")], veto=lambda one, other: f"{one} may not displace {other}")
    board.put(UnitName("a.service"), unit("a.service").requirements, M1)
    choice = choose(board, {made.name: made.requirements})
    assert choice.reasons == {"m1": "x.service may not displace a.service"}


def test_a_unit_that_leaves_repels_but_carries_nobody_and_weighs_nothing() -> None:
    board = board_of("b.service@m2", "c.service@m3")
    leaving = unit("a.service", "Conflicts=x.service")
    board.let_leave(leaving.name, leaving.requirements, M1)
    other, hated = unit("y.service"), unit("x.service")
    follower = unit("f.service", "MachineOf=a.service")
    assert choose(board, {other.name: other.requirements}).machine == M1
    assert choose(board, {hated.name: hated.requirements}).machine == M2
    assert choose(board, {follower.name: follower.requirements}).machine is None


def test_a_unit_taken_off_the_board_counts_no_more() -> None:
    board = board_of("w@1.service@m1", "a.service@m2", "b.service@m3")
    board.take(UnitName("w@1.service"), M1)
    made = unit("w@2.service")
    assert board.load(M1) == 0
    assert choose(board, {made.name: made.requirements}).machine == M1
