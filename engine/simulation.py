"""A cluster that is only imagined: where its units go, what deciding takes, what a loss does to it.

The scheduler is the leader's own, on facts that no store holds: a scenario in, a report out.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from engine.facts import Facts
from engine.losses import EngineMemory
from engine.plan import Plan, Planner, PlanSettings
from engine.reasons import summarise
from engine.tasks import Task, TaskKind
from fleet.cluster import UnitRecord
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.states import TargetState, UnitState

_ONE_MORE_TIMES = 5
# Longer than a lease, so that losses one after the other are no mass loss.
_BETWEEN_S = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Machines with nothing on them, units to be placed there, and how many machines then die.

    The first dies alone, the others all at once.
    """

    machines: tuple[Machine, ...]
    units: tuple[UnitRecord, ...]
    kill: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What machines that died at one moment had, and what became of that.

    `stranded` units fit nowhere else. `held` is the sentence of the brake on mass losses, if
    there are too many machines to believe it.
    """

    machines: int
    took_s: float
    moved: int
    stranded: int
    held: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How it went; times are in seconds of the clock that was given.

    `homes` are each unit's machines before any died, `refusals` the reasons of units that found
    none, with how many have that one. `load` is how many units the machines have: the least, the
    median, the most.
    """

    placed_s: float
    rows: int
    homes: Mapping[UnitName, tuple[MachineId, ...]]
    refusals: Mapping[str, int]
    load: tuple[int, float, int]
    one_more_s: float
    losses: tuple[Loss, ...] = field(default=())

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.placed_s if self.placed_s else 0.0


def simulate(scenario: Scenario, clock_s: Callable[[], float]) -> Report:
    """Place the scenario's units and let its machines die."""
    cluster = _Imagined(clock_s)
    for machine in scenario.machines:
        cluster.facts.set_machine(machine)
    for record in scenario.units:
        cluster.facts.set_unit(record)
    placed_s = cluster.plan_s()
    facts = cluster.facts
    homes = {record.name: tuple(sorted(facts.rows_of(record.name))) for record in scenario.units}
    refusals = Counter(summarise(refusal.reasons) for refusal in facts.refusals.values())
    load = [len(facts.units_on.get(machine, ())) for machine in facts.machines]
    return Report(
        placed_s=placed_s,
        rows=sum(map(len, homes.values())),
        homes=homes,
        refusals=refusals,
        load=(min(load), statistics.median(load), max(load)) if load else (0, 0.0, 0),
        one_more_s=statistics.median(map(cluster.one_more_s, range(_ONE_MORE_TIMES))),
        losses=tuple(cluster.lose(machines) for machines in _deaths(scenario)),
    )


def _deaths(scenario: Scenario) -> Iterable[list[MachineId]]:
    """The machines that die together, spread over all of them."""
    ids = sorted(machine.id for machine in scenario.machines)
    dying = [ids[number * len(ids) // scenario.kill] for number in range(scenario.kill)]
    return [group for group in (dying[:1], dying[1:]) if group]


class _Imagined:
    """The cluster, in which every plan is carried out at once and every unit comes up."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self.facts = Facts()
        self._clock_s = clock_s
        self._planner = Planner(self.facts, PlanSettings())
        self._memory = EngineMemory(is_new=False)
        self._now_s = 0.0

    def plan_s(self) -> float:
        """Plan, carry it out, and go on until nothing is left to do; how long the first plan took.

        What follows from the first is that units have come up where they were placed.
        """
        took_s, made = self._timed_plan()
        while made.tasks:
            self._carry_out(made.tasks)
            made = self._timed_plan()[1]
        return took_s

    def one_more_s(self, number: int) -> float:
        """How long it takes to place one unit more, which asks for nothing; then it goes again."""
        name = UnitName(f"one-more-{number}.service")
        youngest = max(self.facts.revisions.values(), default=0)
        record = _plain(name, revision=youngest + 1)
        self.facts.set_unit(record)
        took_s = self.plan_s()
        self.facts.drop_unit(name)
        self.plan_s()
        return took_s

    def lose(self, machines: list[MachineId]) -> Loss:
        """The machines die at one moment."""
        for machine in machines:
            self.facts.drop_machine(machine)
            for unit in self.facts.units_on.get(machine, ()):
                self.facts.drop_state(unit, machine)
        took_s, made = self._timed_plan()
        self._carry_out(made.tasks)
        kinds = Counter(task.kind for task in made.tasks)
        return Loss(
            machines=len(machines),
            took_s=took_s,
            moved=kinds[TaskKind.PLACE],
            stranded=kinds[TaskKind.REFUSE],
            held=next((task.reason for task in made.tasks if task.kind is TaskKind.HOLD), ""),
        )

    def _timed_plan(self) -> tuple[float, Plan]:
        self._now_s += _BETWEEN_S
        began_s = self._clock_s()
        made = self._planner.plan(self._memory, self._now_s)
        took_s = self._clock_s() - began_s
        self._memory = made.memory
        return took_s, made

    def _carry_out(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            if task.refusal is not None:
                self.facts.set_refusal(task.refusal)
            elif task.kind is TaskKind.CLEAR:
                self.facts.drop_refusal(UnitName(task.unit))
            elif task.row is not None and task.kind is TaskKind.REMOVE:
                self.facts.drop_row(task.row.unit, task.row.machine)
            elif task.row is not None:
                self.facts.set_row(replace(task.row, revision=task.row.revision + 1))
                if task.kind is TaskKind.PLACE:
                    self.facts.set_state(_up(task.row.unit, task.row.machine))


def _plain(name: UnitName, *, revision: int) -> UnitRecord:
    launched = TargetState.LAUNCHED
    return UnitRecord(name=name, hash="", file="", target=launched, revision=revision)


def _up(unit: UnitName, machine: MachineId) -> UnitState:
    return UnitState(
        unit=unit,
        machine=machine,
        hash="",
        current=TargetState.LAUNCHED,
        load="loaded",
        active="active",
        sub="running",
    )
