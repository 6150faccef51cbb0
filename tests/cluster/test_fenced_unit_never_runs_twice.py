"""A fenced unit stops before it starts elsewhere: on a machine cut off, under a frozen fleetd."""

import json
from collections.abc import Callable

import pytest

from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

MACHINES = ("fleet1", "fleet2", "fleet3")
SOLO = "solo.service"
# A lease, a stop time and what a busy host adds.
ELSEWHERE_S = 60.0


def _start(operator: Operator) -> str:
    operator.service(SOLO, fleet="Fenced=true", service="TimeoutStopSec=3\nRestart=always")
    operator.ok("start", SOLO)
    return operator.home(SOLO)


def _moment_s(operator: Operator, machine: str, word: str) -> float:
    """When systemd last said so of the unit, by the clock that all the machines share."""
    said = ["journalctl", f"--unit={SOLO}", "--boot", "--output=json", "--no-pager"]
    lines = operator.sandbox.run(machine, said, check=True).stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    moments = [
        int(entry["__MONOTONIC_TIMESTAMP"])
        for entry in entries
        if str(entry["MESSAGE"]).startswith(f"{word} {SOLO}")
    ]
    assert moments, f"{machine} has not {word.lower()} {SOLO}"
    return max(moments) / 1e6


@pytest.mark.parametrize("fault", ["cut", "frozen"])
def test_fenced_unit_stops_on_a_machine_that_cannot_renew_before_it_starts_elsewhere(
    operator: Operator, fault: str
) -> None:
    old = _start(operator)
    others = [machine for machine in MACHINES if machine != old]
    operator = operator.at(others[0])

    mend = _cut(operator, old) if fault == "cut" else _freeze(operator, old)
    eventually(lambda: not operator.is_active(old, SOLO))
    new = operator.wait_home(SOLO, on=others, deadline_s=ELSEWHERE_S)
    assert _moment_s(operator, old, "Stopped") < _moment_s(operator, new, "Started")
    assert "Stop fenced units" in operator.sandbox.journal(old)
    claims = operator.store("claims")
    assert [key.split("/")[1] for key in claims] == [operator.machine_id(new)]

    # The machine is back, and the unit stays where it is.
    with operator.assert_untouched(new):
        mend()
        operator.sandbox.wait_until_one_cluster()
        eventually(lambda: SOLO not in operator.files(old))
    assert not operator.is_active(old, SOLO)


def test_fenced_unit_that_moves_stops_before_it_starts(operator: Operator) -> None:
    old = _start(operator)
    new = next(machine for machine in MACHINES if machine != old)

    asks = f"Fenced=true\nMachineID={operator.machine_id(new)}"
    operator.service(SOLO, fleet=asks, service="TimeoutStopSec=3")
    operator.ok("start", "--replace", SOLO)

    assert operator.home(SOLO) == new
    assert _moment_s(operator, old, "Stopped") < _moment_s(operator, new, "Started")
    assert not operator.is_active(old, SOLO)


def test_drained_machine_stops_its_fenced_unit_before_another_starts_it(operator: Operator) -> None:
    old = _start(operator)

    told = operator.ok("drain", "--timeout=30", operator.machine_id(old))
    operator.ok("uncordon", operator.machine_id(old))

    new = operator.wait_home(SOLO, on=[machine for machine in MACHINES if machine != old])
    assert f"Unit {SOLO} launched on {operator.machine_id(new)[:8]}" in told
    assert _moment_s(operator, old, "Stopped") < _moment_s(operator, new, "Started")
    assert [key.split("/")[1] for key in operator.store("claims")] == [operator.machine_id(new)]


def test_fleetd_that_starts_anew_leaves_fenced_units_running(operator: Operator) -> None:
    home = _start(operator)

    with operator.assert_untouched(home):
        operator.sandbox.run(home, ["systemctl", "restart", "fleet"], check=True)
        operator.sandbox.wait_until_one_cluster()
        eventually(lambda: operator.rows(SOLO))


def _cut(operator: Operator, machine: str) -> Callable[[], None]:
    operator.sandbox.cut(machine)
    return lambda: operator.sandbox.heal(machine)


def _freeze(operator: Operator, machine: str) -> Callable[[], None]:
    def send(signal: str) -> None:
        script = f"kill -{signal} $(systemctl show --value --property=MainPID fleet)"
        operator.sandbox.run(machine, ["sh", "-c", script], check=True)

    send("STOP")
    return lambda: send("CONT")
