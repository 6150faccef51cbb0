"""A machine loses power or its cable: its units run elsewhere, and nothing else is touched."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.machines import eventually
from tests.faults.stage import Stage

pytestmark = [pytest.mark.systemd, pytest.mark.faults, pytest.mark.timeout(240)]


def test_machine_that_loses_power_and_is_back(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    with stage.trial(dead=["fleet2"]):
        stage.operator.sandbox.kill("fleet2")
        time.sleep(2.5 * stage.ttl_s)
        stage.operator.sandbox.boot("fleet2")


def test_machine_that_is_cut_off_and_healed(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    with stage.trial(lost=["fleet2"]):
        stage.operator.sandbox.cut("fleet2")
        time.sleep(2.5 * stage.ttl_s)
        stage.operator.sandbox.heal("fleet2")


@pytest.mark.parametrize("verb", ["reboot", "poweroff"])
def test_machine_that_is_shut_down_in_order(make_stage: Callable[..., Stage], verb: str) -> None:
    """What it leaves is started elsewhere at once, and stays there."""
    stage = make_stage()
    sandbox = stage.operator.sandbox
    boot = sandbox.pid("fleet2")
    with stage.trial(dead=["fleet2"]):
        sandbox.run("fleet2", ["systemctl", "--no-block", verb])
        if verb == "poweroff":
            eventually(lambda: not sandbox.is_on("fleet2"))
            sandbox.boot("fleet2")
        eventually(lambda: sandbox.pid("fleet2") not in (None, boot))
        sandbox.wait_until_one_cluster()


def test_machine_whose_message_bus_restarts(make_stage: Callable[..., Stage]) -> None:
    """fleetd waits for a bus that is gone; it does not go with it."""
    stage = make_stage()
    both = "dbus.socket dbus.service"
    with stage.trial():
        for machine in stage.machines:
            stage.sh(machine, "systemctl restart dbus")
            time.sleep(1)
            stage.sh(machine, f"systemctl stop {both} && sleep 2 && systemctl start {both}")
            assert stage.operator.is_active(machine, "fleet.service")


def test_machine_whose_systemd_is_busy(make_stage: Callable[..., Stage]) -> None:
    """Many units are started by hand, with a daemon-reload after each few."""
    stage = make_stage()
    storm = (
        "for n in $(seq 60); do"
        " systemd-run --quiet --unit=by-hand-$n sleep 300;"
        " [ $((n % 5)) = 0 ] && systemctl daemon-reload; done;"
        " systemctl stop 'by-hand-*'"
    )
    with stage.trial():
        for machine in stage.machines:
            stage.sh(machine, f"systemd-run --quiet --unit=storm sh -c '{_quoted(storm)}'")
        for machine in stage.machines:
            eventually(lambda m=machine: not stage.operator.is_active(m, "storm.service"))  # type: ignore[misc]


def _quoted(script: str) -> str:
    return script.replace("'", "'\\''")


def test_processors_that_are_all_taken_for_a_minute(make_stage: Callable[..., Stage]) -> None:
    """Busy is not dead: twice as many takers as processors, on the machines and with the lease."""
    stage = make_stage()
    takers = 2 * (os.cpu_count() or 1)
    load = f"for i in $(seq {takers}); do timeout 60 sh -c 'while :; do :; done' & done; wait"
    with stage.trial():
        stage.sh("fleet2", f"systemd-run --quiet --unit=load sh -c '{_quoted(load)}'")
        eventually(lambda: not stage.operator.is_active("fleet2", "load.service"), deadline_s=90)


def test_machine_with_the_id_of_another_is_told_so_and_changes_nothing(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage()
    sandbox = stage.operator.sandbox
    own, other = (sandbox.machine(name).id for name in ("fleet3", "fleet2"))
    path = sandbox.disk("fleet3") / "etc/machine-id"
    with stage.trial(dead=["fleet3"]):
        sandbox.kill("fleet3")
        _write_id(path, other)
        sandbox.boot("fleet3")
        said = f"machine id {other} is in use twice: by 10.89.0.12 and by this machine, 10.89.0.13"
        eventually(lambda: said in sandbox.journal("fleet3"))
        assert stage.operator.files("fleet3") == ()
        sandbox.kill("fleet3")
        _write_id(path, own)
        sandbox.boot("fleet3")


def _write_id(path: Path, machine_id: str) -> None:
    path.unlink()
    path.write_text(f"{machine_id}\n")


@pytest.mark.parametrize("ends", ["return", "release"])
def test_half_of_the_machines_gone_at_once(make_stage: Callable[..., Stage], ends: str) -> None:
    """The brake: nothing moves, until they are back or an operator gives them up."""
    stage = make_stage(machines=4)
    gone = ("fleet3", "fleet4")
    with stage.trial(lost=gone if ends == "release" else ()):
        stage.operator.sandbox.cut(*gone)
        eventually(lambda: "vanished" in stage.operator.ok("hold"))
        time.sleep(2 * stage.ttl_s)
        if ends == "release":
            stage.operator.ok("hold", "--release")
            time.sleep(2 * stage.ttl_s)
        stage.operator.sandbox.heal(*gone)
