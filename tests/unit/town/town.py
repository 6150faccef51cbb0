"""A town: some machines with all of fleet on them, one store, and what must never happen there.

What must not happen is written down the moment it does; `violations` has it. `peace()` ends all
trouble and says what is not as it should be once everything has come to rest.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.moving import Rebalancer
from fleet.cluster import Assignment, decode_assignment
from fleet.constraints import able_to_run
from fleet.errors import FleetError, Unavailable
from fleet.machine import Cordon, Machine, MachineId
from fleet.names import UnitName
from fleet.options import Requirements
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.store.port import Changes, Event
from tests.unit.engine.test_small_worlds import check_settled
from tests.unit.town.boxes import KEYS, Box
from tests.unit.town.troubled import ANSWER_S, Mood, TroubledStore

# An agent that has had no trouble for so long knows what its schedule says.
LAG_S = 8.0
# What an agent had begun when it lost the store is over after so long.
GRACE_S = ANSWER_S + 1.0
REST_S = 150.0
WATCH_S = 70.0


@dataclass(frozen=True)
class Wanted:
    """What somebody asked of a unit."""

    hash: str
    target: TargetState


class Town:
    """Made in its loop; `close()` ends everything."""

    def __init__(self, place: Path) -> None:
        self.store = MemoryStore()
        self.hands = TroubledStore(self.store.connect())
        self.registry = Registry(self.hands, KEYS)
        self.violations: list[str] = []
        self.wanted: dict[UnitName, set[Wanted | None]] = {}
        self.asked: dict[str, Requirements] = {}
        self.rows: dict[tuple[MachineId, UnitName], Assignment] = {}
        self.changed_s: dict[tuple[MachineId, UnitName], float] = {}
        self.machines: set[MachineId] = set()
        self._watching = asyncio.create_task(self._watch())
        self.boxes = [
            Box(name, place, self.store, called=self._called, moved=self._moved, **metadata)
            for name, metadata in (("a", {"role": "x"}), ("b", {}), ("c", {"role": "x"}))
        ]

    async def close(self) -> None:
        self._watching.cancel()
        for box in self.boxes:
            for fleetd in (*box.dead, box.fleetd):
                await fleetd.end()
        await asyncio.gather(self._watching, return_exceptions=True)

    @property
    def lines(self) -> list[TroubledStore]:
        return [self.hands, *(line for box in self.boxes for line in box.fleetd.lines)]

    def _tell(self, what: str) -> None:
        self.violations.append(f"{asyncio.get_running_loop().time():.2f} s: {what}")

    # What the operators do

    async def ask(self, change: UnitChange) -> None:
        """Ask for it; what becomes of it is known only if it is answered."""
        known = self.wanted.get(change.name, {None})
        asked = {
            self._outcome(each, change) for each in known if each or change.file or change.destroy
        }
        try:
            await self.registry.apply([change], by="alice")
        except Unavailable:
            self.wanted[change.name] = known | asked
        except FleetError:
            return
        else:
            self.wanted[change.name] = asked

    def _outcome(self, old: Wanted | None, change: UnitChange) -> Wanted | None:
        if change.destroy:
            return None
        if change.file is not None:
            return Wanted(change.file.hash, change.target or TargetState.INACTIVE)
        assert old is not None
        return Wanted(old.hash, change.target or old.target)

    async def cordon(self, box: Box, *, drain: bool) -> None:
        try:
            await self.registry.cordon(box.id, Cordon(by="alice", drain=drain))
        except FleetError:
            return

    async def uncordon(self, box: Box) -> None:
        try:
            await self.registry.uncordon(box.id, by="alice")
        except FleetError:
            return

    async def rebalance(self) -> None:
        try:
            await Rebalancer(self.registry).rebalance(10, by="alice")
        except FleetError:
            return

    # What must not happen

    async def _watch(self) -> None:
        async for changes in self.store.connect().watch(KEYS.root, 1):
            self._learn(changes)

    def _learn(self, changes: Changes) -> None:
        for event in changes.events:
            if event.key.startswith(KEYS.schedule):
                self._learn_row(event)
            elif event.key.startswith(KEYS.machines):
                machine = MachineId(event.key.removeprefix(KEYS.machines))
                (self.machines.add if event.entry else self.machines.discard)(machine)
        for machine in self.machines:
            self._check_neighbours(machine)

    def _learn_row(self, event: Event) -> None:
        where, _, name = event.key.removeprefix(KEYS.schedule).partition("/")
        place = MachineId(where), UnitName(name)
        row = None
        if event.entry is not None:
            row = decode_assignment(*place, event.entry.value)
        old = self.rows.pop(place, None)
        if row is not None:
            self.rows[place] = row
        if old is None or row is None or _gist(old) != _gist(row):
            self.changed_s[place] = asyncio.get_running_loop().time()

    def _check_neighbours(self, machine: MachineId) -> None:
        there = {unit: self.asked[row.hash] for (m, unit), row in self.rows.items() if m == machine}
        for unit, asked in there.items():
            verdict = able_to_run(unit, asked.only_repelling(), Machine(id=machine), there)
            if not verdict.able:
                self._tell(f"{unit} has a row on {machine[0]}, and {verdict.reason}")

    def _called(self, box: Box, call: tuple[str, ...]) -> None:
        if call[0] in ("start", "stop", "restart") and not call[1].startswith("fleet-"):
            self._check_call(box, call[0], UnitName(call[1]))
        self.check_files(box)

    def _check_call(self, box: Box, action: str, unit: UnitName) -> None:
        now_s = asyncio.get_running_loop().time()
        gone_s = box.fleetd.main.gone_since_s
        if gone_s is not None and now_s > gone_s + GRACE_S:
            self._tell(f"{action} {unit} on {box.id[0]}, {now_s - gone_s:g} s without a store")
        row = self.rows.get((box.id, unit))
        settled_s = max(self.changed_s.get((box.id, unit), 0.0), box.trouble_s)
        if now_s < settled_s + LAG_S or box.id not in self.machines:
            return
        is_wanted = row is not None and row.target is TargetState.LAUNCHED
        if is_wanted is (action == "stop"):
            self._tell(f"{action} {unit} on {box.id[0]}, of which the row is {row}")

    def check_files(self, box: Box) -> None:
        for unit in box.live:
            if not box.has_file(unit):
                self._tell(f"{unit} is live on {box.id[0]} without its file")

    def _moved(self) -> None:
        homes: dict[UnitName, list[Box]] = {}
        for box in self.boxes if hasattr(self, "boxes") else []:
            for unit in box.live:
                if box.systemd.is_fenced(unit):
                    homes.setdefault(unit, []).append(box)
        for unit, there in homes.items():
            if len(there) > 1:
                self._tell(f"{unit} is fenced and live on {[box.id[0] for box in there]}")

    # Peace

    async def peace(self) -> None:
        """End all trouble, wait, and assert that everything is as it was asked for."""
        for box in self.boxes:
            box.thaw()
            if not box.is_on:
                box.power_on()
            elif box.fleetd in box.dead:
                box.restart_fleetd()
        for line in self.lines:
            line.fates.clear()
            line.be(Mood.WELL)
        await asyncio.sleep(REST_S)
        await self._check_quiet()
        await self._check_as_asked()

    async def _check_quiet(self) -> None:
        before = (await self.store.read()).revision
        calls = [list(box.systemd.calls) for box in self.boxes]
        await asyncio.sleep(WATCH_S)
        after = await self.store.read(KEYS.root)
        written = {e.key: e.value for e in after.entries.values() if e.modified > before}
        assert after.revision == before, f"something is still written: {written}"
        touched = [
            call
            for box, old in zip(self.boxes, calls, strict=True)
            for call in box.systemd.calls[len(old) :]
            if call[0] in ("start", "stop") and not call[1].startswith("fleet-fence")
        ]
        assert touched == [], "something is still done"

    async def _check_as_asked(self) -> None:
        cluster = await self.registry.cluster()
        assert cluster.problems == ()
        assert cluster.machines.keys() == {box.id for box in self.boxes}
        assert cluster.leader is not None
        check_settled(cluster)
        for unit, wanted in self.wanted.items():
            record = cluster.units.get(unit)
            found = record and Wanted(record.hash, record.target)
            assert found in wanted, f"{unit}: {found} was not asked for, but {wanted}"
            self.wanted[unit] = {found}
        assert cluster.units.keys() <= self.wanted.keys()
        assert not [row for row in cluster.schedule if row.leaving]
        self._check_places(cluster.schedule)
        told = {(s.machine, s.unit): (s.hash, s.current, s.is_up) for s in cluster.states}
        assert told == {
            (row.machine, row.unit): (row.hash, row.target, row.target is TargetState.LAUNCHED)
            for row in cluster.schedule
        }, "the states are not those of the rows"
        await self._check_claims()

    def _check_places(self, schedule: Iterable[Assignment]) -> None:
        for box in self.boxes:
            rows = {row.unit: row for row in schedule if row.machine == box.id}
            launched = {u for u, row in rows.items() if row.target is TargetState.LAUNCHED}
            assert box.live == launched, f"on {box.id[0]} {box.live} run, not {launched}"
            files = {each.name for each in (box.folder / "units").iterdir()}
            assert files == set(rows), f"on {box.id[0]} there are the files {files}"

    async def _check_claims(self) -> None:
        claimed = (await self.store.read(KEYS.claims)).entries
        fenced = {
            KEYS.claim(box.id, unit)
            for box in self.boxes
            for unit in box.live
            if box.systemd.is_fenced(unit)
        }
        assert claimed.keys() == fenced


def _gist(row: Assignment) -> tuple[str, TargetState, bool]:
    return row.hash, row.target, row.leaving
