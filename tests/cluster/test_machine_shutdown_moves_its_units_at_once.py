"""A machine that is shut down says goodbye: its units need not wait for a lease to end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

# What moves in less has not waited for the end of a lease.
LEASE_S = 100.0
AT_ONCE_S = 60.0


@pytest.fixture(scope="module")
def leased(make_module_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """Three machines whose leases are far longer than any wait here."""
    return make_module_sandbox(settings={"agent_ttl": f"{LEASE_S:g}s"})


@pytest.fixture
def operator(leased: Sandbox, tmp_path: Path) -> Operator:
    """Somebody with all of these machines, and no units on them."""
    leased.boot(*(node.name for node in leased.spec.nodes))
    leased.wait_until_one_cluster()
    operator = Operator(sandbox=leased, folder=tmp_path)
    operator.clear()
    return operator


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
        operator.sandbox.run(victim, ["systemctl", "--no-block", command])
        there.wait_home(unit, on=others, deadline_s=AT_ONCE_S)

    eventually(lambda: operator.sandbox.is_on(victim) is (command == "reboot"))
    listed = {row.unit for row in there.rows("web@*")}
    assert listed == {f"web@{number}.service" for number in (1, 2, 3)}
