"""A store with machines that renew their leases, and engines, for tests on a virtual clock."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from engine.election import ElectionSettings
from engine.loop import Engine, EngineSettings
from engine.plan import PlanSettings
from fleet.cluster import Cluster
from fleet.errors import Unavailable
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState, UnitState
from fleet.store.memory import MemoryStore
from fleet.store.port import LeaseId, LeaseLost
from fleet.unit import parse_unit
from tests.unit.engine.worlds import rows_of

TTL_S = 6.0
SETTINGS = EngineSettings(
    plan=PlanSettings(machine_ttl_s=TTL_S, mass_loss_hold_s=30.0),
    election=ElectionSettings(),
    reconcile_interval_s=60.0,
)
OUT = Unavailable("the store is out, for a test")


class Scene:
    """A store with machines, their heartbeats, and engines."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.registry = Registry(self.store, Keys())
        self._beats: dict[str, asyncio.Task[None]] = {}
        self._engines: list[asyncio.Task[None]] = []

    async def add_machine(self, name: str, **metadata: str) -> None:
        machine = Machine(id=MachineId(name), metadata=metadata)
        lease = await self.store.grant(TTL_S)
        entry = await self.registry.machine_entry(machine.id)
        assert await self.registry.register(machine, lease, over=entry.modified if entry else 0)
        self._beats[name] = asyncio.create_task(self._beat(machine, lease))

    async def _beat(self, machine: Machine, lease: LeaseId) -> None:
        while True:
            await asyncio.sleep(2.0)
            try:
                await self.store.renew(lease)
            except Unavailable:
                continue
            except LeaseLost:
                lease = await self.store.grant(TTL_S)
                await self.registry.register(machine, lease, over=0)

    async def leave_machine(self, *names: str) -> None:
        """These machines leave on purpose."""
        for name in names:
            self._beats.pop(name).cancel()
            machine = MachineId(name)
            await self.registry.depart(machine, await self.store.grant(60))
            entry = await self.registry.machine_entry(machine)
            assert entry is not None
            assert entry.lease is not None
            await self.store.revoke(entry.lease)

    def kill_machine(self, *names: str) -> None:
        for name in names:
            self._beats.pop(name).cancel()

    def add_engine(
        self, name: str = "m1", *, trouble_s: Callable[[], float | None] = lambda: None
    ) -> tuple[Engine, MemoryStore]:
        """An engine with a connection of its own, running."""
        connection = self.store.connect()
        engine = Engine(
            Registry(connection, Keys()),
            machine=MachineId(name),
            settings=SETTINGS,
            trouble_s=trouble_s,
        )
        self._engines.append(asyncio.create_task(engine.run()))
        return engine, connection

    async def lead_idly(self) -> LeaseId:
        """Lead and do nothing, until the lease is revoked: engines made meanwhile stand by."""
        lease = await self.store.grant(3600)
        assert await self.registry.leadership.acquire(MachineId("idle"), lease)
        return lease

    async def start(self, name: str, *options: str) -> None:
        text = "\n".join(["[Service]", "ExecStart=/bin/true", "[X-Fleet]", *options])
        change = UnitChange(name=UnitName(name), file=parse_unit(text), target=TargetState.LAUNCHED)
        await self.registry.apply([change], by="test")

    async def report_up(self, name: str, where: str) -> None:
        state = UnitState(
            unit=UnitName(name),
            machine=MachineId(where),
            hash="",
            current=TargetState.LAUNCHED,
            load="loaded",
            active="active",
            sub="running",
        )
        lease = await self.store.grant(3600)
        await self.registry.publish_states(state.machine, {state.unit: state}, lease)

    async def report_gone(self, name: str, where: str) -> None:
        """The machine says nothing of the unit any more."""
        lease = await self.store.grant(3600)
        await self.registry.publish_states(MachineId(where), {UnitName(name): None}, lease)

    async def rows(self) -> set[str]:
        return rows_of(await self.registry.cluster())

    async def events(self) -> list[str]:
        entries = (await self.store.read(self.registry.keys.events)).entries
        return [entry.value.decode() for _, entry in sorted(entries.items())]

    async def until(self, holds: Callable[[Cluster], bool], within_s: float = 30.0) -> Cluster:
        """The cluster as soon as that holds; fails when it does not within the time."""
        async with asyncio.timeout(within_s):
            while True:
                cluster = await self.registry.cluster()
                if holds(cluster):
                    return cluster
                await asyncio.sleep(0.01)

    async def until_rows(self, *rows: str, within_s: float = 30.0) -> None:
        """Wait for exactly these rows, in any order."""
        wanted = set(rows)
        try:
            await self.until(lambda cluster: rows_of(cluster) == wanted, within_s)
        except TimeoutError:
            assert await self.rows() == wanted

    async def close(self) -> None:
        for task in (*self._beats.values(), *self._engines):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def scene(*machines: str, engines: bool = True) -> AsyncIterator[Scene]:
    made = Scene()
    try:
        for name in machines:
            await made.add_machine(name)
        if engines:
            made.add_engine()
        yield made
    finally:
        await made.close()


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def keys_of(cluster: Scene) -> set[str]:
    return set((await cluster.store.read(cluster.registry.keys.root)).entries)
