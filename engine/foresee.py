"""The plan as an answer: where units would run if their records were others."""

from collections.abc import Mapping
from dataclasses import replace

from engine.losses import EngineMemory, Hold
from engine.plan import PlanSettings, plan
from engine.tasks import Task, TaskKind
from fleet.cluster import Cluster, UnitRecord
from fleet.foresight import Foreseen, ForeseenUnit
from fleet.machine import MachineId
from fleet.names import UnitName

_COMES = frozenset({TaskKind.PLACE, TaskKind.UPDATE})
_GOES = frozenset({TaskKind.REMOVE, TaskKind.LEAVE})


def foresee(cluster: Cluster, changed: Mapping[UnitName, UnitRecord | None]) -> Foreseen:
    """Where the changed units would run, and what else would move on their account."""
    made = _tasks(cluster, changed)
    anyway = {str(task) for task in _tasks(cluster, {})}
    own = [task for task in made if task.unit in changed or str(task) not in anyway]
    names = sorted({*changed, *(UnitName(task.unit) for task in own if task.unit)})
    units = tuple(_foreseen(cluster, name, [t for t in own if t.unit == name]) for name in names)
    told = {machine for unit in units for machine in (*unit.was, *unit.machines, *unit.refusals)}
    known = sorted(told & cluster.machines.keys())
    return Foreseen(
        revision=cluster.latest_change,
        units=units,
        addresses={MachineId(m): cluster.machines[MachineId(m)].address for m in known},
    )


def _tasks(cluster: Cluster, changed: Mapping[UnitName, UnitRecord | None]) -> tuple[Task, ...]:
    units = {name: record for name, record in cluster.units.items() if name not in changed}
    units |= {name: record for name, record in changed.items() if record is not None}
    memory = EngineMemory()
    if cluster.current_hold is not None:
        memory = memory.with_hold(Hold(machines=cluster.current_hold.machines, until_s=1.0))
    seen = replace(cluster, units=dict(sorted(units.items())))
    return plan(seen, memory, 0.0, PlanSettings()).tasks


def _foreseen(cluster: Cluster, name: UnitName, tasks: list[Task]) -> ForeseenUnit:
    was = tuple(row.machine for row in cluster.assignments_of(name))
    comes = {MachineId(t.machine): t.reason for t in tasks if t.kind in _COMES}
    goes = {t.machine for t in tasks if t.kind in _GOES}
    refusal = next((t.refusal for t in tasks if t.refusal is not None), None)
    clears = any(t.kind is TaskKind.CLEAR for t in tasks)
    if refusal is None and not clears:
        refusal = cluster.refusals.get(name)
    machines = sorted({m for m in was if m not in goes} | comes.keys())
    return ForeseenUnit(
        name=name,
        was=was,
        machines=tuple(machines),
        reasons=comes,
        refusals=refusal.reasons if refusal else {},
    )
