"""What one command takes, and one unit: the whole process, from its start to its exit."""

import asyncio
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass

from cli.sandbox import host
from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import inside
from fleet.api.client import FleetClient
from fleet.names import UnitName
from fleet.registry import UnitChange
from fleet.states import TargetState
from fleet.unit import parse_unit
from tests.bench.cluster import Cluster, spread
from tests.bench.machines import Machine, timed, wait_until_active
from tests.bench.workload import FOLDER, SERVICE, pinned

_CALM_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the table of single things: what, its values in seconds, and what is promised."""

    what: str
    values: tuple[float, ...]
    promise: str = ""
    original: str = ""

    @property
    def measured(self) -> str:
        return f"{spread(self.values)} s"


def measure_single(cluster: Cluster, runs: int) -> list[Line]:
    """Every single thing, on a cluster that has nothing else to do."""
    files = {f"one{number}.service": SERVICE for number in range(3 * runs)}
    first = cluster.machines[0]
    first.write(FOLDER, files)
    units = iter(files)
    ways: list[tuple[str, Callable[[], object], str, str]] = [
        (
            "`fleetctl start` of one unit, on a machine",
            lambda: cluster.command("start", next(units)),
            "≤ 0.4 s",
            "4.0-6.8 s",
        ),
        (
            "`fleetctl start` of one unit, through a tunnel",
            lambda: _tunnelled(cluster, first, next(units)),
            "≤ 1 s",
            "",
        ),
        ("`fleetctl list-machines`", lambda: cluster.command("list-machines"), "≤ 0.35 s", ""),
        ("`fleetctl list-units`", lambda: cluster.command("list-units"), "≤ 0.35 s", ""),
        ("`fleetctl version`", lambda: cluster.command("version"), "≤ 0.1 s", ""),
        ("`fleetctl help`", lambda: cluster.command("help"), "≤ 0.1 s", ""),
        (
            "`fleetctl completion bash`",
            lambda: cluster.command("completion", "bash"),
            "≤ 0.1 s",
            "",
        ),
    ]
    lines = [
        Line(
            what=what,
            values=tuple(timed(act) for _ in range(runs)),
            promise=promise,
            original=original,
        )
        for what, act, promise, original in ways
    ]
    return [*lines, _written_until_active(cluster, runs)]


def measure_boots(name: str, runs: int) -> Line:
    def up() -> None:
        Sandbox.up(name).down()

    values = tuple(timed(up) for _ in range(runs))
    return Line(what="sandbox of three machines made and removed", values=values, promise="≤ 5 s")


def _tunnelled(cluster: Cluster, machine: Machine, unit: str) -> None:
    """Start it from the sandbox's network, as a workstation beside the machines would."""
    fleetctl = f"{sysconfig.get_path('scripts')}/fleetctl"
    ssh_config = str(cluster.hub.parents[1] / "ssh_config")
    flags = ("--ssh-config", ssh_config, "--tunnel", machine.address)
    host.run(inside(cluster.hub, [fleetctl, *flags, "start", f"{machine.path(FOLDER)}/{unit}"]))


def _written_until_active(cluster: Cluster, runs: int) -> Line:
    """From the API request on one machine to systemd's word on another."""
    here, there = cluster.machines[0], cluster.machines[1]
    values = asyncio.run(_write_and_look(here, there, runs))
    what = "API write on one machine until the unit is active on another"
    return Line(what=what, values=tuple(values), promise="≤ 0.06 s")


async def _write_and_look(here: Machine, there: Machine, runs: int) -> list[float]:
    file = parse_unit(pinned(there.id))
    loop = asyncio.get_running_loop()
    values = []
    async with FleetClient(f"unix://{here.path('/run/fleet.sock')}") as client:
        await client.machines()  # the connection is there
        for number in range(runs):
            unit = UnitName(f"far{number}.service")
            began_s = loop.time()
            await client.apply([UnitChange(name=unit, file=file, target=TargetState.LAUNCHED)])
            last_s = await asyncio.to_thread(wait_until_active, [there], unit, 1)
            values.append(last_s - began_s)
            await asyncio.sleep(_CALM_S)
    return values
