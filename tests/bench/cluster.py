"""fleet, and the original if it is there: what an operator does with a number of units.

Both are driven by their own fleetctl on a machine, with the flags that both know.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cli.sandbox.cluster import Sandbox
from cli.sandbox.contents import client_url
from cli.sandbox.layout import Kind, Place
from tests.bench.machines import (
    DEADLINE_S,
    Machine,
    became_active_s,
    cpu_s,
    machines_of,
    main_pid,
    resident_mb,
    timed,
    wait_until_active,
    wakeups,
)
from tests.bench.samples import Figure, Samples, System
from tests.bench.watcher import LeaseWatch
from tests.bench.workload import FOLDER, PATTERN, files

LISTINGS = 5
# After a burst: what is still on its way comes to rest before idleness is measured.
_CALM_S = 3.0


class Powered(AbstractContextManager[Any], Protocol):
    """What a cluster stands on: something that can cut a machine's power, and that ends."""

    def kill(self, *names: str) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A system under measurement: its machines, its fleetctl, its daemon's unit.

    `etcd` is where its store can be watched, "" if it cannot; `hub` the network that it is on.
    """

    system: System
    sandbox: Powered
    hub: Path
    etcd: str = ""
    machines: tuple[Machine, ...] = ()
    fleetctl: str = "fleetctl"
    service: str = "fleet.service"

    def command(self, *words: str, through: Machine | None = None) -> str:
        """Run fleetctl in the folder of the units, with the shell's patterns for arguments."""
        machine = through or self.machines[0]
        return machine.shell(f"cd {FOLDER}\nexec {self.fleetctl} {' '.join(words)}")


def fleet_up(name: str) -> Cluster:
    sandbox = Sandbox.up(name)
    return Cluster(
        system=System.FLEET,
        sandbox=sandbox,
        hub=Place(name=name).hub,
        etcd=client_url(sandbox.spec.of_kind(Kind.ETCD)[0]),
        machines=machines_of(sandbox),
    )


def measure_cluster(
    samples: Samples, count: int, up: Callable[[], Cluster], *, idle_s: float
) -> None:
    """Start, look, stop and destroy; start without waiting and destroy what runs; and start once
    more, to cut a machine's power."""
    cluster = up()
    with cluster.sandbox:
        for machine in cluster.machines:
            machine.write(FOLDER, files(count))
        _start(samples, cluster, count)
        _look(samples, cluster, count, idle_s)
        _take_down(samples, cluster, count)
        _submit(samples, cluster, count)
        _remove(samples, cluster, count)
        _start(samples, cluster, count)
        _cut_power(samples, cluster, count)


def _start(samples: Samples, cluster: Cluster, count: int) -> None:
    began_s = time.monotonic()
    cluster.command("start", "*.service")
    samples.take(cluster.system, Figure.STARTED, count, time.monotonic() - began_s)
    last_s = wait_until_active(cluster.machines, PATTERN, count)
    samples.take(cluster.system, Figure.ACTIVE, count, last_s - began_s)


def _look(samples: Samples, cluster: Cluster, count: int, idle_s: float) -> None:
    for _ in range(LISTINGS):
        listed_s = timed(lambda: cluster.command("list-units"))
        samples.take(cluster.system, Figure.LISTED, count, listed_s)
    if idle_s:
        _idle(samples, cluster, count, idle_s)


def _idle(samples: Samples, cluster: Cluster, count: int, idle_s: float) -> None:
    pids = [main_pid(machine, cluster.service) for machine in cluster.machines]
    time.sleep(_CALM_S)
    before = [(cpu_s(pid), wakeups(pid)) for pid in pids]
    time.sleep(idle_s)
    after = [(cpu_s(pid), wakeups(pid)) for pid in pids]
    for (cpu_before, woken_before), (cpu_after, woken_after) in zip(before, after, strict=True):
        busy = 100 * (cpu_after - cpu_before) / idle_s
        samples.take(cluster.system, Figure.IDLE, count, busy)
        woken = (woken_after - woken_before) / idle_s
        samples.take(cluster.system, Figure.WAKEUPS, count, woken)
    for pid in pids:
        samples.take(cluster.system, Figure.MEMORY, count, resident_mb(pid))


def _take_down(samples: Samples, cluster: Cluster, count: int) -> None:
    stop_s = timed(lambda: cluster.command("stop", "*.service"))
    samples.take(cluster.system, Figure.STOPPED, count, stop_s)
    if left := _count_active(cluster.machines):
        # A command that returns too soon would look fast.
        raise RuntimeError(f"{left} units are active after fleetctl said that all have stopped")
    gone_s = timed(lambda: cluster.command("destroy", "*.service"))
    samples.take(cluster.system, Figure.DESTROYED, count, gone_s)
    samples.take(cluster.system, Figure.TAKEN_DOWN, count, stop_s + gone_s)


def _remove(samples: Samples, cluster: Cluster, count: int) -> None:
    """Destroy what runs; the original's command does not wait until it has stopped."""
    began_s = time.monotonic()
    cluster.command("destroy", "*.service")
    gone_s = time.monotonic()
    while _count_active(cluster.machines):
        gone_s = time.monotonic()
        if gone_s > began_s + DEADLINE_S:
            raise TimeoutError(f"units are active {DEADLINE_S:g} s after they were destroyed")
    samples.take(cluster.system, Figure.REMOVED, count, gone_s - began_s)


def _count_active(machines: Sequence[Machine]) -> int:
    return sum(len(became_active_s(machine, PATTERN)) for machine in machines)


def _submit(samples: Samples, cluster: Cluster, count: int) -> None:
    began_s = time.monotonic()
    cluster.command("start", "--no-block", "*.service")
    samples.take(cluster.system, Figure.SUBMITTED, count, time.monotonic() - began_s)
    last_s = wait_until_active(cluster.machines, PATTERN, count)
    samples.take(cluster.system, Figure.ACTIVE, count, last_s - began_s)


def _cut_power(samples: Samples, cluster: Cluster, count: int) -> None:
    """Cut the power of a machine with units that does not lead, if there is one."""
    time.sleep(_CALM_S)
    homes = {m: set(became_active_s(m, PATTERN)) for m in cluster.machines}
    with LeaseWatch(cluster.hub, cluster.etcd) as lease:
        victim = _choose_victim(homes, lease.leader)
        lost, left = homes[victim], [m for m in cluster.machines if m is not victim]
        began_s = time.monotonic()
        cluster.sandbox.kill(victim.name)
        last_s = _wait_until_all(left, lost)
        gone_s = lease.ended_s(victim.id)
    samples.take(cluster.system, Figure.POWER_CUT, count, last_s - began_s)
    if gone_s is not None:
        samples.take(cluster.system, Figure.FAILOVER, count, last_s - gone_s)


def _choose_victim(homes: dict[Machine, set[str]], leader: str) -> Machine:
    with_units = [machine for machine, units in homes.items() if units]
    others = [machine for machine in with_units if machine.id != leader]
    return (others or with_units)[-1]


def _wait_until_all(machines: Sequence[Machine], units: set[str]) -> float:
    """When the last of the units became active on one of the machines; raises TimeoutError."""
    deadline_s = time.monotonic() + DEADLINE_S
    count = sum(len(became_active_s(machine, PATTERN)) for machine in machines)
    wait_until_active(machines, PATTERN, count + len(units))
    while time.monotonic() < deadline_s:
        found = {u: at for m in machines for u, at in became_active_s(m, PATTERN).items()}
        if units <= found.keys():
            return max(found[unit] for unit in units)
    raise TimeoutError(f"not all of {len(units)} units are active elsewhere")


def spread(values: Sequence[float]) -> str:
    """The median, with the fastest and the slowest if there are several."""
    middle = statistics.median(values)
    if len(values) == 1:
        return f"{middle:.2f}"
    return f"{middle:.2f} ({min(values):.2f}-{max(values):.2f})"
