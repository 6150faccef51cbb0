"""`make bench-scale`: a thousand machines and ten thousand units on a real etcd.

The machines are simulated and share one process: each has a lease that it renews, a registration
that it looks at, watches of its schedule and of the leader key, and a state for each row, through
the real registry and the real etcd adapter, as a fleetd has; there is no systemd and no file behind
it. Forty of them share a connection pool. The leader is the real engine in a process of its own, so
that what it takes can be told from what they take.
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
from dataclasses import dataclass, field
from pathlib import Path

import click

from engine.loop import Engine
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

TTL_S = 6.0
SLEEPER = "[Service]\nExecStart=/bin/sleep 100000\n"
SHARING = 40
AT_ONCE = 20
DEADLINE_S = 180.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Simulated:
    """One machine: what its fleetd sends to etcd, and nothing else of it."""

    registry: Registry
    machine: Machine
    up: set[UnitName] = field(default_factory=set)
    late_s: float = 0.0
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    async def join(self) -> None:
        lease = await self.registry.store.grant(TTL_S)
        assert await self.registry.register(self.machine, lease, over=0)

        async def renew() -> None:
            clock = asyncio.get_running_loop().time
            for rounds in itertools.count(1):
                began_s = clock()
                await asyncio.sleep(TTL_S / 3)
                with contextlib.suppress(Unavailable):
                    await self.registry.store.renew(lease)
                    if rounds % 3 == 0:
                        await self.registry.machine_entry(self.machine.id)
                self.late_s = max(self.late_s, clock() - began_s - TTL_S / 3)

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

        election = Mirror(self.registry.store, self.registry.keys.engine)
        parts = (renew(), mirror.run(), report(), election.run())
        self._tasks = [asyncio.create_task(part) for part in parts]

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
async def staged(folder: Path, count: int) -> AsyncIterator[Stage]:
    """A cluster of that many machines, all registered, and a leader."""
    with start_etcd(folder, binary=packaged_etcd()) as etcd:
        stores = [EtcdStore(etcd.settings) for _ in range(count // SHARING + 1)]
        machines = [
            Simulated(Registry(stores[number // SHARING], Keys()), machine)
            for number, machine in enumerate(imagined_machines(count))
        ]
        for start in range(0, count, AT_ONCE):
            await asyncio.gather(*(each.join() for each in machines[start : start + AT_ONCE]))
        argv = [sys.executable, "-P", "-m", "tests.bench.scale", "--lead", *etcd.settings.servers]
        leader = subprocess.Popen(argv)  # noqa: ASYNC220 - itself
        try:
            yield Stage(etcd.settings, etcd.members[0].health_url, machines, leader)
        finally:
            leader.send_signal(signal.SIGTERM)
            leader.wait()
            for machine in machines:
                machine.die()
            for store in stores:
                await store.close()


async def lead(server: str) -> None:
    """Be the leader until the process is ended."""
    store = EtcdStore(EtcdSettings(servers=[server]))
    engine = Engine(Registry(store, Keys()), machine=MachineId("leader"))
    running = asyncio.create_task(engine.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await store.close()


async def measure(machines: int, units: int, kill: int, idle_s: float) -> dict[str, float]:
    """The figures, by what they are."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with staged(Path(folder) / "etcd", machines) as stage:
            await asyncio.sleep(2 * TTL_S)  # the leader's first looks
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
    await asyncio.sleep(2 * TTL_S)
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
        "leader's processor for the loss, s": stage.leader_cpu_s() - cpu_s,
    }


@click.command()
@click.option("--lead", "server", hidden=True, default="")
@click.option("--machines", default=1000, show_default=True)
@click.option("--units", default=10_000, show_default=True)
@click.option("--kill", default=50, show_default=True)
@click.option("--idle", "idle_s", default=20.0, show_default=True, help="Seconds.")
def scale(server: str, machines: int, units: int, kill: int, idle_s: float) -> None:
    """Measure a cluster of many simulated machines on a real etcd."""
    if server:
        asyncio.run(lead(server))
        return
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    figures = asyncio.run(measure(machines, units, kill, idle_s))
    click.echo(f"{machines} machines, {units} units. {stamp()}")
    for what, value in figures.items():
        click.echo(f"| {what} | {value:.2f} |")


if __name__ == "__main__":
    scale()
