"""fleet 1.0's scheduling and metadata scenarios, on four machines."""

import pytest

from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

MACHINES = ("fleet1", "fleet2", "fleet3", "fleet4")


def _refused(operator: Operator, unit: str) -> str:
    """What fleetctl says to a start that no machine can do now."""
    done = operator.fleetctl("start", unit)
    assert done.returncode == 1, done.stdout
    return done.stderr


def test_pairs_are_together_and_a_pair_moves_together(operator: Operator) -> None:
    pairs = {"ping": "pong", "ding": "dong", "tick": "tock"}
    names = " ".join(f'"{unit}.service"' for unit in pairs)
    for unit, follower in pairs.items():
        operator.service(f"{unit}.service", fleet=f"Conflicts={names}")
        operator.service(f"{follower}.service", fleet=f"MachineOf={unit}.service")
    operator.ok("start", *pairs, *pairs.values())

    homes = {unit: operator.home(f"{unit}.service") for unit in pairs}
    assert len(set(homes.values())) == 3
    for unit, follower in pairs.items():
        assert operator.home(f"{follower}.service") == homes[unit]

    moving = operator.at(next(m for m in MACHINES if m != homes["ping"]))
    try:
        operator.sandbox.run(homes["ping"], ["systemctl", "stop", "fleet.service"], check=True)
        (free,) = set(MACHINES) - set(homes.values())
        assert moving.wait_home("ping.service", on=[free]) == free
        assert moving.wait_home("pong.service", on=[free]) == free
        for unit in ("ding", "tick"):
            assert moving.home(f"{unit}.service") == homes[unit]
            assert moving.home(f"{pairs[unit]}.service") == homes[unit]
    finally:
        operator.sandbox.run(homes["ping"], ["systemctl", "start", "fleet.service"], check=True)


def test_of_mutually_conflicting_units_each_machine_has_one(operator: Operator) -> None:
    operator.service("conflict@.service", fleet="Conflicts=conflict@*.service")
    names = [f"conflict@{number}.service" for number in range(6)]

    done = operator.fleetctl("start", *names)

    assert done.returncode == 1
    rows = [row for row in operator.rows() if row.active == "active"]
    assert len(rows) == 4
    assert {row.machine for row in rows} == set(MACHINES)
    assert done.stderr.count("runs nowhere") == 2


def test_conflict_of_one_side_binds_both_until_it_is_gone(operator: Operator) -> None:
    operator.service("conflicts-with-hello.service", fleet="Conflicts=hello.service\nGlobal=true")
    operator.service("hello.service")
    operator.ok("start", "hello")
    home = operator.home("hello.service")
    others = tuple(machine for machine in MACHINES if machine != home)

    operator.ok("start", "conflicts-with-hello")
    eventually(lambda: operator.homes("conflicts-with-hello.service") == others)
    operator.service("pinned.service", fleet=f"MachineID={operator.machine_id(home)}")
    operator.ok("start", "pinned")
    assert operator.home("hello.service") == home

    operator.ok("destroy", "hello")

    eventually(lambda: operator.homes("conflicts-with-hello.service") == MACHINES)


def test_one_way_conflict_keeps_the_second_away_until_the_first_is_destroyed(
    operator: Operator,
) -> None:
    here = "MachineMetadata=host=fleet3"
    operator.service("conflicter.service", fleet=f"{here}\nConflicts=hello.service")
    operator.service("hello.service", fleet=here)
    operator.ok("start", "conflicter")

    assert "conflicter.service here conflicts with it" in _refused(operator, "hello")

    operator.ok("destroy", "conflicter")
    assert operator.wait_home("hello.service") == "fleet3"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("Conflicts=a@*.service b@*.service", id="one line"),
        pytest.param("Conflicts=a@*.service\nConflicts=b@*.service", id="a line each"),
        pytest.param('Conflicts="a@*.service" "b@*.service"', id="in quotes"),
    ],
)
def test_several_conflicts_all_count(operator: Operator, lines: str) -> None:
    for template in ("a@.service", "b@.service"):
        operator.service(template, fleet=lines)

    operator.ok("start", "a@1", "b@1", "a@2", "b@2")

    assert {row.machine for row in operator.rows() if row.active == "active"} == set(MACHINES)
    assert _refused(operator, "a@3").count("conflicts with") == 4


def test_replacing_unit_takes_the_place_of_the_other_which_moves_on(operator: Operator) -> None:
    operator.service("replace.0.service")
    operator.ok("start", "replace.0")
    home = operator.home("replace.0.service")
    others = [machine for machine in MACHINES if machine != home]
    for machine in others:
        operator.service(f"{machine}@.service", fleet=f"MachineMetadata=host={machine}")
    operator.ok("start", *(f"{machine}@{n}" for machine in others for n in (1, 2)))
    # Of all machines the one with the other unit has the fewest.
    operator.service("replace.1.service", fleet="Replaces=replace.0.service")

    operator.ok("start", "replace.1")

    assert operator.home("replace.1.service") == home
    operator.wait_home("replace.0.service", on=others)
    eventually(lambda: "replace.0.service" not in operator.files(home))
    assert operator.home("replace.1.service") == home


def test_units_that_replace_each_other_run_and_do_not_chase_each_other(
    operator: Operator,
) -> None:
    operator.service("replace-a.service", fleet="Replaces=replace-b.service")
    operator.service("replace-b.service", fleet="Replaces=replace-a.service")
    operator.ok("start", "replace-a", "replace-b")
    with operator.assert_untouched():
        operator.service("later.service")
        operator.ok("start", "later")
        operator.ok("destroy", "later")


def test_machine_id_pins_a_unit(operator: Operator) -> None:
    for number, machine in enumerate(MACHINES):
        asked = f"MachineID={operator.machine_id(machine)}"
        operator.service(f"condition.{number}.service", fleet=asked)
    operator.ok("start", *(f"condition.{number}" for number in range(4)))

    homes = [operator.home(f"condition.{number}.service") for number in range(4)]
    assert homes == list(MACHINES)


def test_second_of_two_conflicting_global_units_does_not_run(operator: Operator) -> None:
    operator.service("one.service", fleet="Global=true\nConflicts=two.service")
    operator.service("two.service", fleet="Global=true")
    operator.ok("start", "one")
    eventually(lambda: operator.homes("one.service") == MACHINES)

    with operator.assert_untouched():
        operator.ok("start", "two")
        operator.service("after.service")
        operator.ok("start", "after")
        operator.ok("destroy", "after")
    assert operator.homes("two.service") == ()

    operator.ok("destroy", "one")
    eventually(lambda: operator.homes("two.service") == MACHINES)


def test_stored_template_places_its_instances_by_their_specifiers(operator: Operator) -> None:
    operator.service("metadata@.service", fleet="MachineMetadata=host=%i")
    operator.ok("submit", "metadata@.service")
    (operator.folder / "metadata@.service").unlink()

    operator.ok("start", *(f"metadata@{machine}" for machine in MACHINES))

    for machine in MACHINES:
        assert operator.home(f"metadata@{machine}.service") == machine
    done = operator.fleetctl("start", "--block-attempts=2", "metadata@invalid.service")
    assert done.returncode == 1
    assert "asks for metadata host=invalid" in done.stderr
