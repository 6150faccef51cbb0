"""A machine whose processors are all taken stays a member of the cluster."""

import time
from collections.abc import Callable

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

TTL_S = 3.0
LOAD_S = 3 * TTL_S
# More takers than processors, and in the same slice as fleetd.
LOAD = f"for i in 1 2 3 4 5 6 7 8; do timeout {LOAD_S:g} sh -c 'while :; do :; done' & done; wait"


@pytest.fixture(scope="module")
def module_cluster(make_module_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """Three machines whose lease is half as long as by default."""
    return make_module_sandbox(settings={"agent_ttl": f"{TTL_S:g}s"})


def test_machine_under_load_keeps_its_units_and_its_place(operator: Operator) -> None:
    operator.service("web@.service")
    operator.ok("start", "web@1", "web@2", "web@3")
    rows = operator.rows()

    with operator.assert_untouched():
        began_s = time.monotonic()
        for machine in ("fleet1", "fleet2"):
            load = ["systemd-run", "--quiet", "--unit=load", "sh", "-c", LOAD]
            operator.sandbox.run(machine, load, check=True)
        while time.monotonic() < began_s + LOAD_S:
            listed = operator.ok("list-machines", "--no-legend", through="fleet3")
            assert len(listed.splitlines()) == 3
            time.sleep(0.5)

    assert operator.rows() == rows
    for machine in ("fleet1", "fleet2", "fleet3"):
        assert "this machine is registered" not in _journal_since(operator, machine, LOAD_S)


def _journal_since(operator: Operator, machine: str, seconds: float) -> str:
    argv = ["journalctl", "--unit=fleet", f"--since=-{seconds:g}s", "--no-pager", "--output=cat"]
    return operator.sandbox.run(machine, argv).stdout
