"""The original, fleet 1.0 in Go, on the same machines and through the same steps.

FLEET_BENCH_GO_FLEETD and FLEET_BENCH_GO_FLEETCTL name its programs. It needs etcd's old API, which
etcd 3.4 and 3.5 still have if they are asked to: so it gets a member of its own.
"""

import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import HUB_ADDRESS, Place, inside
from tests.bench.cluster import Cluster
from tests.bench.machines import Machine, machines_of, on_each
from tests.bench.samples import System

FLEETD, FLEETCTL = "FLEET_BENCH_GO_FLEETD", "FLEET_BENCH_GO_FLEETCTL"
_FOLDER = "/opt/fleet-original"
_URL = f"http://{HUB_ADDRESS}:23790"
_PEER = f"http://{HUB_ADDRESS}:23800"
_DEADLINE_S = 30.0
_SOCKET = "[Socket]\nListenStream=/run/fleet.sock\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The original's two programs."""

    fleetd: Path
    fleetctl: Path


def find_original(environment: Mapping[str, str]) -> Programs | None:
    """What the environment names, None if it names nothing; raises ValueError if that is wrong."""
    named = {key: environment.get(key, "") for key in (FLEETD, FLEETCTL)}
    if not any(named.values()):
        return None
    for key, path in named.items():
        if not os.access(path, os.X_OK):
            raise ValueError(f"{key} has to name a program, and {path!r} is none")
    return Programs(fleetd=Path(named[FLEETD]), fleetctl=Path(named[FLEETCTL]))


class OriginalSandbox:
    """Machines with the original's fleetd, and its etcd, which end together."""

    def __init__(self, programs: Programs, name: str) -> None:
        with ExitStack() as stack:
            self._sandbox = stack.enter_context(Sandbox.up(name, fleetd=False, etcd=0))
            self._etcd = _start_etcd(self._sandbox)
            stack.callback(_end, self._etcd)
            self.machines = machines_of(self._sandbox)
            on_each(self.machines, lambda machine: _install(programs, machine))
            _wait_until_listed(self.machines)
            self._ending = stack.pop_all()

    def kill(self, *names: str) -> None:
        self._sandbox.kill(*names)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.close()


def original_up(programs: Programs, name: str) -> Cluster:
    sandbox = OriginalSandbox(programs, name)
    return Cluster(
        system=System.ORIGINAL,
        sandbox=sandbox,
        hub=Place(name=name).hub,
        machines=sandbox.machines,
        fleetctl=f"{_FOLDER}/fleetctl",
        service="fleet-original.service",
    )


def _start_etcd(sandbox: Sandbox) -> "subprocess.Popen[bytes]":
    argv = [
        "etcd",
        "--enable-v2",
        f"--data-dir={sandbox.ssh_config.parent}/original-etcd",
        f"--listen-client-urls={_URL}",
        f"--advertise-client-urls={_URL}",
        f"--listen-peer-urls={_PEER}",
        f"--initial-advertise-peer-urls={_PEER}",
        f"--initial-cluster=default={_PEER}",
    ]
    hub = Place(name=sandbox.name).hub
    return subprocess.Popen(inside(hub, argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _install(programs: Programs, machine: Machine) -> None:
    place = machine.path(_FOLDER)
    place.mkdir(parents=True)
    for name, program in (("fleetd", programs.fleetd), ("fleetctl", programs.fleetctl)):
        (place / name).write_bytes(program.read_bytes())
        (place / name).chmod(0o755)
    environment = {"FLEET_ETCD_SERVERS": _URL, "FLEET_PUBLIC_IP": machine.address}
    lines = "".join(f"Environment={key}={value}\n" for key, value in environment.items())
    service = f"[Service]\n{lines}ExecStart={_FOLDER}/fleetd\nRestart=always\n"
    units = {"fleet-original.service": service, "fleet-original.socket": _SOCKET}
    machine.write("/etc/systemd/system", units)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "fleet-original.socket", "fleet-original.service")


def _wait_until_listed(machines: tuple[Machine, ...]) -> None:
    deadline_s = time.monotonic() + _DEADLINE_S
    listing = f"{_FOLDER}/fleetctl list-machines --no-legend || true"
    while len(machines[0].shell(listing).splitlines()) < len(machines):
        if time.monotonic() > deadline_s:
            raise TimeoutError("the original's machines do not become one cluster")
        time.sleep(0.2)
