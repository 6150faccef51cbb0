"""The machines of a town: a systemd, a disk, and a whole fleetd that can be killed and frozen."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.fake import FakeSystemd
from agent.fence import Fence
from agent.heartbeat import Membership
from agent.local import LocalUnits
from agent.loop import Agent
from engine.election import ElectionSettings
from engine.loop import Engine, EngineSettings
from engine.plan import PlanSettings
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.store.memory import MemoryStore
from fleet.store.port import LeaseId
from tests.unit.town.gates import Gate
from tests.unit.town.troubled import Mood, TroubledStore

KEYS = Keys()
TTL_S = 6.0
HOLD_S = 30.0
SETTINGS = EngineSettings(
    plan=PlanSettings(machine_ttl_s=TTL_S, mass_loss_hold_s=HOLD_S),
    election=ElectionSettings(),
    reconcile_interval_s=60.0,
)


class WatchedSystemd(FakeSystemd):
    """One that tells of every call, and whenever a unit's state changes."""

    def __init__(
        self,
        drop_ins: Path,
        *,
        called: Callable[[tuple[str, ...]], None],
        moved: Callable[[], None],
    ) -> None:
        super().__init__(drop_ins=drop_ins)
        self._called, self._moved = called, moved

    def _enter(self, *call: str) -> None:
        super()._enter(*call)
        if call:
            self._called(call)

    def set_state(self, unit: UnitName, **changes: Any) -> None:
        super().set_state(unit, **changes)
        self._moved()

    def is_fenced(self, unit: UnitName) -> bool:
        """Whether what runs has the contents of a fenced unit."""
        loaded = self._memory.get(unit)
        return loaded is not None and "true" in loaded.file.values("X-Fleet", "Fenced")


class Fleetd:
    """The daemon of one box, wired as cli/daemon.py does it, on connections of its own."""

    def __init__(self, box: "Box") -> None:
        self.gate = Gate()
        self.main = TroubledStore(box.store.connect())
        self.beat = TroubledStore(box.store.connect())
        registry = Registry(self.main, KEYS)
        self._is_member = asyncio.Event()
        self._fence = Fence(
            box.systemd, box.folder / "fence", ttl_s=TTL_S, changed=lambda: self.agent.nudge()
        )
        self.agent = Agent(
            registry=registry,
            systemd=box.systemd,
            units=LocalUnits(
                box.folder / "units", boot_id=box.boot_id, drop_ins=box.folder / "drop-ins"
            ),
            machine=box.id,
            fence=self._fence,
        )
        machine = Machine(id=box.id, boot_id=box.boot_id, metadata=box.metadata)
        self.membership = Membership(
            self.beat,
            KEYS,
            lambda: machine,
            ttl_s=TTL_S,
            session=self._use,
            renewed=self._fence.renewed,
        )
        loop = asyncio.get_running_loop()
        self.engine = Engine(
            registry,
            machine=box.id,
            settings=SETTINGS,
            trouble_s=lambda: self.membership.trouble_s(loop.time()),
        )
        parts = (self.membership.run(), self._fence.run(), self.agent.run(), self._lead())
        context = self.gate.context()
        self.tasks = [loop.create_task(part, context=context) for part in parts]

    def _use(self, lease: LeaseId | None) -> None:
        self.agent.use_lease(lease)
        if lease is not None:
            self._is_member.set()

    async def _lead(self) -> None:
        await self._is_member.wait()
        await self.engine.run()

    @property
    def lines(self) -> tuple[TroubledStore, TroubledStore]:
        return self.main, self.beat

    def kill(self) -> None:
        """It never takes another step, and nothing of it arrives any more."""
        for line in self.lines:
            line.be(Mood.AWAY)
        self.gate.shut()

    async def end(self) -> None:
        """It is told to stop, and gives back what it can."""
        self.gate.open()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Box:
    """One machine. A power cut takes its units, and what is in /run, with it."""

    def __init__(
        self,
        name: str,
        place: Path,
        store: MemoryStore,
        *,
        called: Callable[["Box", tuple[str, ...]], None],
        moved: Callable[[], None],
        **metadata: str,
    ) -> None:
        self.id = MachineId(name * 32)
        self.store = store
        self.metadata = metadata
        self.healed_s = 0.0
        self._place, self._called, self._moved = place, called, moved
        self._boots = 0
        self.is_on = False
        self.dead: list[Fleetd] = []
        self.power_on()

    @property
    def boot_id(self) -> str:
        return f"{self.id[0]}-boot-{self._boots}"

    @property
    def folder(self) -> Path:
        return self._place / self.boot_id

    def power_on(self) -> None:
        self._boots += 1
        self.is_on = True
        self.systemd = WatchedSystemd(
            self.folder / "drop-ins", called=self._tell, moved=self._moved
        )
        self.fleetd = Fleetd(self)

    def _tell(self, call: tuple[str, ...]) -> None:
        self._called(self, call)

    def power_off(self) -> None:
        self.is_on = False
        self.kill_fleetd()

    def kill_fleetd(self) -> None:
        self.fleetd.kill()
        self.dead.append(self.fleetd)

    def restart_fleetd(self) -> None:
        self.fleetd = Fleetd(self)

    def thaw(self) -> None:
        """Let fleetd go on if it was frozen, not if it is dead."""
        if self.fleetd not in self.dead:
            self.healed_s = asyncio.get_running_loop().time()
            self.fleetd.gate.open()

    @property
    def live(self) -> frozenset[UnitName]:
        """The units of fleet's that run here."""
        if not self.is_on:
            return frozenset()
        return frozenset(u for u in self.systemd.live if not u.startswith("fleet-"))

    def has_file(self, unit: UnitName) -> bool:
        return (self.folder / "units" / unit).exists()

    @property
    def trouble_s(self) -> float:
        """When this machine last had any trouble."""
        return max(self.healed_s, *(line.trouble_s for line in self.fleetd.lines))
