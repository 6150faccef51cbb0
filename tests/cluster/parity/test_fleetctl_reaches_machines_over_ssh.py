"""fleet 1.0's tunnel, ssh, client and help scenarios, between booted machines."""

import os
import re
import subprocess

import pytest

from fleet import __version__
from tests.cluster.machines import FLEETCTL
from tests.cluster.parity.conftest import TCP_PORT
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd


def test_batches_are_started_through_a_tunnel(operator: Operator) -> None:
    operator.service("hello@.service")
    for names in (["hello@0.service"], [f"hello@{number}.service" for number in range(1, 11)]):
        done = operator.fleetctl("start", *names, tunnel="fleet2")
        assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr

    active = [row for row in operator.rows() if row.active == "active"]
    assert len(active) == 11


def test_unit_is_reached_by_its_name(operator: Operator) -> None:
    fleet = f"MachineID={operator.machine_id('fleet3')}"
    operator.service("hello.service", "echo HELLO; exec sleep 1000", fleet=fleet)
    operator.ok("start", "hello")
    # A machine has sudo, as far as it matters here.
    sudo = operator.sandbox.path("fleet3", "/usr/local/bin/sudo")
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    for tunnel in ("fleet1", "fleet3"):
        done = operator.fleetctl("ssh", "hello.service", "hostname", tunnel=tunnel)
        assert (done.returncode, done.stdout) == (0, "fleet3\n"), done.stderr
    status = operator.fleetctl("status", "hello.service", tunnel="fleet1")
    assert "Active: active" in status.stdout
    journal = operator.fleetctl("journal", "--sudo", "hello.service", tunnel="fleet1")
    assert "HELLO" in journal.stdout, journal
    assert operator.fleetctl("ssh", "--unit=hello", "--", "exit 7", tunnel="fleet1").returncode == 7


def test_host_key_is_asked_for_once_and_must_stay_the_same(operator: Operator) -> None:
    home, known = "/run/newcomer", "/run/newcomer/known_hosts"
    target = operator.machine_id("fleet4")
    key = "/etc/ssh/ssh_host_ed25519_key"
    # Somebody with the right key, to whom every machine is new.
    newcomer = f"mkdir -p {home}/.ssh && cp /root/.ssh/id_* {home}/.ssh/"
    operator.sandbox.run("fleet1", ["sh", "-c", newcomer], check=True)

    def ssh(stdin: str) -> subprocess.CompletedProcess[str]:
        flags = [f"--known-hosts-file={known}", "--ssh-username=root"]
        argv = ["env", f"HOME={home}", "fleetctl", *flags, "ssh", "--machine", target, "uptime"]
        return operator.sandbox.run("fleet1", argv, stdin=stdin)

    try:
        accepted = ssh("yes")
        assert accepted.returncode == 0, accepted.stderr
        assert operator.sandbox.path("fleet1", known).read_text().count("ssh-ed25519") == 1
        assert ssh("").returncode == 0

        # Anew, with a key as fleet 1.0's tests had it.
        replace = f"mv {key} {key}.old && ssh-keygen -q -t rsa -b 1024 -N '' -f {key} </dev/null"
        _sshd_with(operator, replace)
        refused = ssh("yes")
        assert refused.returncode == 1
        assert "host key mismatch" in refused.stderr
        assert known in refused.stderr

        operator.sandbox.path("fleet1", known).write_text("")
        assert ssh("yes").returncode == 0
    finally:
        _sshd_with(operator, f"mv {key}.old {key} && ssh-keygen -y -f {key} >{key}.pub")


def _sshd_with(operator: Operator, change: str) -> None:
    script = f"{change} && systemctl restart ssh.service"
    operator.sandbox.run("fleet4", ["sh", "-c", script], check=True)


def test_endpoint_comes_from_the_environment(operator: Operator) -> None:
    operator.service("hello.service")
    operator.ok("submit", "hello")
    environment = {**os.environ, "FLEETCTL_ENDPOINT": f"unix://{operator.sandbox.socket('fleet2')}"}
    done = subprocess.run(
        [FLEETCTL, "list-unit-files", "--no-legend"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.startswith("hello.service"), done.stderr
    done = operator.inside("fleet1", f"--endpoint=http://127.0.0.1:{TCP_PORT}", "list-unit-files")
    assert "hello.service" in done.stdout, done.stderr


def _said(*words: str) -> str:
    done = subprocess.run([FLEETCTL, *words], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("words", [["version"], ["--version"], ["-v"]])
def test_fleetctl_tells_its_version(words: list[str]) -> None:
    assert _said(*words) == f"fleetctl version {__version__}\n"


@pytest.mark.parametrize("words", [[], ["help"], ["-h"], ["--help"], ["--h"]])
def test_fleetctl_helps(words: list[str]) -> None:
    said = _said(*words)

    for verb in ("list-units", "start", "destroy", "ssh"):
        assert re.search(rf"^\s+{verb}\b", said, re.MULTILINE), said
    assert __version__ in said
