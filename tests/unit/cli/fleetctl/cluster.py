"""A cluster in a thread: the real API over a store in memory, and a stand-in for engine and agent.

What the tests see is fleetctl as its users see it: a command line in, output and a status out.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from engine.foresee import foresee
from engine.moving import Rebalancer
from fleet.api.server import ApiServer
from fleet.cluster import Assignment, Refusal, UnitRecord, encode_leader
from fleet.keys import Keys
from fleet.machine import Machine, MachineId, encode_machine
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.states import TargetState, UnitState, encode_state
from fleet.store.memory import MemoryStore
from fleet.store.port import Delete, Put

HERE = MachineId("113f16a7b5be4a7ba3a9d58bf1b0b2c1")
LEGEND = "113f16a7.../172.17.8.103"
SLOW_S = 0.15
_T = TypeVar("_T")


@dataclass(slots=True)
class Cluster:
    """One machine that does as told at once, except where a test says otherwise."""

    socket: Path
    failing: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    history: list[tuple[str, str]] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(init=False)
    registry: Registry = field(init=False)
    server: ApiServer = field(init=False)
    served: MemoryStore = field(init=False)

    def do(self, work: Callable[[Registry], Coroutine[Any, Any, _T]]) -> _T:
        """Something done to the registry by somebody else."""
        future: Future[_T] = asyncio.run_coroutine_threadsafe(work(self.registry), self.loop)
        return future.result(timeout=10)

    def target(self, name: str) -> str | None:
        """What is wanted of the unit, None if it is not stored."""
        record = self.do(lambda registry: registry.cluster()).units.get(UnitName(name))
        return record.target.value if record else None

    def text(self, name: str) -> str:
        """The stored text of the unit."""

        async def read(registry: Registry) -> str:
            record = (await registry.cluster()).units[UnitName(name)]
            return (await registry.file(record.file)).text

        return self.do(read)

    def limit(self, name: str) -> int:
        """How many of the unit's kind may be down at a time for its contents, 0 for no limit."""
        record = self.do(lambda registry: registry.cluster()).units[UnitName(name)]
        return record.requirements.max_unavailable

    def events(self) -> int:
        """How many changes the registry has noted."""

        async def count(registry: Registry) -> int:
            return len((await registry.store.read(registry.keys.events)).entries)

        return self.do(count)

    def stop_serving(self) -> None:
        async def stop(_: Registry) -> None:
            await self.server.stop()

        self.do(stop)

    # Inside the thread

    async def live(self, started: threading.Event, ended: asyncio.Event) -> None:
        self.loop = asyncio.get_running_loop()
        store = MemoryStore()
        self.served = store.connect()
        keys = Keys("/fleet/")
        self.registry = Registry(store, keys)
        serving = Registry(self.served, keys)
        self.server = ApiServer(
            serving,
            version="2.0.0",
            hostname="here",
            foresee=foresee,
            rebalancer=Rebalancer(serving),
        )
        machine = Machine(id=HERE, address="172.17.8.103", metadata={"disk": "ssd"})
        document = json.dumps(encode_machine(machine)).encode()
        keys = self.registry.keys
        leading = Put(keys.engine, encode_leader(HERE))
        registered = await self.registry.store.commit(
            [], [Put(keys.machine(HERE), document), leading]
        )
        await self.server.start(unix_path=self.socket)
        working = asyncio.create_task(self._work(registered.revision))
        started.set()
        await ended.wait()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        await self.server.stop()
        await self.served.close()
        await self.registry.store.close()

    async def _work(self, after: int) -> None:
        seen: dict[UnitName, UnitRecord] = {}
        keys = self.registry.keys
        async for _ in self.registry.store.watch(keys.units, after):
            cluster = await self.registry.cluster()
            for name in seen.keys() - cluster.units.keys():
                await self._remove(name)
            for name, record in cluster.units.items():
                old = seen.get(name)
                if old is None or (old.hash, old.target) != (record.hash, record.target):
                    self.history.append((name, record.target.value))
                    await self._obey(record)
            seen = dict(cluster.units)

    async def _remove(self, name: UnitName) -> None:
        if name in self.slow:
            await asyncio.sleep(SLOW_S)
        keys = self.registry.keys
        gone = (keys.assignment(HERE, name), keys.state(HERE, name), keys.refusal(name))
        await self.registry.store.commit([], [Delete(key) for key in gone])

    async def _obey(self, record: UnitRecord) -> None:
        if record.name in self.deaf:
            return
        if record.target is TargetState.INACTIVE:
            return await self._remove(record.name)
        if record.name in self.refused:
            refusal = Refusal(unit=record.name, reasons={HERE: "the machine has no tape"})
            await self.registry.store.commit([], [self.registry.refusal_put(refusal)])
            return None
        if record.name in self.slow:
            await asyncio.sleep(SLOW_S)
        row = Assignment(
            unit=record.name,
            machine=HERE,
            hash=record.hash,
            file=record.file,
            target=record.target,
        )
        state = json.dumps(encode_state(self._state(record))).encode()
        puts = [
            self.registry.assignment_put(row),
            Put(self.registry.keys.state(HERE, record.name), state),
        ]
        await self.registry.store.commit([], puts)
        return None

    def _state(self, record: UnitRecord) -> UnitState:
        launched = record.target is TargetState.LAUNCHED
        state = UnitState(
            unit=record.name,
            machine=HERE,
            hash=record.hash,
            current=record.target,
            load="loaded",
            active="active" if launched else "inactive",
            sub="running" if launched else "dead",
            job="done" if launched else "",
            result="success",
        )
        return replace(state, **self.failing[record.name]) if record.name in self.failing else state


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command line came to."""

    status: int
    out: str
    err: str


Fleetctl = Callable[..., Outcome]


def wait_until(holds: Callable[[], bool]) -> None:
    """Look until it holds, generously long."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)
