"""fleetd with nothing configured: a cluster of one, in a file, that a reboot does not lose."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from fleet.errors import InvalidRequest
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

RUNS = "/var/tmp/runs"


@pytest.fixture(scope="module")
def alone(
    make_module_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Operator:
    """One machine without etcd, and units of every kind on it."""
    sandbox = make_module_sandbox(machines=1, etcd=0)
    operator = Operator(sandbox=sandbox, folder=tmp_path_factory.mktemp("units"))
    operator.service("web.service")
    operator.service("everywhere.service", fleet="Global=true")
    operator.service("once.service", f"echo >>{RUNS}", service="Type=oneshot")
    operator.service("loaded.service")
    operator.service("stored.service")
    operator.ok("start", "web", "everywhere", "once")
    operator.ok("load", "loaded")
    operator.ok("submit", "stored")
    return operator


def test_machine_alone_has_the_semantics_of_a_cluster(alone: Operator) -> None:
    assert alone.files("fleet1") == (
        "everywhere.service",
        "loaded.service",
        "once.service",
        "web.service",
    )
    alone.service("elsewhere.service", fleet="MachineMetadata=disk=ssd")
    refused = alone.fleetctl("start", "elsewhere")
    assert refused.returncode == 1
    assert "the unit asks for metadata disk=ssd" in refused.stderr
    alone.ok("destroy", "elsewhere")
    journal = alone.inside("fleet1", "status", "web")
    assert "active (running)" in journal.stdout


def test_restart_of_fleetd_touches_no_unit(alone: Operator) -> None:
    before = alone.rows()
    with alone.assert_untouched():
        for command in (["restart", "fleet"], ["kill", "--signal=KILL", "fleet"]):
            alone.sandbox.run("fleet1", ["systemctl", *command])
            alone.sandbox.wait_until_one_cluster()
    eventually(lambda: alone.rows() == before)


def test_units_run_again_after_a_power_cut(alone: Operator) -> None:
    before, stored = alone.rows(), alone.stored()
    ran = len(alone.sandbox.path("fleet1", RUNS).read_text())

    alone.sandbox.kill("fleet1")
    alone.sandbox.boot("fleet1")
    alone.sandbox.wait_until_one_cluster()

    eventually(lambda: alone.rows() == before)
    assert alone.stored() == stored
    assert alone.is_active("fleet1", "web.service")
    assert not alone.is_active("fleet1", "loaded.service")
    assert len(alone.sandbox.path("fleet1", RUNS).read_text()) == ran + 1


def test_second_fleetd_is_told_that_it_takes_etcd(alone: Operator) -> None:
    with alone.assert_untouched():
        done = alone.sandbox.run("fleet1", ["timeout", "20", "fleetd"])

    assert done.returncode == 1, done
    assert "etcd" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_sandbox_of_two_machines_asks_for_etcd(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="without etcd a sandbox can have one machine only"):
        Sandbox.up("pair", machines=2, etcd=0, base=tmp_path)
