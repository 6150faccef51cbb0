"""The brake: when machines vanish in a mass it is likelier the network than the machines."""

import time
from collections.abc import Callable

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

TTL_S = 3.0
HOLD_S = 7.0
SURVIVORS = ("fleet1", "fleet2")
VANISHED = ("fleet3", "fleet4")
SETTINGS = {"agent_ttl": f"{TTL_S:g}s", "mass_loss_hold": f"{HOLD_S:g}s"}


@pytest.fixture(scope="module")
def held(
    make_module_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Operator:
    """Four machines with two units each, a short lease and a short hold."""
    sandbox = make_module_sandbox(machines=4, settings=SETTINGS)
    operator = Operator(sandbox=sandbox, folder=tmp_path_factory.mktemp("units"))
    operator.service("web@.service")
    operator.ok("start", *(f"web@{number}" for number in range(1, 9)))
    return operator


def _homes(operator: Operator) -> dict[str, str]:
    return {row.unit: row.machine for row in operator.rows("web@*") if row.active == "active"}


def _targets(operator: Operator) -> dict[str, str]:
    """Where the engine has each unit, whether it runs there or not."""
    rows = (key.split("/") for key in operator.store("schedule/"))
    return {unit: operator.name_of(machine) for _, machine, unit in rows}


def test_machines_that_vanish_together_and_return_keep_their_units(held: Operator) -> None:
    before = _homes(held)
    targets = _targets(held)

    with held.assert_untouched():
        held.sandbox.cut(*VANISHED)
        began_s = time.monotonic()
        eventually(lambda: len(held.ok("list-machines", "--no-legend").splitlines()) == 2)
        # The list is the truth: what cannot be seen is not listed as running.
        eventually(lambda: set(_homes(held).values()) == set(SURVIVORS))
        time.sleep(max(0.0, began_s + 2 * TTL_S - time.monotonic()))
        assert _targets(held) == targets
        held.sandbox.heal(*VANISHED)
        held.sandbox.wait_until_one_cluster()
        time.sleep(TTL_S / 2)

    eventually(lambda: _homes(held) == before)


def test_new_units_are_still_started_on_the_machines_that_are_left(held: Operator) -> None:
    held.sandbox.cut(*VANISHED)
    try:
        eventually(lambda: len(held.ok("list-machines", "--no-legend").splitlines()) == 2)
        held.service("new.service")

        held.ok("start", "new")

        assert held.home("new.service") in SURVIVORS
    finally:
        held.sandbox.heal(*VANISHED)
        held.sandbox.wait_until_one_cluster()


def test_loss_that_stands_for_the_hold_time_is_believed(held: Operator) -> None:
    with held.assert_untouched(*SURVIVORS, may_grow=True):
        held.sandbox.kill(*VANISHED)
        eventually(lambda: len(held.ok("list-machines", "--no-legend").splitlines()) == 2)
        began_s = time.monotonic()
        eventually(lambda: len(_homes(held)) == 8)
    assert time.monotonic() - began_s > HOLD_S - 2
    assert set(_homes(held).values()) == set(SURVIVORS)


def test_hold_is_told_in_the_log_of_the_leader(held: Operator) -> None:
    said = "".join(held.sandbox.journal(machine) for machine in ("fleet1", "fleet2"))
    said += "".join(held.sandbox.journal(machine) for machine in VANISHED)

    assert "2 of 4 machines vanished within 3 s: their units stay theirs" in said
    assert "2 machines are still missing and given up" in said
