"""fleetd is killed or hangs: its units run on, and it is back without an operator."""

import time
from collections.abc import Callable

import pytest

from tests.cluster.machines import eventually
from tests.faults.stage import Stage
from tests.faults.upgrade import replace_fleetd

pytestmark = [pytest.mark.systemd, pytest.mark.faults, pytest.mark.timeout(240)]


def test_fleetd_that_is_killed_on_every_machine(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    pids = {machine: stage.fleetd(machine) for machine in stage.machines}
    with stage.trial():
        for machine, pid in pids.items():
            stage.sh(machine, f"kill -KILL {pid}")
        for machine, pid in pids.items():
            eventually(lambda m=machine, p=pid: stage.fleetd(m) not in (p, "0"))  # type: ignore[misc]


def test_fleetd_that_is_frozen_for_less_than_a_lease(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    with stage.trial():
        stage.sh("fleet2", f"kill -STOP {stage.fleetd('fleet2')}")
        time.sleep(stage.ttl_s / 3)
        stage.sh("fleet2", f"kill -CONT {stage.fleetd('fleet2')}")


def test_fleetd_that_is_frozen_for_longer_than_a_lease(make_stage: Callable[..., Stage]) -> None:
    """To the others it is dead: they take its units over, which run on there until it wakes."""
    stage = make_stage()
    with stage.trial(lost=["fleet2"]):
        stage.sh("fleet2", f"kill -STOP {stage.fleetd('fleet2')}")
        time.sleep(2.5 * stage.ttl_s)
        stage.sh("fleet2", f"kill -CONT {stage.fleetd('fleet2')}")


def test_fleetd_that_hangs_until_its_watchdog_bites(make_stage: Callable[..., Stage]) -> None:
    """WatchdogSec=30 in fleet.service: nobody has to notice that it hangs."""
    stage = make_stage()
    pid = stage.fleetd("fleet2")
    with stage.trial(lost=["fleet2"], bites=True):
        stage.sh("fleet2", f"kill -STOP {pid}")
        eventually(lambda: stage.fleetd("fleet2") not in (pid, "0"), deadline_s=60)


def test_fleetd_that_is_stopped_and_started(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    with stage.trial():
        for machine in stage.machines:
            stage.sh(machine, "systemctl stop fleet && sleep 0.5 && systemctl start fleet")


def test_fleetd_that_is_stopped_for_longer_than_a_lease(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage()
    with stage.trial(lost=["fleet2"]):
        stage.sh("fleet2", "systemctl stop fleet")
        time.sleep(2.5 * stage.ttl_s)
        stage.sh("fleet2", "systemctl start fleet")


def test_fleetd_that_is_upgraded_in_place_on_every_machine(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage()
    with stage.trial():
        for version in ("2.0.1+old", "2.0.2+new"):
            for machine in stage.machines:
                replace_fleetd(stage.operator.sandbox, machine, version)
