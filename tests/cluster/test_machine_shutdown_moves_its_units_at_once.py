"""A machine that is shut down says goodbye: its units need not wait for a lease to end."""

import time

import pytest

from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

# A machine's lease is 6 s and renewed every 2 s, so one that just vanished is missed after 4 s.
AT_ONCE_S = 3.5


@pytest.mark.parametrize("command", ["poweroff", "reboot"])
def test_units_of_a_machine_that_is_shut_down_run_elsewhere_at_once(
    operator: Operator, command: str
) -> None:
    operator.service("web@.service")
    operator.ok("start", "web@1", "web@2", "web@3")
    leader = operator.leader()
    victim = next(name for name in operator.powered() if (name == leader) is (command == "reboot"))
    (unit,) = [row.unit for row in operator.rows("web@*") if row.machine == victim]
    others = tuple(name for name in operator.powered() if name != victim)
    there = operator.at(others[0])

    with operator.assert_untouched(*others, may_grow=True):
        began_s = time.monotonic()
        operator.sandbox.run(victim, ["systemctl", "--no-block", command])
        there.wait_home(unit, on=others)
        took_s = time.monotonic() - began_s

    assert took_s < AT_ONCE_S
    eventually(lambda: operator.sandbox.is_on(victim) is (command == "reboot"))
    listed = {row.unit for row in there.rows("web@*")}
    assert listed == {f"web@{number}.service" for number in (1, 2, 3)}
