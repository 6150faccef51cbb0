"""Fenced units in random worlds: machines cut, killed and late, stale leaders, half-written plans.

The machines are a model of `agent.fence` and `agent.fencing`, with the guards of a real store and a
clock of their own; the plans are the real ones. At every step a unit runs on one machine at most,
and when all is well again each runs.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from engine.losses import EngineMemory
from engine.plan import PlanSettings, plan
from engine.tasks import Task, TaskKind
from fleet.claims import Claim
from fleet.cluster import Assignment
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState, UnitState
from tests.unit.engine.worlds import carried_out, machine, unit, with_units, world

TTL_S, MARGIN_S, STOP_S = 6.0, 1.0, 5.0

SETTINGS = PlanSettings(machine_ttl_s=TTL_S, mass_loss_hold_s=20.0)
HOSTS = ("m1", "m2", "m3")
UNITS = tuple(UnitName(f"{letter}.service") for letter in "ab")
STEPS = 500
WORLDS_PER_TEST = 5


@dataclass
class Host:
    """One machine: its power, cable and lease, what it last read, and what runs."""

    name: MachineId
    is_on: bool = True
    is_cut: bool = False
    renewed_s: float = 0.0
    generation: int = 0
    is_fallen: bool = False
    seen: dict[UnitName, int] = field(default_factory=dict)
    pending: dict[UnitName, int] = field(default_factory=dict)
    running: set[UnitName] = field(default_factory=set)
    stopping: dict[UnitName, float] = field(default_factory=dict)

    def has(self, name: UnitName) -> bool:
        return name in self.running or name in self.stopping


class Model:
    """A store, its leader and its machines."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_s = 100.0
        self.revision = 10
        self.memory = EngineMemory()
        self.hosts = [Host(MachineId(name), renewed_s=self.now_s) for name in HOSTS]
        units = [unit(name, "Fenced=true", revision=n) for n, name in enumerate(UNITS, 1)]
        self.cluster = world([machine(name) for name in HOSTS], units)
        self.stale: tuple[Task, ...] = ()

    # The store

    def _row(self, name: UnitName, where: MachineId) -> int:
        rows = {(row.unit, row.machine): row.revision for row in self.cluster.schedule}
        return rows.get((name, where), 0)

    def _claim(self, name: UnitName, where: MachineId) -> int:
        found = {(c.unit, c.machine): c.revision for c in self.cluster.claims}
        return found.get((name, where), 0)

    def _set_claim(self, name: UnitName, where: MachineId, *, held: bool) -> None:
        self.revision += 1
        others = [c for c in self.cluster.claims if (c.unit, c.machine) != (name, where)]
        own = Claim(unit=name, machine=where, stop_s=STOP_S + 1, revision=self.revision)
        self.cluster = replace(self.cluster, claims=(*others, *([own] if held else [])))

    def write(self, task: Task) -> bool:
        """Carry the task out if its guards hold."""
        name, where = UnitName(task.unit), MachineId(task.machine)
        record = self.cluster.units.get(name)
        if task.claim_revision is not None and task.claim_revision != self._claim(name, where):
            return False
        if task.kind is TaskKind.FREE:
            if where in self.cluster.machines:
                return False
            self._set_claim(name, where, held=False)
            return True
        if task.unit_revision and (record is None or record.revision != task.unit_revision):
            return False
        if task.row is not None and task.row.revision != self._row(name, where):
            return False
        self.revision += 1
        if task.row is not None and task.kind is not TaskKind.REMOVE:
            task = task._replace(row=replace(task.row, revision=self.revision))
        self.cluster = carried_out(self.cluster, [task])
        return True

    # The machines

    def beat(self, host: Host) -> None:
        """Renew or lose the lease; the fence comes down by the machine's own clock."""
        if host.is_on and not host.is_cut:
            host.renewed_s = self.now_s
            self.cluster = replace(
                self.cluster, machines={**self.cluster.machines, host.name: machine(host.name)}
            )
        elif self.now_s >= host.renewed_s + TTL_S:
            left = {k: v for k, v in self.cluster.machines.items() if k != host.name}
            self.cluster = replace(self.cluster, machines=left)
        if self.now_s >= host.renewed_s + TTL_S - MARGIN_S and not host.is_fallen:
            host.is_fallen = True
            for name in sorted(host.running):
                self.stop(host, name)
        for name, end_s in list(host.stopping.items()):
            if self.now_s >= end_s:
                del host.stopping[name]

    def stop(self, host: Host, name: UnitName) -> None:
        host.running.discard(name)
        host.stopping[name] = self.now_s + self.chance.uniform(0, STOP_S)

    def act(self, host: Host) -> None:
        """What an agent does, perhaps by what it read a while ago."""
        if not host.is_on or host.is_cut:
            return
        if self.chance.random() < 0.7:
            host.seen = {row.unit: row.revision for row in self._rows_of(host)}
        if host.is_fallen and not host.pending:
            host.is_fallen, host.generation = False, host.generation + 1
        for name in UNITS:
            wanted = name in host.seen
            if host.has(name) or name in host.pending:
                if not wanted and name in host.running:
                    self.stop(host, name)
            elif wanted and not host.is_fallen:
                if host.seen[name] == self._row(name, host.name):
                    self._set_claim(name, host.name, held=True)
                    host.pending[name] = host.generation
            elif self._claim(name, host.name):
                self._set_claim(name, host.name, held=False)
        self._report(host)

    def start(self, host: Host) -> None:
        """Starts that were admitted reach systemd, however late."""
        for name, generation in list(host.pending.items()):
            del host.pending[name]
            if host.is_on and not host.is_fallen and generation == host.generation:
                host.running.add(name)

    def _rows_of(self, host: Host) -> list[Assignment]:
        return [row for row in self.cluster.schedule if row.machine == host.name]

    def _report(self, host: Host) -> None:
        states = [state for state in self.cluster.states if state.machine != host.name]
        for name in UNITS:
            if host.has(name):
                states.append(
                    UnitState(
                        unit=name,
                        machine=host.name,
                        hash="",
                        current=TargetState.LAUNCHED,
                        load="loaded",
                        active="active" if name in host.running else "deactivating",
                        sub="",
                    )
                )
        self.cluster = replace(self.cluster, states=tuple(states))

    # The leader

    def lead(self) -> None:
        """Make a plan and write some of it now; the rest comes late, if at all."""
        seen = replace(
            self.cluster,
            states=tuple(s for s in self.cluster.states if s.machine in self.cluster.machines),
        )
        made = plan(seen, self.memory, self.now_s, SETTINGS)
        whole = self.chance.random() < 0.5
        count = len(made.tasks) if whole else self.chance.randint(0, len(made.tasks))
        if all(self.write(task) for task in made.tasks[:count]) and whole:
            self.memory = made.memory
        self.stale = made.tasks[count:]

    def late(self) -> None:
        """What is left of an earlier plan arrives, until a guard fails."""
        for task in self.stale:
            if not self.write(task):
                break
        self.stale = ()

    # Fate

    def step(self) -> None:
        self.now_s += self.chance.choice([0.05, 0.3, 1.0])
        for host in self.hosts:
            self.beat(host)
        deeds = [deed for host in self.hosts for deed in self._deeds_of(host)]
        deeds += [self.lead, self.lead, self.late]
        for deed in self.chance.sample(deeds, self.chance.randint(1, len(deeds))):
            deed()
            self.check()
        if self.chance.random() < 0.1:
            fates = [self.cut, self.mend, self.mend, self.power, self.new_leader, *[self.move] * 6]
            self.chance.choice(fates)()

    def _deeds_of(self, host: Host) -> list[Callable[[], None]]:
        return [lambda: self.act(host), lambda: self.start(host)]

    def cut(self) -> None:
        self.chance.choice(self.hosts).is_cut = True

    def mend(self) -> None:
        host = self.chance.choice(self.hosts)
        host.is_cut, host.is_on = False, True

    def heal(self) -> None:
        for host in self.hosts:
            host.is_cut, host.is_on = False, True

    def power(self) -> None:
        host = self.chance.choice(self.hosts)
        host.is_on = False
        for kept in (host.running, host.stopping, host.pending):
            kept.clear()

    def new_leader(self) -> None:
        self.memory, self.stale = EngineMemory(), ()

    def move(self) -> None:
        self.revision += 1
        where = self.chance.choice(["MachineID=m1", "MachineID=m2", "MachineID=m3"])
        options = ["Fenced=true", *self.chance.choice([[], [where]])]
        name = self.chance.choice(UNITS)
        self.cluster = with_units(self.cluster, unit(name, *options, revision=self.revision))

    def settle(self) -> None:
        """Everything is well again, for long enough."""
        self.heal()
        for number in range(600):
            self.now_s += 0.1
            for host in self.hosts:
                self.beat(host)
            self.lead()
            host = self.hosts[number % len(self.hosts)]
            self.act(host)
            self.start(host)
            self.check()

    def check(self) -> None:
        for name in UNITS:
            where = [host.name for host in self.hosts if host.has(name)]
            assert len(where) <= 1, (self.now_s, name, where)

    def homes(self) -> dict[UnitName, list[MachineId]]:
        return {name: [host.name for host in self.hosts if name in host.running] for name in UNITS}


@pytest.mark.parametrize("start", range(0, 5 * WORLDS_PER_TEST, WORLDS_PER_TEST))
def test_fenced_unit_never_runs_twice_and_runs_in_the_end(start: int) -> None:
    for seed in range(start, start + WORLDS_PER_TEST):
        model = Model(seed)
        for _ in range(STEPS):
            model.step()
        model.settle()
        assert all(len(where) == 1 for where in model.homes().values()), (seed, model.homes())
