"""On a host whose PID 1 is systemd: a sandbox inside a machine of a sandbox."""

import re
from collections.abc import Callable, Iterator

import pytest

from cli.sandbox.cluster import Sandbox

pytestmark = pytest.mark.systemd

UNITS = "systemctl list-units --plain --no-legend --all 'fleet-sandbox-*'"


@pytest.fixture(scope="module")
def module_host(make_module_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return make_module_sandbox(machines=1, etcd=0, fleetd=False, capabilities=("all",))


@pytest.fixture
def host(module_host: Sandbox) -> Iterator[Sandbox]:
    """A systemd machine with every capability, and no sandbox on it afterwards."""
    yield module_host
    _sh(module_host, "fleetctl sandbox down")


def _sh(host: Sandbox, script: str) -> str:
    return host.run("fleet1", ["sh", "-c", script], check=True).stdout.strip()


def test_sandbox_comes_up_in_scopes_of_systemd_and_goes_without_a_trace(host: Sandbox) -> None:
    mounts = _sh(host, "cat /proc/self/mountinfo | wc -l")
    processes = _sh(host, "ps -e -o comm=").split()

    up = _sh(host, "fleetctl sandbox up --machines 2 --no-fleetd")

    assert "sandbox 'default' is up" in up
    assert re.findall(r"^fleet-sandbox-default-(\w+)\.scope", _sh(host, UNITS), re.MULTILINE) == [
        "etcd1",
        "fleet1",
        "fleet2",
    ]
    assert _sh(host, "fleetctl sandbox shell fleet1 systemctl is-system-running") == "running"
    assert _sh(host, "fleetctl sandbox shell fleet1 ssh fleet2 hostname") == "fleet2"

    _sh(host, "fleetctl sandbox down")
    assert _sh(host, UNITS) == ""
    assert _sh(host, "cat /proc/self/mountinfo | wc -l") == mounts
    assert sorted(_sh(host, "ps -e -o comm=").split()) == sorted(processes)
    assert _sh(host, "ls -d /run/fleet-sandbox 2>/dev/null || echo gone") == "gone"


def test_machine_loses_power_and_boots_under_its_name_again(host: Sandbox) -> None:
    _sh(host, "fleetctl sandbox up --machines 2 --no-fleetd")

    for _ in range(3):
        assert _sh(host, "fleetctl sandbox kill fleet2 etcd1").splitlines() == [
            "fleet2 lost power",
            "etcd1 lost power",
        ]
        assert "fleet2" not in _sh(host, UNITS)
        _sh(host, "fleetctl sandbox boot fleet2 etcd1")

    assert _sh(host, "fleetctl sandbox shell fleet2 systemctl is-system-running") == "running"


def test_machine_of_a_sandbox_on_systemd_can_reboot_itself(host: Sandbox) -> None:
    _sh(host, "fleetctl sandbox up --machines 1 --etcd 0 --no-fleetd")
    _sh(host, "fleetctl sandbox shell fleet1 touch /run/before")

    _sh(host, "fleetctl sandbox shell fleet1 systemctl reboot")

    wait = "until fleetctl sandbox shell fleet1 test ! -e /run/before 2>/dev/null; do :; done"
    _sh(host, f"timeout 30 sh -c '{wait}'")


def test_interrupted_up_leaves_no_unit(host: Sandbox) -> None:
    up = "timeout --foreground -s INT 0.9 fleetctl sandbox up --no-fleetd --etcd 3"
    _sh(host, f"{up} >/dev/null 2>&1 || true; fleetctl sandbox down")

    assert _sh(host, UNITS) == ""
    assert _sh(host, "ls -d /run/fleet-sandbox 2>/dev/null || echo gone") == "gone"
