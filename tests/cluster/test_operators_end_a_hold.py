"""The brake on a mass loss is an operator's to end, and machines that are shut down need none.

The hold lasts far longer than any wait here, so what moves does not move because it is over.
"""

import re
from collections.abc import Callable

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

SURVIVORS = ("fleet1", "fleet2")
VANISHED = ("fleet3", "fleet4")
SETTINGS = {"agent_ttl": "3s", "mass_loss_hold": "1h"}


@pytest.fixture(scope="module")
def held(
    make_module_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Operator:
    """Four machines with a short lease and a long hold."""
    sandbox = make_module_sandbox(machines=4, settings=SETTINGS)
    return Operator(sandbox=sandbox, folder=tmp_path_factory.mktemp("units"))


def _targets(operator: Operator) -> dict[str, str]:
    """Where the engine has each unit, whether it runs there or not."""
    rows = (key.split("/") for key in operator.store("schedule/"))
    return {unit: operator.name_of(machine) for _, machine, unit in rows}


def _events(operator: Operator, what: str) -> int:
    """How many events of that kind the cluster tells of."""
    return sum(what in line for line in operator.ok("events", "--lines=1000").splitlines())


@pytest.fixture
def newcomers(held: Operator) -> tuple[str, ...]:
    """Units that run on the machines that will vanish; the others have some already."""
    held.sandbox.boot(*VANISHED)
    held.sandbox.wait_until_one_cluster()
    held.clear()
    held.service("web@.service")
    held.ok("start", *(f"web@{number}" for number in range(1, 9)))
    rows = held.rows("web@*")
    units = tuple(row.unit for row in rows if row.machine in VANISHED)
    assert {held.home(unit) for unit in units} == set(VANISHED)
    return units


def _told_of_hold(held: Operator) -> str:
    """What list-machines says beside its list once a hold is on; a moment before it knows less."""
    told = held.fleetctl("list-machines").stderr
    assert "Machines are held" in told
    return told


def test_operator_is_told_of_a_hold_and_ends_it(held: Operator, newcomers: tuple[str, ...]) -> None:
    before = _targets(held)
    held.sandbox.kill(*VANISHED)
    told = eventually(lambda: _told_of_hold(held))

    held_ids = sorted(held.machine_id(machine)[:8] for machine in VANISHED)
    assert f"Machines are held: {held_ids[0]}..., {held_ids[1]}... vanished at once" in told
    assert "fleetctl hold --release" in told
    assert re.search(r"^Lost: .*: held, so their units stay where they are", told, re.M)
    assert len(held.ok("list-machines", "--no-legend").splitlines()) == 2
    shown, waited = held.at_once(("hold",), ("start", "--block-attempts=1", newcomers[0]))
    assert "2 of 4 machines vanished" in shown.stdout
    assert waited.returncode == 1
    assert "is held (see fleetctl hold): 2 of 4 machines vanished" in waited.stderr
    assert _targets(held) == before

    assert held.ok("hold", "--release").startswith("Gave up ")

    for unit in newcomers:
        held.wait_home(unit, on=SURVIVORS)
    assert held.ok("hold") == "No machines are held\n"
    assert held.fleetctl("list-units").stderr == ""
    assert _events(held, "released the hold") == 1


def test_machines_that_are_shut_down_together_are_not_held(
    held: Operator, newcomers: tuple[str, ...]
) -> None:
    holds = _events(held, " machines vanished within ")
    for machine in VANISHED:
        held.sandbox.run(machine, ["systemctl", "--no-block", "poweroff"])
    for unit in newcomers:
        held.wait_home(unit, on=SURVIVORS)
    assert _events(held, "leaves the cluster on purpose") == 2
    assert _events(held, " machines vanished within ") == holds
