"""`make bench-scale`: a thousand machines and ten thousand units on a real etcd.

The machines are simulated and share one process: each has a lease that it renews, a registration
that it looks at, a watch of its schedule, and a state for each row, through the real registry and
the real etcd adapter, as an agent has; there is no systemd and no file behind it. Forty of them
share a connection pool. The leader is the real engine in a process of its own, so
that what it takes can be told from what they take.

A thousand machines that renew every two seconds are more than one process can be, so their leases
are long ones. What a machine asks for with the lease that it has by default is counted on fewer:

    python -m tests.bench.scale --machines 100 --units 1000 --kill 5 --ttl 6
"""

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from agent.heartbeat import CHECK_ROUNDS, RENEW_PART
from engine.leading import EngineSettings
from engine.loop import Engine
from engine.plan import PlanSettings
from engine.scenarios import imagined_machines
from fleet.cluster import Assignment
from fleet.errors import Unavailable
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.snapshot import decode_schedule
from fleet.states import TargetState, UnitState
from fleet.store.connect import EtcdSettings
from fleet.store.etcd import EtcdStore
from fleet.store.mirror import Mirror
from fleet.testing.etcd import packaged_etcd, start_etcd
from fleet.unit import parse_unit
from tests.bench.page import stamp

SLEEPER = "[Service]\nExecStart=/bin/sleep 100000\n"
SHARING = 40
AT_ONCE = 10
DEADLINE_S = 180.0
# A thousand in one process answer late, which says nothing of etcd.
REQUEST_S = 20.0
# After a start or a burst: what is on its way comes to rest.
CALM_S = 12.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Simulated:
    """One machine: what its fleetd sends to etcd, and nothing else of it."""

    registry: Registry
    machine: Machine
    ttl_s: float
    up: set[UnitName] = field(default_factory=set)
    late_s: float = 0.0
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    async def join(self) -> None:
        lease = await self.registry.store.grant(self.ttl_s)
        assert await self.registry.register(self.machine, lease, over=0)

        async def renew() -> None:
            clock = asyncio.get_running_loop().time
            for rounds in itertools.count(1):
                began_s = clock()
                await asyncio.sleep(self.ttl_s * RENEW_PART)
                with contextlib.suppress(Unavailable):
                    await self.registry.store.renew(lease)
                    if rounds % CHECK_ROUNDS == 0:
                        await self.registry.machine_entry(self.machine.id)
                self.late_s = max(self.late_s, clock() - began_s - self.ttl_s * RENEW_PART)

        mirror = Mirror(self.registry.store, self.registry.keys.schedule_of(self.machine.id))

        async def report() -> None:
            while await mirror.wait():
                rows, _ = decode_schedule(
                    self.registry.keys, self.machine.id, mirror.entries.values()
                )
                there = {row.unit: row for row in rows}
                changed: dict[UnitName, UnitState | None] = {
                    unit: _up(row) for unit, row in there.items() if unit not in self.up
                }
                changed |= dict.fromkeys(self.up - there.keys())
                await self.registry.publish_states(self.machine.id, changed, lease)
                self.up = set(there)

        parts = (renew(), mirror.run(), report())
        self._tasks = [asyncio.create_task(part) for part in parts]
        while not mirror.is_current:  # noqa: ASYNC110 - see `until`
            await asyncio.sleep(0.05)

    def die(self) -> None:
        """Stop renewing, as a power cut would; the lease ends by itself."""
        for task in self._tasks:
            task.cancel()
        self.up = set()


def _up(row: Assignment) -> UnitState:
    return UnitState(
        unit=row.unit,
        machine=row.machine,
        hash=row.hash,
        current=TargetState.LAUNCHED,
        load="loaded",
        active="active",
        sub="running",
    )


@dataclass(slots=True)
class Stage:
    """The etcd, the simulated machines and the leader's process."""

    settings: EtcdSettings
    metrics_url: str
    machines: list[Simulated]
    leader: "subprocess.Popen[bytes]"

    def requests(self) -> float:
        """How many requests etcd was sent so far: its own count of calls begun."""
        with urllib.request.urlopen(f"{self.metrics_url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        begun = (line for line in lines if line.startswith("grpc_server_started_total{"))
        return sum(float(line.rpartition(" ")[2]) for line in begun)

    def leader_cpu_s(self) -> float:
        words = Path(f"/proc/{self.leader.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / TICKS

    def leader_mb(self) -> float:
        status = Path(f"/proc/{self.leader.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    def up(self) -> int:
        return sum(len(machine.up) for machine in self.machines)

    async def until(self, holds: Callable[[], bool]) -> float:
        """How long it takes until that holds; fails after the deadline."""
        began_s = time.monotonic()
        async with asyncio.timeout(DEADLINE_S):
            while not holds():  # noqa: ASYNC110 - a look costs nothing beside what it looks at
                await asyncio.sleep(0.05)
        return time.monotonic() - began_s


@contextlib.asynccontextmanager
async def staged(folder: Path, count: int, ttl_s: float) -> AsyncIterator[Stage]:
    """A cluster of that many machines, all registered, and a leader."""
    with start_etcd(folder, binary=packaged_etcd()) as etcd:
        patient = replace(etcd.settings, request_timeout_s=REQUEST_S)
        stores = [EtcdStore(patient) for _ in range(count // SHARING + 1)]
        machines = [
            Simulated(Registry(stores[number // SHARING], Keys()), machine, ttl_s)
            for number, machine in enumerate(imagined_machines(count))
        ]
        for start in range(0, count, AT_ONCE):
            await asyncio.gather(*(each.join() for each in machines[start : start + AT_ONCE]))
        argv = ["-m", "tests.bench.scale", "--ttl", str(ttl_s), "--lead", *etcd.settings.servers]
        leader = subprocess.Popen([sys.executable, "-P", *argv])  # noqa: ASYNC220 - itself
        try:
            yield Stage(etcd.settings, etcd.members[0].health_url, machines, leader)
        finally:
            leader.send_signal(signal.SIGTERM)
            leader.wait()
            for machine in machines:
                machine.die()
            for store in stores:
                await store.close()


async def lead(server: str, ttl_s: float) -> None:
    """Be the leader until the process is ended."""
    store = EtcdStore(EtcdSettings(servers=[server]))
    settings = EngineSettings(plan=PlanSettings(machine_ttl_s=ttl_s))
    engine = Engine(Registry(store, Keys()), machine=MachineId("leader"), settings=settings)
    running = asyncio.create_task(engine.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await store.close()


async def measure(
    machines: int, units: int, kill: int, *, ttl_s: float, idle_s: float
) -> dict[str, float]:
    """The figures, by what they are."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with staged(Path(folder) / "etcd", machines, ttl_s) as stage:
            await asyncio.sleep(CALM_S)  # the leader's first looks
            found |= await _place(stage, units)
            found |= await _idle(stage, machines, idle_s)
            found |= await _lose(stage, units, kill)
            found["leader's memory at most, MB"] = stage.leader_mb()
            found["latest renewal, s late"] = max(each.late_s for each in stage.machines)
    return found


async def _place(stage: Stage, units: int) -> dict[str, float]:
    operator = Registry(EtcdStore(stage.settings), Keys())
    file = parse_unit(SLEEPER)
    cpu_s, began_s = stage.leader_cpu_s(), time.monotonic()
    changes = [
        UnitChange(name=UnitName(f"u{n}.service"), file=file, target=TargetState.LAUNCHED)
        for n in range(units)
    ]
    await operator.apply(changes, by="bench")
    submitted_s = time.monotonic() - began_s
    await stage.until(lambda: stage.up() >= units)
    took_s = time.monotonic() - began_s
    await operator.store.close()
    return {
        "units submitted, s": submitted_s,
        "from there until all are placed and reported, s": took_s - submitted_s,
        "all in all, s": took_s,
        "leader's processor for that, s": stage.leader_cpu_s() - cpu_s,
    }


async def _idle(stage: Stage, machines: int, idle_s: float) -> dict[str, float]:
    await asyncio.sleep(CALM_S)
    requests, cpu_s = stage.requests(), stage.leader_cpu_s()
    await asyncio.sleep(idle_s)
    return {
        "etcd requests per idle machine, /s": (stage.requests() - requests) / idle_s / machines,
        "leader idle, % of a core": 100 * (stage.leader_cpu_s() - cpu_s) / idle_s,
    }


async def _lose(stage: Stage, units: int, kill: int) -> dict[str, float]:
    dying = stage.machines[:: len(stage.machines) // kill][:kill]
    orphans, cpu_s = sum(len(machine.up) for machine in dying), stage.leader_cpu_s()
    for machine in dying:
        machine.die()
    took_s = await stage.until(lambda: stage.up() >= units)
    return {
        f"{kill} machines with {orphans} units die: until all run elsewhere, s": took_s,
        "of which the leases, s": dying[0].ttl_s,
        "leader's processor for the loss, s": stage.leader_cpu_s() - cpu_s,
    }


@click.command()
@click.option("--lead", "server", hidden=True, default="")
@click.option("--machines", default=1000, show_default=True)
@click.option("--units", default=10_000, show_default=True)
@click.option("--kill", default=50, show_default=True)
@click.option("--ttl", "ttl_s", default=30.0, show_default=True, help="Seconds of a lease.")
@click.option("--idle", "idle_s", default=30.0, show_default=True, help="Seconds.")
def scale(server: str, machines: int, units: int, kill: int, ttl_s: float, idle_s: float) -> None:
    """Measure a cluster of many simulated machines on a real etcd."""
    if server:
        asyncio.run(lead(server, ttl_s))
        return
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    figures = asyncio.run(measure(machines, units, kill, ttl_s=ttl_s, idle_s=idle_s))
    click.echo(f"{machines} machines with leases of {ttl_s:g} s, {units} units. {stamp()}")
    for what, value in figures.items():
        click.echo(f"| {what} | {value:.2f} |")


if __name__ == "__main__":
    scale()
