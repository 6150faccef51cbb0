"""fleet 1.0's connectivity scenarios: etcd is away, refused or silent, and nothing is stopped."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

TTL_S = 3.0
OVERDUE = "Server monitor triggered: Monitor timed out before successful heartbeat"


def _refused(sandbox: Sandbox) -> None:
    sandbox.kill("etcd1")


def _silent(sandbox: Sandbox) -> None:
    sandbox.pause("etcd1")


@pytest.fixture
def back(operator: Operator) -> Iterator[Operator]:
    """The operator, and etcd as it was in the end."""
    yield operator
    _bring_back(operator.sandbox)


def _bring_back(sandbox: Sandbox) -> None:
    sandbox.resume("etcd1")
    sandbox.boot("etcd1")
    sandbox.wait_until_one_cluster()


def _journal_since(operator: Operator, machine: str) -> str:
    """What the machine has noted since this was last asked."""
    argv = ["journalctl", "--no-pager", "--output=cat", "--cursor-file=/run/read-so-far"]
    return operator.sandbox.run(machine, argv, check=True).stdout


@pytest.mark.parametrize(
    "lose", [pytest.param(_refused, id="refused"), pytest.param(_silent, id="silent")]
)
def test_units_and_their_files_outlast_the_loss_of_etcd(
    back: Operator, lose: Callable[[Sandbox], None]
) -> None:
    back.service("single@.service")
    back.service("global@.service", fleet="Global=true")
    back.ok("start", "single@1", "single@2", "global@1", "global@2")
    machines = back.powered()
    for unit in ("global@1.service", "global@2.service"):
        eventually(partial(_runs_on, back, unit, machines))
    enabled = {key: _enabled(back, *key) for key in back.lives()}
    assert set(enabled.values()) == {"linked-runtime"}
    for machine in machines:
        _journal_since(back, machine)

    with back.assert_untouched():
        lose(back.sandbox)
        eventually(lambda: OVERDUE in _fleet_journal(back, "fleet2"), deadline_s=4 * TTL_S)
        done = back.fleetctl("list-units")
        assert done.returncode == 1
        assert "fleet server unable to communicate with etcd" in done.stderr
        _bring_back(back.sandbox)
        time.sleep(TTL_S)  # whatever the engine decides now it has decided then

    assert {key: _enabled(back, *key) for key in back.lives()} == enabled
    for machine in machines:
        said = _journal_since(back, machine)
        assert "Stopping single@" not in said
        assert "Stopping global@" not in said


def _runs_on(operator: Operator, unit: str, machines: tuple[str, ...]) -> bool:
    return operator.homes(unit) == machines


def _enabled(operator: Operator, machine: str, unit: str) -> str:
    return operator.sandbox.run(machine, ["systemctl", "is-enabled", unit]).stdout.strip()


def _fleet_journal(operator: Operator, machine: str) -> str:
    argv = ["journalctl", "--no-pager", "--output=cat", "--unit=fleet", "--since=-30s"]
    return operator.sandbox.run(machine, argv, check=True).stdout


def test_fleetd_stops_cleanly_while_etcd_is_silent(back: Operator) -> None:
    back.service("hello.service", fleet=f"MachineID={back.machine_id('fleet3')}")
    back.ok("start", "hello")
    back.sandbox.pause("etcd1")
    eventually(lambda: OVERDUE in _fleet_journal(back, "fleet3"), deadline_s=4 * TTL_S)

    began_s = time.monotonic()
    back.sandbox.run("fleet3", ["systemctl", "stop", "fleet.service"], check=True)

    assert time.monotonic() - began_s < 10
    shown = back.show("fleet3", "fleet.service", "ActiveState", "Result")
    assert shown == {"ActiveState": "inactive", "Result": "success"}
    # It was to leave in order, and that it can do without etcd.
    assert not back.is_active("fleet3", "hello.service")
    back.sandbox.run("fleet3", ["systemctl", "start", "fleet.service"], check=True)
    _bring_back(back.sandbox)
    assert back.wait_home("hello.service") == "fleet3"
