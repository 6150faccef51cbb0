"""Tasks as writes: for each its guards, its operations, and what the history says of it."""

from collections.abc import Sequence
from dataclasses import replace

from engine.tasks import Task, TaskKind
from fleet.batch import Decision, Operation
from fleet.cluster import Leader
from fleet.hold import Hold, encode_hold
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.store.port import MAX_TXN_OPS, Delete, Guard, Put

# Most tasks are one guard and one write. Beside them a transaction has the fence and the mark to
# guard, and to write the mark and, in two parts, what is told of it.
TASKS_PER_COMMIT = MAX_TXN_OPS - 3

# What happens to a unit on a machine; the rest follows from it or is for the engine alone.
_EVENTFUL = frozenset(
    {
        TaskKind.HOLD,
        TaskKind.RELEASE,
        TaskKind.FREE,
        TaskKind.REMOVE,
        TaskKind.LEAVE,
        TaskKind.PLACE,
    }
)


def decide(task: Task, registry: Registry, leader: Leader, *, until_at_s: float = 0.0) -> Decision:
    """The task as it is written; `until_at_s` is the end of a hold by the wall clock.

    The guards compare the unit's record with what the plan saw, so that a decision about a unit
    that has changed meanwhile is not written. Of rows that is seen to by the mark that all who
    write them share (fleet/leadership.py).
    """
    guards, operations = _writes(task, registry, until_at_s)
    if task.kind not in _EVENTFUL:
        return Decision(operations, guards)
    where = f" on {task.machine}" if task.machine else ""
    what = f"{task.kind}{where}: {task.reason}"
    event = registry.event_now(by=f"engine on {leader.machine}", unit=task.unit, what=what)
    return Decision(operations, guards, (event,))


def _writes(
    task: Task, registry: Registry, until_at_s: float
) -> tuple[Sequence[Guard], Sequence[Operation]]:
    keys = registry.keys
    unit = UnitName(task.unit)
    if task.kind is TaskKind.HOLD:
        hold = Hold(machines=task.machines, until_s=until_at_s, reason=task.reason)
        return [], [Put(keys.hold, encode_hold(hold))]
    if task.kind is TaskKind.RELEASE:
        return [], [Delete(keys.hold)]
    machine = MachineId(task.machine)
    claim = Guard(keys.claim(machine, unit), modified=task.claim_revision or 0)
    if task.kind is TaskKind.FREE:
        return [claim, Guard(keys.machine(machine), modified=0)], [Delete(claim.key)]
    if task.kind is TaskKind.CLEAR:
        return [], [Delete(keys.refusal(unit))]
    if task.kind is TaskKind.DROP_FILE:
        file = keys.file(task.digest)
        return [Guard(file, modified=task.unit_revision)], [Delete(file)]
    record = Guard(keys.unit(unit), modified=task.unit_revision)
    if task.refusal is not None:
        until_s = until_at_s if task.until_s else 0.0
        return [record], [registry.refusal_put(replace(task.refusal, until_s=until_s))]
    if task.row is None:
        raise ValueError(f"a task that is about no row: {task}")
    if task.kind is TaskKind.REMOVE:
        claims = [claim] if task.claim_revision is not None else []
        return [record, *claims], [Delete(keys.assignment(machine, unit))]
    return [record], [registry.assignment_put(task.row)]
