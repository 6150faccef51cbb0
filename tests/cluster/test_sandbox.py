"""The sandbox keeps what it says: machines of their own, power cuts, pulled cables, no traces."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from cli.sandbox.processes import find
from fleet.errors import Conflict, NotFound, Unavailable
from tests.cluster.machines import eventually, fleetctl, fresh_name, traces

pytestmark = pytest.mark.systemd

CONNECT = "timeout 3 bash -c ': </dev/tcp/{}/22'"


@pytest.fixture(scope="module")
def module_bare(make_module_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return make_module_sandbox(machines=2, etcd=1, fleetd=False)


@pytest.fixture
def bare(module_bare: Sandbox) -> Sandbox:
    """Two machines without fleetd and one etcd, whole at the start of each test."""
    module_bare.heal("fleet1", "fleet2", "etcd1")
    module_bare.boot("fleet1", "fleet2", "etcd1")
    return module_bare


def _sh(sandbox: Sandbox, machine: str, script: str) -> str:
    return sandbox.run(machine, ["sh", "-c", script], check=True).stdout.strip()


def _reaches(sandbox: Sandbox, machine: str, address: str) -> bool:
    return sandbox.run(machine, ["sh", "-c", CONNECT.format(address)]).returncode == 0


def test_machines_are_machines_of_their_own(bare: Sandbox) -> None:
    views = bare.machines

    assert [(view.name, view.address) for view in views] == [
        ("fleet1", "10.89.0.11"),
        ("fleet2", "10.89.0.12"),
    ]
    for view in views:
        assert _sh(bare, view.name, "hostname; cat /etc/machine-id").split() == [view.name, view.id]
        assert _sh(bare, view.name, "systemctl is-system-running") == "running"
        assert _sh(bare, view.name, "busctl --no-pager call org.freedesktop.DBus / "
                   "org.freedesktop.DBus GetId").startswith("s ")  # fmt: skip
    assert len({view.id for view in views}) == 2


def test_machines_start_nothing_that_the_host_has_enabled(bare: Sandbox) -> None:
    services = "systemctl list-units --type=service --state=running --plain --no-legend"

    assert {line.split()[0] for line in _sh(bare, "fleet1", services).splitlines()} == {
        "dbus.service",
        "ssh.service",
        "systemd-journald.service",
    }


def test_machines_reach_each_other_and_nothing_else(bare: Sandbox) -> None:
    for machine, target, name in (
        ("fleet1", "fleet2", "fleet2"),
        ("fleet2", "10.89.0.11", "fleet1"),
    ):
        hostname = ["timeout", "10", "ssh", target, "hostname"]
        eventually(lambda m=machine, h=hostname, n=name: bare.run(m, h).stdout.strip() == n)  # type: ignore[misc]
    assert _sh(bare, "fleet1", "ip -4 route").split()[0] == "10.89.0.0/24"
    assert len(_sh(bare, "fleet1", "ip -4 route").splitlines()) == 1


def test_host_reaches_a_machine_by_its_ssh_config(bare: Sandbox) -> None:
    assert _ssh(bare, "fleet2", "hostname; id -un") == ["fleet2", "root"]


def _ssh(sandbox: Sandbox, machine: str, script: str) -> list[str]:
    argv = ["ssh", "-F", str(sandbox.ssh_config), machine, script]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def test_programs_are_on_the_path_of_every_machine(bare: Sandbox) -> None:
    expected = fleetctl("version").stdout.strip()

    assert _sh(bare, "fleet1", "fleetctl version") == expected
    assert _sh(bare, "fleet1", "command -v fleetd") == "/usr/local/bin/fleetd"
    assert _sh(bare, "fleet1", "getent group fleet").startswith("fleet:")


def test_power_cut_leaves_the_disk_and_nothing_else(bare: Sandbox) -> None:
    before = bare.machine("fleet2")
    _sh(bare, "fleet2", "echo kept >/root/disk; echo lost >/run/memory")
    boot_id = _sh(bare, "fleet2", "cat /proc/sys/kernel/random/boot_id")
    _sh(bare, "fleet2", "systemd-run -q --unit=lonely -p PrivateNetwork=yes sleep 1000")
    lonely = _host_pid_of(bare, "lonely")

    assert bare.kill("fleet2") == ("fleet2",)
    assert bare.machine("fleet2").pid is None
    assert before.pid is not None
    assert find(before.pid) is None
    assert find(lonely) is None, "a service in a network namespace of its own has survived"
    assert bare.kill("fleet2") == ()

    assert bare.boot("fleet2") == ("fleet2",)
    after = bare.machine("fleet2")
    assert after.id == before.id
    assert _sh(bare, "fleet2", "cat /etc/machine-id /root/disk").split() == [before.id, "kept"]
    assert _sh(bare, "fleet2", "ls /run/memory 2>/dev/null || echo gone") == "gone"
    assert _sh(bare, "fleet2", "cat /proc/sys/kernel/random/boot_id") != boot_id
    assert bare.boot("fleet2") == ()


def _host_pid_of(sandbox: Sandbox, unit: str) -> int:
    pid = _sh(sandbox, "fleet2", f"systemctl show -P MainPID {unit}")
    status = Path(f"/proc/{sandbox.pid('fleet2')}/root/proc/{pid}/status").read_text()
    match = re.search(r"^NSpid:\s+(\d+)", status, re.MULTILINE)
    assert match
    return int(match[1])


def test_power_cut_says_goodbye_to_nobody(bare: Sandbox) -> None:
    _sh(bare, "fleet1", "systemd-run -q --unit=talk ssh fleet2 sleep 1000")
    established = "ss -Htn state established src 10.89.0.12"
    eventually(lambda: "10.89.0.11:" in _sh(bare, "fleet2", established))

    bare.kill("fleet1")

    assert "10.89.0.11:" in _sh(bare, "fleet2", established)


def test_pulled_cable_is_silent_and_can_be_plugged_in_again(bare: Sandbox) -> None:
    assert _reaches(bare, "fleet1", "fleet2")

    bare.cut("fleet2")
    assert bare.is_cut("fleet2")
    assert not _reaches(bare, "fleet1", "fleet2")
    assert not _reaches(bare, "fleet2", "fleet1")
    assert _sh(bare, "fleet2", "systemctl is-system-running") == "running"

    bare.heal("fleet2")
    assert not bare.is_cut("fleet2")
    eventually(lambda: _reaches(bare, "fleet1", "fleet2"))


def test_pulled_cable_stays_pulled_over_a_boot(bare: Sandbox) -> None:
    bare.cut("fleet2")
    bare.kill("fleet2")
    bare.boot("fleet2")
    assert not _reaches(bare, "fleet2", "fleet1")

    bare.heal("fleet2")
    eventually(lambda: _reaches(bare, "fleet2", "fleet1"))


def test_cable_plugged_in_without_power_makes_no_network(bare: Sandbox) -> None:
    bare.kill("fleet2")
    bare.cut("fleet2")
    bare.heal("fleet2")
    bare.boot("fleet2")

    eventually(lambda: _reaches(bare, "fleet1", "fleet2"))


def test_etcd_keeps_its_data_over_a_power_cut(bare: Sandbox) -> None:
    etcdctl = "ETCDCTL_API=3 etcdctl --endpoints=http://etcd1:2379 --command-timeout=2s"
    _sh(bare, "fleet1", f"{etcdctl} put some value")

    bare.kill("etcd1")
    assert not bare.is_on("etcd1")
    assert bare.run("fleet1", ["sh", "-c", f"{etcdctl} get some"]).returncode != 0

    bare.boot("etcd1")
    assert _sh(bare, "fleet1", f"{etcdctl} get --print-value-only some") == "value"


def test_paused_etcd_hangs_until_it_is_resumed(bare: Sandbox) -> None:
    etcdctl = "ETCDCTL_API=3 etcdctl --endpoints=http://etcd1:2379 --command-timeout=1s get some"
    bare.pause("etcd1")
    assert bare.is_on("etcd1")
    assert "deadline exceeded" in bare.run("fleet1", ["sh", "-c", etcdctl]).stderr

    bare.resume("etcd1")
    assert bare.run("fleet1", ["sh", "-c", etcdctl]).returncode == 0


def test_machine_can_reboot_itself(bare: Sandbox) -> None:
    before = bare.pid("fleet2")
    _sh(bare, "fleet2", "echo kept >/root/disk")
    bare.run("fleet2", ["systemctl", "reboot"])

    def rebooted() -> bool:
        now = bare.pid("fleet2")
        state = ["systemctl", "is-system-running"]
        return now not in (None, before) and bare.run("fleet2", state).stdout == "running\n"

    eventually(rebooted)
    assert _sh(bare, "fleet2", "cat /root/disk") == "kept"
    assert _reaches(bare, "fleet1", "fleet2")


def test_machine_that_powers_off_is_off(bare: Sandbox) -> None:
    bare.run("fleet2", ["systemctl", "poweroff"])

    eventually(lambda: not bare.is_on("fleet2"))
    assert bare.boot("fleet2") == ("fleet2",)


def test_unit_of_one_machine_is_not_the_unit_of_that_name_on_another(bare: Sandbox) -> None:
    for machine in ("fleet1", "fleet2"):
        _sh(bare, machine, "systemd-run -q --unit=same sleep 1000")

    _sh(bare, "fleet1", "systemctl kill -s KILL same")

    eventually(lambda: bare.run("fleet1", ["systemctl", "is-active", "same"]).stdout == "failed\n")
    assert _sh(bare, "fleet2", "systemctl is-active same") == "active"
    _sh(bare, "fleet1", "systemctl reset-failed same")
    _sh(bare, "fleet2", "systemctl stop same")


def test_journal_can_be_read_after_a_power_cut(bare: Sandbox) -> None:
    _sh(bare, "fleet2", "echo a last word | systemd-cat -t witness; journalctl --sync")
    bare.kill("fleet2")

    assert "witness" in bare.journal("fleet2")


def test_unknown_machine_is_named_with_those_there_are(bare: Sandbox) -> None:
    with pytest.raises(NotFound, match="has no 'fleet9'; it has etcd1, fleet1, fleet2"):
        bare.kill("fleet9")


def test_machine_without_power_runs_nothing(bare: Sandbox) -> None:
    bare.kill("fleet2")

    with pytest.raises(Unavailable, match=r"fleet2 in sandbox .* has no power"):
        bare.run("fleet2", ["true"])


def test_name_that_is_up_cannot_be_made_again(bare: Sandbox) -> None:
    with pytest.raises(Conflict, match=f"sandbox '{bare.name}' is up already, with 2 machines"):
        Sandbox.up(bare.name)
    assert bare.is_on("fleet1")


def test_sandboxes_stand_side_by_side(bare: Sandbox, make_sandbox: Callable[..., Sandbox]) -> None:
    other = make_sandbox(machines=2, etcd=1, fleetd=False)
    assert other.machine("fleet1").address == bare.machine("fleet1").address
    assert other.machine("fleet1").id != bare.machine("fleet1").id

    other.kill("fleet1", "etcd1")
    assert not other.is_on("fleet1")
    assert bare.is_on("fleet1")
    assert bare.is_on("etcd1")
    assert not _reaches(other, "fleet2", "fleet1")
    assert _reaches(bare, "fleet2", "fleet1")

    other.down()
    assert traces(other.name) == []
    assert _reaches(bare, "fleet2", "fleet1")


def test_three_members_of_etcd_are_one_store(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(machines=1, etcd=3, fleetd=False)
    etcdctl = "ETCDCTL_API=3 etcdctl --command-timeout=10s --endpoints=http://{}:2379 {}"

    _sh(sandbox, "fleet1", etcdctl.format("etcd1", "put some value"))
    sandbox.kill("etcd1")

    get = etcdctl.format("etcd3", "get --print-value-only some")
    eventually(lambda: sandbox.run("fleet1", ["sh", "-c", get]).stdout == "value\n")


def test_bound_directory_is_fresh_inside_even_below_tmp(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    sandbox = make_sandbox(machines=1, etcd=0, fleetd=False, binds=(str(tmp_path),))
    (tmp_path / "late").write_text("written after the boot")

    assert _sh(sandbox, "fleet1", f"cat {tmp_path}/late") == "written after the boot"
    assert sandbox.run("fleet1", ["touch", f"{tmp_path}/own"]).returncode != 0


def test_machine_that_does_not_boot_says_why_and_leaves_nothing() -> None:
    name = fresh_name()

    with pytest.raises(Unavailable, match=r"fleet1 ended while it was starting\n  fleet1: .*NONE"):
        Sandbox.up(name, machines=1, etcd=0, fleetd=False, capabilities=("CAP_NONE",))
    assert traces(name) == []


def test_commands_say_what_they_did() -> None:
    name = fresh_name()

    def sandbox(*words: str) -> list[str]:
        done = fleetctl("sandbox", words[0], "--name", name, *words[1:])
        assert (done.returncode, done.stderr) == (0, "")
        return re.sub(r"\d+\.\d s", "N s", done.stdout).splitlines()

    try:
        up = sandbox("up", "--machines", "2", "--no-fleetd")
        assert sorted(up[:3]) == [
            "etcd1 ready in N s",
            "fleet1 booted in N s",
            "fleet2 booted in N s",
        ]
        assert up[3] == f"sandbox '{name}' is up in N s: 2 machines, etcd with 1 member"
        assert sandbox("kill", "fleet2", "etcd1") == ["fleet2 lost power", "etcd1 lost power"]
        assert sandbox("kill", "fleet2") == ["fleet2 has no power anyway"]
        assert sandbox("cut", "fleet1") == ["fleet1 is cut off from the network"]
        ids = [view.id[:8] for view in Sandbox.open(name).machines]
        assert [line.split() for line in sandbox("list")] == [
            ["MACHINE", "ID", "ADDRESS", "POWER", "NETWORK", "FLEETD"],
            ["etcd1", "-", "10.89.0.2", "off", "up", "-"],
            ["fleet1", ids[0], "10.89.0.11", "on", "cut", "inactive"],
            ["fleet2", ids[1], "10.89.0.12", "off", "up", "-"],
        ]
        assert sandbox("heal", "fleet1") == ["fleet1 is on the network again"]
        assert sandbox("boot", "fleet2", "fleet1") == [
            "fleet2 booted in N s",
            "fleet1 is on already",
        ]
        assert sandbox("shell", "fleet2", "hostname") == ["fleet2"]
        removed = sandbox("down")
        assert re.fullmatch(
            rf"sandbox '{name}' removed: \d+ processes ended, \d+ mounts taken off", removed[0]
        )
        assert traces(name) == []
        assert sandbox("down") == [f"there is no sandbox '{name}': nothing to remove"]
    finally:
        fleetctl("sandbox", "down", "--name", name)
    missed = fleetctl("sandbox", "list", "--name", name)
    assert missed.returncode == 1
    assert f"there is no sandbox '{name}'" in missed.stderr
