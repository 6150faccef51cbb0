"""One start, hop by hop: when each thing on the way from fleetctl to fleetctl happened.

Nothing in fleet is changed for it. What happened is read from the outside, by one clock: keys from
a watch of the store, the API's and the engine's decisions from their events, the agent's steps from
its log and the file it wrote, systemd's from its own timestamps, fleetctl's from its output.
"""

import json
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.sandbox import host
from cli.sandbox.power import entering
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from tests.bench.cluster import Cluster
from tests.bench.machines import Machine
from tests.bench.watcher import Seen, Watcher
from tests.bench.workload import FOLDER, pinned

UNITS = "/run/fleet/units"
_CALM_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One hop: what it is and the seconds it took, in each run."""

    what: str
    values: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return 1000 * statistics.median(self.values)


# Each moment with what led to it from the one before.
HOPS = {
    "asked": "fleetctl starts, reads the file, asks what is stored; the API has the request",
    "written": "the API's transaction",
    "planned": "the leader's watch and its plan",
    "decided": "the transaction with the machine's row",
    "seen": "the agent's watch, its look at systemd and the contents from the store",
    "filed": "the unit file is in place",
    "reloaded": "it is linked, and systemd has read its files anew",
    "active": "the start job, until systemd has the unit active",
    "told": "systemd's signal, the state, and its transaction",
    "launched": "the API's watch, the stream, and fleetctl's line",
    "left": "fleetctl exits",
}


def measure_hops(cluster: Cluster, runs: int) -> list[Hop]:
    """Start one unit after the other on a machine that does not lead, through another one."""
    with Watcher(cluster.hub, cluster.etcd, Keys().root) as watcher:
        here, there = _places(cluster.machines, watcher.seen)
        found = [_run(here, there, watcher, f"hop{number}.service") for number in range(runs)]
    moments = [moment for moment in HOPS if all(moment in times for times in found)]
    before = dict(zip(moments, ["began", *moments], strict=False))
    return [
        Hop(what=HOPS[m], values=tuple(times[m] - times[before[m]] for times in found))
        for m in moments
    ]


def _places(machines: Sequence[Machine], seen: Sequence[Seen]) -> tuple[Machine, Machine]:
    leader = next(json.loads(each.text)["machine"] for each in seen if each.key == Keys().engine)
    others = [machine for machine in machines if machine.id != leader]
    return others[0], others[1]


def _run(here: Machine, there: Machine, watcher: Watcher, unit: str) -> Mapping[str, float]:
    """The moments of one start, by the monotonic clock."""
    here.write(FOLDER, {unit: pinned(there.id)})
    time.sleep(_CALM_S)
    start = len(watcher.seen)
    times = {"began": time.monotonic()}
    argv = entering(here.pid, ["/usr/bin/env", "fleetctl", "start", f"{FOLDER}/{unit}"])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=host.ENVIRONMENT, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        times["launched"] = time.monotonic()
        running.wait()
        times["left"] = time.monotonic()
    time.sleep(_CALM_S)
    times |= _in_store(watcher.seen[start:], there, unit)
    return times | _on_machine(there, unit)


def _in_store(seen: Sequence[Seen], there: Machine, unit: str) -> dict[str, float]:
    keys = Keys()
    name, machine = UnitName(unit), MachineId(there.id)
    states = f"{keys.states_of(machine)}{unit}"
    behind_s = time.time() - time.monotonic()
    moments = {}
    for each in reversed(seen):  # the first of each kind counts
        if each.key == keys.unit(name):
            moments["written"] = each.at_s
        elif each.key == keys.assignment(machine, name):
            moments["decided"] = each.at_s
        elif each.key == states and '"active":"active"' in each.text:
            moments["told"] = each.at_s
        elif each.key.startswith(keys.events) and f'"{unit}"' in each.text:
            (event,) = json.loads(each.text)
            moment = "planned" if event["by"].startswith("engine") else "asked"
            moments[moment] = float(event["at"]) - behind_s
    return moments


def _on_machine(there: Machine, unit: str) -> dict[str, float]:
    names = ("ActiveEnterTimestampMonotonic",)
    own = there.run("systemctl", "show", "--value", f"--property={','.join(names)}", unit)
    manager = there.run("systemctl", "show", "--value", "--property=UnitsLoadTimestampMonotonic")
    behind_s = time.time() - time.monotonic()
    moments = {
        "active": int(own) / 1e6,
        "filed": there.path(f"{UNITS}/{unit}").stat().st_mtime - behind_s,
    }
    if int(manager) / 1e6 > moments["filed"]:
        moments["reloaded"] = int(manager) / 1e6
    seen = _first_line(there, unit)
    return moments | ({"seen": seen - behind_s} if seen else {})


def _first_line(there: Machine, unit: str) -> float | None:
    """When the agent first spoke of the unit, by the wall clock."""
    log = there.run("journalctl", "--unit=fleet.service", "--output=json", "--no-pager")
    for line in log.splitlines():
        entry = json.loads(line)
        message = entry.get("MESSAGE")
        if isinstance(message, str) and f" {unit}: " in message:
            stamp = entry.get("_SOURCE_REALTIME_TIMESTAMP") or entry["__REALTIME_TIMESTAMP"]
            return int(stamp) / 1e6
    return None
