"""Fail-static: etcd is gone, hangs, or has no quorum, and no unit anywhere is touched."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

MACHINES = ("fleet1", "fleet2", "fleet3")
MEMBERS = ("etcd1", "etcd2", "etcd3")
TTL_S = 2.0
OUTAGE_S = 2.5 * TTL_S
# How long fleetctl may think about a store that does not answer.
PATIENCE_S = 40.0


@pytest.fixture(scope="module")
def busy(
    make_module_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Operator:
    """Three machines with a short lease, three members of etcd, and units of every kind."""
    sandbox = make_module_sandbox(machines=3, etcd=3, settings={"agent_ttl": f"{TTL_S:g}s"})
    operator = Operator(sandbox=sandbox, folder=tmp_path_factory.mktemp("units"))
    operator.service("web@.service")
    operator.service("everywhere.service", fleet="Global=true")
    operator.service("once.service", "echo >>/var/tmp/runs", service="Type=oneshot")
    operator.service("failed.service", "exit 3", service="Type=oneshot")
    operator.service("stored.service")
    operator.ok("start", "web@1", "web@2", "web@3", "everywhere", "once")
    operator.ok("load", "stored")
    assert operator.fleetctl("start", "failed").returncode == 1
    eventually(lambda: operator.homes("everywhere.service") == MACHINES)
    return operator


def _kill(sandbox: Sandbox, *names: str) -> None:
    sandbox.kill(*names)


def _pause(sandbox: Sandbox, *names: str) -> None:
    sandbox.pause(*names)


def _cut(sandbox: Sandbox, *names: str) -> None:
    sandbox.cut(*names)


OUTAGES = [
    pytest.param(_kill, MEMBERS, id="etcd loses power"),
    # Its leases are long over when it goes on: it has forgotten every machine.
    pytest.param(_pause, MEMBERS, id="etcd hangs"),
    pytest.param(_cut, MEMBERS[:2], id="etcd loses its quorum"),
]


def _end_outage(sandbox: Sandbox) -> None:
    sandbox.resume(*MEMBERS)
    sandbox.heal(*MEMBERS)
    sandbox.boot(*MEMBERS)
    sandbox.wait_until_one_cluster()


def _runs(operator: Operator) -> int:
    files = (operator.sandbox.path(machine, "/var/tmp/runs") for machine in MACHINES)
    return sum(len(path.read_text()) for path in files if path.exists())


@pytest.mark.parametrize(("outage", "members"), OUTAGES)
def test_outage_of_the_store_touches_no_unit(
    busy: Operator, outage: Callable[..., None], members: tuple[str, ...]
) -> None:
    rows, runs = busy.rows(), _runs(busy)

    with busy.assert_untouched():
        began_s = time.monotonic()
        try:
            outage(busy.sandbox, *members)
            _assert_fleetctl_says_so(busy)
            time.sleep(max(0.0, began_s + OUTAGE_S - time.monotonic()))
        finally:
            _end_outage(busy.sandbox)
        # The amnesty after an outage has to end as quietly as it began.
        time.sleep(1.25 * TTL_S)

    assert _runs(busy) == runs
    assert busy.rows() == rows
    busy.service("after.service")
    busy.ok("start", "after")
    busy.ok("destroy", "after")


def _assert_fleetctl_says_so(operator: Operator) -> None:
    """One clear sentence, soon, and not a list that looks as if there were nothing."""
    commands = (("list-units",), ("start", "web@1"), ("list-machines",), ("cat", "web@1"))
    for done in operator.at_once(*commands, timeout_s=PATIENCE_S):
        assert (done.returncode, done.stdout) == (1, ""), done
        assert len(done.stderr.splitlines()) == 1, done
        assert "etcd" in done.stderr, done


def test_loss_of_the_member_that_leads_etcd_touches_no_unit(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    sandbox = make_sandbox(machines=2, etcd=3)
    operator = Operator(sandbox=sandbox, folder=tmp_path)
    operator.service("web@.service")
    operator.ok("start", "web@1", "web@2")
    member = operator.etcd_leader()

    with operator.assert_untouched(may_grow=True):
        sandbox.kill(member)
        # While etcd elects a leader fleetctl may say that there is none.
        eventually(lambda: operator.fleetctl("start", "web@3").returncode == 0, deadline_s=10)
        assert operator.home("web@3.service")
        sandbox.boot(member)
