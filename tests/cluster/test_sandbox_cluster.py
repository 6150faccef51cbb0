"""A sandbox that has come up is one cluster, from the host's shell and from every machine."""

import os
import subprocess
from collections.abc import Callable

import pytest

from cli.sandbox.cluster import Sandbox
from cli.sandbox.readiness import machines_seen
from tests.cluster.machines import FLEETCTL, eventually, fleetctl

pytestmark = pytest.mark.systemd


def _listed(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def _expected(sandbox: Sandbox) -> list[list[str]]:
    zones = {"fleet1": "a", "fleet2": "b", "fleet3": "c"}
    return sorted(
        [view.id, view.address, f"host={view.name},zone={zones[view.name]}"]
        for view in sandbox.machines
    )


LIST = ("list-machines", "--no-legend", "--full")


def test_every_machine_s_api_lists_every_machine(cluster: Sandbox) -> None:
    for machine in ("fleet1", "fleet2", "fleet3"):
        done = fleetctl(*LIST, on=cluster, through=machine)

        assert _listed(done.stdout) == _expected(cluster), done.stderr


def test_fleetctl_inside_a_machine_needs_no_flags(cluster: Sandbox) -> None:
    done = cluster.run("fleet2", ["fleetctl", *LIST], check=True)

    assert _listed(done.stdout) == _expected(cluster)


def test_fleetctl_on_the_host_goes_through_a_tunnel(cluster: Sandbox) -> None:
    flags = (f"--ssh-config={cluster.ssh_config}", f"--known-hosts-file={cluster.known_hosts}")
    done = fleetctl(*flags, "--tunnel=fleet3", *LIST)

    assert _listed(done.stdout) == _expected(cluster), done.stderr


def test_shell_on_the_host_has_a_fleetctl_that_speaks_to_the_sandbox(cluster: Sandbox) -> None:
    done = subprocess.run(
        [FLEETCTL, "sandbox", "shell", "--name", cluster.name],
        env={**os.environ, "SHELL": "/bin/sh"},
        input=f"fleetctl {' '.join(LIST)}\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()

    assert lines[:2] == [
        f"fleetctl here speaks to sandbox {cluster.name!r} through fleet1.",
        "Leave with exit; the sandbox stays until `fleetctl sandbox down`.",
    ]
    assert [line.split() for line in lines[2:]] == _expected(cluster), done.stderr


def test_machine_boots_while_its_store_is_gone_and_joins_when_it_is_back(cluster: Sandbox) -> None:
    cluster.kill("fleet3", "etcd1")

    assert cluster.boot("fleet3") == ("fleet3",)
    assert cluster.is_on("fleet3")

    cluster.boot("etcd1")
    cluster.wait_until_one_cluster(deadline_s=60)


def test_one_machine_keeps_its_own_store(make_sandbox: Callable[..., Sandbox]) -> None:
    alone = make_sandbox(machines=1, etcd=0)

    assert machines_seen(alone.socket("fleet1")) == {alone.machine("fleet1").id}
    alone.kill("fleet1")
    alone.boot("fleet1")
    eventually(lambda: machines_seen(alone.socket("fleet1")) == {alone.machine("fleet1").id})


def test_settings_and_metadata_reach_the_machines(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(
        machines=2, settings={"agent_ttl": "9s"}, metadata={"fleet2": {"disk": "ssd"}}
    )

    assert 'agent_ttl="9s"' in sandbox.run("fleet1", ["cat", "/etc/fleet/fleet.conf"]).stdout
    listed = _listed(fleetctl(*LIST, on=sandbox).stdout)
    assert sorted(row[2] for row in listed) == ["disk=ssd,host=fleet2,zone=b", "host=fleet1,zone=a"]
