"""The plan for the cluster: what the leader has to write, from what the store holds.

It compares the rows and refusals there are with those that `settle` finds, and is empty once they
agree: planning on the result of a plan yields nothing. What a plan says about a machine it reads
from `losses`. Reasons are sentences that the log, the events and `fleetctl` show as they are.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace

from engine.fencing import Fences
from engine.losses import EngineMemory, Losses, LossRules, weigh_losses
from engine.reasons import short, summarise
from engine.settle import Settlement, Situation
from engine.tasks import Task, TaskKind
from fleet.cluster import Assignment, Cluster, Refusal, UnitRecord
from fleet.machine import MachineId
from fleet.names import UnitName, split_name
from fleet.options import find_contradiction
from fleet.states import TargetState, UnitState

TEMPLATE = "it is a template: start an instance of it"
# systemd's words for a unit of which nothing runs.
_AT_REST = frozenset({"inactive", "failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """How long a machine's lease is, and how long a mass loss is not believed."""

    machine_ttl_s: float = 6.0
    mass_loss_hold_s: float = 120.0

    @property
    def loss_rules(self) -> LossRules:
        return LossRules(machine_ttl_s=self.machine_ttl_s, hold_s=self.mass_loss_hold_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The tasks in order, what to remember for the next plan, and when to make it at the latest."""

    tasks: tuple[Task, ...]
    memory: EngineMemory
    wake_at_s: float | None = None


def plan(
    cluster: Cluster,
    memory: EngineMemory,
    now_s: float,
    settings: PlanSettings,
    *,
    unreadable_machines: Set[MachineId] = frozenset(),
    fading: Set[MachineId] = frozenset(),
) -> Plan:
    """What to do about the cluster; `now_s` is the leader's monotonic clock.

    `unreadable_machines` have a key with a malformed value: they live, nothing is known of them,
    and what is on them stays. `fading` ones do not renew their leases (`engine.losses`).
    """
    rows = _by_unit(cluster.schedule)
    live = cluster.machines.keys() | unreadable_machines
    losses = weigh_losses(
        memory,
        live=live,
        with_rows={row.machine for row in cluster.schedule},
        at_stake=_at_stake(cluster, rows),
        now_s=now_s,
        rules=settings.loss_rules,
        fading=fading,
        departed=cluster.departures,
    )
    held = losses.held | unreadable_machines
    if not cluster.machines:
        held |= {row.machine for row in cluster.schedule}
    wanted = {u: _checked(record) for u, record in cluster.units.items() if _is_wanted(record)}
    situation = Situation(
        wanted=wanted,
        rows=rows,
        machines=cluster.machines,
        held=frozenset(held),
        up=_arrived(cluster.states, wanted),
        idle=frozenset((s.unit, s.machine) for s in cluster.states if s.active in _AT_REST),
    )
    fences = Fences(cluster, live=live, missing_since_s=memory.missing_since_s, now_s=now_s)
    settlement = fences.settle(situation)
    row_tasks = tuple(_row_tasks(situation, settlement, cluster.units, fences))
    tasks = [
        *_hold_tasks(losses, now_s),
        *fences.tasks(),
        *row_tasks,
        *_refusal_tasks(cluster, settlement, fences),
        *_file_tasks(cluster, row_tasks),
    ]
    moments = [at_s for at_s in (losses.wake_at_s, fences.wake_at_s) if at_s is not None]
    return Plan(
        tasks=tuple(sorted(tasks, key=lambda task: task.sort_key)),
        memory=replace(losses.memory, missing_since_s=fences.missing_since_s),
        wake_at_s=min(moments, default=None),
    )


def _is_wanted(record: UnitRecord) -> bool:
    return record.target is not TargetState.INACTIVE and not split_name(record.name).is_template


def _checked(record: UnitRecord) -> UnitRecord:
    """The record, with a problem if what it asks for contradicts itself once it has a name."""
    problem = record.problem or find_contradiction(record.requirements)
    return record if not problem else replace(record, problem=problem)


def _by_unit(schedule: Iterable[Assignment]) -> dict[UnitName, tuple[Assignment, ...]]:
    rows: dict[UnitName, list[Assignment]] = {}
    for row in schedule:
        rows.setdefault(row.unit, []).append(row)
    return {unit: tuple(sorted(found, key=lambda row: row.machine)) for unit, found in rows.items()}


def _at_stake(
    cluster: Cluster, rows: Mapping[UnitName, tuple[Assignment, ...]]
) -> frozenset[MachineId]:
    """The machines with units whose loss, if they are lost, nobody has dealt with."""
    at_stake: set[MachineId] = set()
    for unit, record in cluster.units.items():
        if record.is_global or unit in cluster.refusals:
            continue  # a refusal says that the loss has been seen and dealt with already
        at_stake.update(row.machine for row in rows.get(unit, ()) if not row.leaving)
    return frozenset(at_stake)


def _arrived(
    states: Iterable[UnitState], wanted: Mapping[UnitName, UnitRecord]
) -> frozenset[tuple[UnitName, MachineId]]:
    """Where units are as far as they should be."""
    return frozenset(
        (state.unit, state.machine)
        for state in states
        if state.unit in wanted and _is_there(state, wanted[state.unit])
    )


def _is_there(state: UnitState, record: UnitRecord) -> bool:
    if record.target is TargetState.LOADED:
        return state.current is not TargetState.INACTIVE
    return state.is_up


def _hold_tasks(losses: Losses, now_s: float) -> Iterator[Task]:
    if losses.ended:
        yield Task(kind=TaskKind.RELEASE, reason=losses.ended)
    if losses.begun:
        until_s = losses.wake_at_s or now_s
        yield Task(kind=TaskKind.HOLD, reason=losses.begun, machines=losses.held, until_s=until_s)


def _row_tasks(
    situation: Situation,
    settlement: Settlement,
    records: Mapping[UnitName, UnitRecord],
    fences: Fences,
) -> Iterator[Task]:
    for unit, record in situation.wanted.items():
        homes = settlement.homes[unit]
        rows = {row.machine: row for row in situation.rows.get(unit, ())}
        for machine in homes:
            task = _home_task(record, machine, rows.get(machine), settlement)
            if task is not None:
                yield task
        for machine, row in rows.items():
            if machine in homes:
                continue
            if (unit, machine) not in settlement.lingering:
                yield _removal(row, record, _why_removed(row, settlement, fences), fences)
            elif not row.leaving and not record.problem:
                reason = _why_leaving(row, settlement)
                leaving = replace(row, leaving=True, reason=reason)
                yield _row_task(TaskKind.LEAVE, record, leaving, row.revision, reason)
    for unit, found in situation.rows.items():
        if unit not in situation.wanted:
            why = _why_unwanted(records.get(unit))
            for row in found:
                yield _removal(row, records.get(unit), why, fences)


def _home_task(
    record: UnitRecord, machine: MachineId, row: Assignment | None, settlement: Settlement
) -> Task | None:
    """What brings the row in line with the record: nothing if it is."""
    reason = settlement.arrivals.get((record.name, machine), "it stays there after all")
    if row is None or row.leaving:
        wanted = Assignment(
            unit=record.name,
            machine=machine,
            hash=record.hash,
            file=record.file,
            target=record.target,
            reason=reason,
        )
        return _row_task(TaskKind.PLACE, record, wanted, row.revision if row else 0, reason)
    if record.problem:
        return None
    renewed = (row.hash, row.file) != (record.hash, record.file)
    if not renewed and row.target is record.target:
        return None
    wanted = replace(row, hash=record.hash, file=record.file, target=record.target)
    changes = []
    if renewed:
        changes.append(
            "its contents are new" if row.hash != record.hash else "only its comments are new"
        )
    if row.target is not record.target:
        changes.append(f"its target state is now {record.target}")
    return _row_task(TaskKind.UPDATE, record, wanted, row.revision, " and ".join(changes))


def _row_task(
    kind: TaskKind, record: UnitRecord, row: Assignment, revision: int, reason: str
) -> Task:
    return Task(
        kind=kind,
        unit=row.unit,
        machine=row.machine,
        reason=reason,
        row=replace(row, revision=revision),
        unit_revision=record.revision,
    )


def _removal(row: Assignment, record: UnitRecord | None, reason: str, fences: Fences) -> Task:
    return Task(
        kind=TaskKind.REMOVE,
        unit=row.unit,
        machine=row.machine,
        reason=reason,
        row=row,
        unit_revision=record.revision if record else 0,
        claim_revision=fences.claim_revision(row, record),
    )


def _why_unwanted(record: UnitRecord | None) -> str:
    if record is None:
        return "the unit was destroyed"
    if record.target is TargetState.INACTIVE:
        return "its target state is inactive"
    return TEMPLATE


def _why_leaving(row: Assignment, settlement: Settlement) -> str:
    why = settlement.departures.get((row.unit, row.machine), "it runs on one machine only")
    homes = ", ".join(short(machine) for machine in sorted(settlement.homes[row.unit]))
    return f"{why}; it stays until it is up on machine {homes}"


def _why_removed(row: Assignment, settlement: Settlement, fences: Fences) -> str:
    why = settlement.departures.get((row.unit, row.machine))
    if row.unit in fences.waits:
        return f"{why or 'it has to leave'}; it is fenced, so it stops before it starts elsewhere"
    if row.unit in settlement.refusals:
        return f"{why or 'it was leaving'}, and no other machine suits it"
    if why is not None and not row.leaving:
        return why
    homes = ", ".join(short(machine) for machine in sorted(settlement.homes[row.unit]))
    return f"it has moved to machine {homes}"


def _refusal_tasks(cluster: Cluster, settlement: Settlement, fences: Fences) -> Iterator[Task]:
    wanted = dict(settlement.refusals)
    for unit, record in cluster.units.items():
        if record.target is not TargetState.INACTIVE and split_name(unit).is_template:
            wanted[unit] = {"": TEMPLATE}
    for unit, reasons in wanted.items():
        old = cluster.refusals.get(unit)
        if old is None or dict(old.reasons) != dict(reasons):
            yield Task(
                kind=TaskKind.REFUSE,
                unit=unit,
                reason=summarise(reasons),
                refusal=Refusal(unit=unit, reasons=reasons, is_fenced=unit in fences.waits),
                until_s=fences.waits[unit].until_s if unit in fences.waits else 0.0,
                unit_revision=cluster.units[unit].revision,
            )
    for unit in cluster.refusals:
        if unit not in wanted:
            reason = "nothing keeps it from running" if unit in settlement.homes else "not wanted"
            yield Task(kind=TaskKind.CLEAR, unit=unit, reason=reason)


def _file_tasks(cluster: Cluster, row_tasks: Iterable[Task]) -> Iterator[Task]:
    """Files that nothing will name go; while anything is unreadable it may name them all.

    Those that somebody writes just now, ahead of the units that will name them, stay.
    """
    if cluster.problems or cluster.uploading:
        return
    rows = {(row.unit, row.machine): row for row in cluster.schedule}
    for task in row_tasks:
        if task.row is not None:
            rows[task.row.unit, task.row.machine] = task.row
            if task.kind is TaskKind.REMOVE:
                del rows[task.row.unit, task.row.machine]
    named = {record.file for record in cluster.units.values()}
    named.update(row.file for row in rows.values())
    for digest, revision in cluster.files.items():
        if digest not in named:
            yield Task(
                kind=TaskKind.DROP_FILE,
                digest=digest,
                reason="no unit has these contents any more",
                unit_revision=revision,
            )
