"""The plan for the cluster: what the leader has to write, from what the store holds.

It compares the rows and refusals there are with those that `settle` finds, and is empty once they
agree: planning on the result of a plan yields nothing. What a plan says about a machine it reads
from `losses`. Reasons are sentences that the log, the events and `fleetctl` show as they are.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from operator import attrgetter

from engine.facts import Facts, is_template
from engine.fencing import Fences
from engine.losses import BRAKE_PART, EngineMemory, Losses, LossRules, weigh_losses
from engine.nameless import file_tasks, find_nameless, when_to_drop
from engine.outcomes import Outcome
from engine.reasons import short, summarise
from engine.rollout import Rollout, kind_of, roll_out
from engine.settle import Settler
from engine.tasks import Task, TaskKind
from fleet.cluster import Assignment, Cluster, Refusal, UnitRecord
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState

TEMPLATE = "it is a template: start an instance of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """How long a machine's lease is, and how long a mass loss, of how many, is not believed.

    Contents that no unit names stay for `file_stay_s`, see `engine.nameless`.
    """

    machine_ttl_s: float = 6.0
    mass_loss_hold_s: float = 120.0
    mass_loss_part: Fraction = BRAKE_PART
    file_stay_s: float = 5.0

    @property
    def loss_rules(self) -> LossRules:
        return LossRules(
            machine_ttl_s=self.machine_ttl_s,
            hold_s=self.mass_loss_hold_s,
            part=self.mass_loss_part,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The tasks in order, what to remember for the next plan, and when to make it at the latest.

    While it `is_waiting`, every news of a unit's state can change the next one.
    """

    tasks: tuple[Task, ...]
    memory: EngineMemory
    wake_at_s: float | None = None
    is_waiting: bool = False


def plan(
    cluster: Cluster,
    memory: EngineMemory,
    now_s: float,
    settings: PlanSettings,
    *,
    unreadable_machines: Set[MachineId] = frozenset(),
    fading: Set[MachineId] = frozenset(),
) -> Plan:
    """What to do about the cluster, from nothing; `now_s` is the leader's monotonic clock.

    A `Planner` that was told of the same cluster bit by bit makes the same plan.
    """
    return Planner(Facts.of(cluster), settings).plan(
        memory,
        now_s,
        departures=cluster.departures,
        unreadable_machines=unreadable_machines,
        fading=fading,
        knows_all_files=not (cluster.problems or cluster.uploading),
    )


class Planner:
    """Plans for the cluster that the facts tell of, over and over; each plan costs what changed."""

    def __init__(self, facts: Facts, settings: PlanSettings) -> None:
        self._facts = facts
        self._settings = settings
        self._settler = Settler(facts)
        self._unwritten: set[UnitName] = set()
        self._rolled: Set[UnitName] = frozenset()
        self._nameless: set[str] = set()

    def plan(
        self,
        memory: EngineMemory,
        now_s: float,
        *,
        departures: Set[MachineId] = frozenset(),
        unreadable_machines: Set[MachineId] = frozenset(),
        fading: Set[MachineId] = frozenset(),
        knows_all_files: bool = True,
    ) -> Plan:
        """What to do about the cluster as it is now.

        `unreadable_machines` have a key with a malformed value: they live, nothing is known of
        them, and what is on them stays. `fading` ones do not renew their leases (`engine.losses`),
        `departures` left on purpose. No file is dropped unless all who may name it are known.
        """
        facts = self._facts
        live: Set[MachineId] = facts.machines.keys()
        if unreadable_machines:
            live = live | unreadable_machines
        losses = weigh_losses(
            memory,
            live=live,
            with_rows=facts.units_on.keys(),
            at_stake=_at_stake(facts) if memory.is_new else frozenset(),
            now_s=now_s,
            rules=self._settings.loss_rules,
            fading=fading,
            departed=departures,
        )
        held = losses.held | unreadable_machines
        facts.hold(frozenset(held if facts.machines else held | facts.units_on.keys()))
        fences = Fences(facts, live=live, missing_since_s=memory.missing_since_s, now_s=now_s)
        files = facts.stirred.files | self._nameless
        told = fences.settle(self._settler)
        rollout = self._roll_out(memory, now_s)
        row_tasks, refusal_tasks = self._unit_tasks(told, fences, rollout)
        self._nameless = find_nameless(facts, files, row_tasks)
        stay_s = self._settings.file_stay_s
        drop_at_s = when_to_drop(self._nameless, memory.drop_files_at_s, now_s, stay_s)
        is_time = drop_at_s is not None and now_s >= drop_at_s
        tasks = [
            *_hold_tasks(losses, now_s),
            *fences.tasks(),
            *row_tasks,
            *refusal_tasks,
            *(file_tasks(facts, self._nameless) if is_time and knows_all_files else ()),
        ]
        drop_wake_at_s = None if is_time else drop_at_s
        moments = (losses.wake_at_s, fences.wake_at_s, rollout.wake_at_s, drop_wake_at_s)
        return Plan(
            tasks=tuple(sorted(tasks, key=attrgetter("sort_key"))),
            memory=replace(
                losses.memory,
                missing_since_s=fences.missing_since_s,
                up_at_s=rollout.up_at_s,
                drop_files_at_s=drop_at_s,
            ),
            wake_at_s=min((at_s for at_s in moments if at_s is not None), default=None),
            is_waiting=bool(rollout.waiting) or fences.is_waiting,
        )

    def _roll_out(self, memory: EngineMemory, now_s: float) -> Rollout:
        """Which updates wait, of the units that take new contents only so many at a time."""
        facts = self._facts
        units: set[UnitName] = set()
        for kind in {kind_of(unit) for unit in facts.limited}:
            units |= facts.instances.get(kind, {kind})
        rows = [
            row
            for unit in sorted(units)
            for machine, row in sorted(facts.stored_rows_of(unit).items())
            if machine in facts.machines
        ]
        states = [state for unit in units for state in facts.states.get(unit, {}).values()]
        wanted = {unit: facts.wanted[unit] for unit in units}
        return roll_out(wanted, rows, states, memory.up_at_s, now_s)

    def _unit_tasks(
        self, told: Set[UnitName], fences: Fences, rollout: Rollout
    ) -> tuple[list[Task], list[Task]]:
        """The tasks of those units about which the store may not agree with the settlement."""
        row_tasks: list[Task] = []
        refusal_tasks: list[Task] = []
        settler, held = self._settler, self._facts.held
        rolling = rollout.refusals.keys() | {unit for unit, _ in rollout.waiting}
        for unit in sorted(settler.affected | told | self._unwritten | rolling | self._rolled):
            record, rows = self._facts.wanted.get(unit), self._facts.stored_rows_of(unit)
            if record is None:
                row_tasks += _clearance(rows.values(), self._facts.units.get(unit), fences)
                outcome = None
            else:
                outcome = _with_failure(settler.outcome(unit), rollout.refusals.get(unit))
                row_tasks += _row_tasks(record, rows, outcome, settler, fences, held)
            refusal_task = self._refusal_task(unit, outcome, fences)
            if refusal_task is not None:
                refusal_tasks.append(refusal_task)
        if rollout.waiting:
            row_tasks = [task for task in row_tasks if not _has_to_wait(task, rollout)]
        settler.note_unfinished(
            (task.row.unit, task.row.machine)
            for task in row_tasks
            if task.row is not None and task.kind is not TaskKind.UPDATE
        )
        self._rolled = rolling
        self._unwritten = {UnitName(task.unit) for task in (*row_tasks, *refusal_tasks)}
        return row_tasks, refusal_tasks

    def _refusal_task(self, unit: UnitName, outcome: Outcome | None, fences: Fences) -> Task | None:
        old = self._facts.refusals.get(unit)
        record = self._facts.units.get(unit)
        reasons = outcome.refusal if outcome else None
        if record and record.target is not TargetState.INACTIVE and is_template(unit):
            reasons = {"": TEMPLATE}
        if reasons is None:
            reason = "nothing keeps it from running" if outcome else "not wanted"
            return Task(kind=TaskKind.CLEAR, unit=unit, reason=reason) if old else None
        if record is None or (old is not None and dict(old.reasons) == dict(reasons)):
            return None
        return Task(
            kind=TaskKind.REFUSE,
            unit=unit,
            reason=summarise(reasons),
            refusal=Refusal(unit=unit, reasons=reasons, is_fenced=unit in fences.waits),
            until_s=fences.waits[unit].until_s if unit in fences.waits else 0.0,
            unit_revision=record.revision,
        )


def _has_to_wait(task: Task, rollout: Rollout) -> bool:
    return task.kind is TaskKind.UPDATE and (task.unit, task.machine) in rollout.waiting


def _with_failure(outcome: Outcome, reason: str | None) -> Outcome:
    """The outcome, with why the unit keeps its old contents if it does and runs."""
    if reason is None or outcome.refusal is not None:
        return outcome
    return outcome._replace(refusal={"": reason})


def _at_stake(facts: Facts) -> frozenset[MachineId]:
    """The machines with units whose loss, if they are lost, nobody has dealt with."""
    at_stake: set[MachineId] = set()
    for unit, record in facts.units.items():
        if record.is_global or unit in facts.refusals:
            continue  # a refusal says that the loss has been seen and dealt with already
        at_stake.update(row.machine for row in facts.rows_of(unit).values() if not row.leaving)
    return frozenset(at_stake)


def _hold_tasks(losses: Losses, now_s: float) -> Iterator[Task]:
    if losses.ended:
        yield Task(kind=TaskKind.RELEASE, reason=losses.ended)
    if losses.begun:
        until_s = losses.wake_at_s or now_s
        yield Task(kind=TaskKind.HOLD, reason=losses.begun, machines=losses.held, until_s=until_s)


def _row_tasks(
    record: UnitRecord,
    rows: Mapping[MachineId, Assignment],
    outcome: Outcome,
    settler: Settler,
    fences: Fences,
    held: Set[MachineId],
) -> Iterator[Task]:
    for machine in outcome.homes:
        row = rows.get(machine)
        if row is not None and row.hash != record.hash and machine in held:
            continue  # nobody judges there whom the new contents would bear: it waits until then
        task = _home_task(record, machine, row, settler)
        if task is not None:
            yield task
    for machine, row in rows.items():
        if machine in outcome.homes:
            continue
        why = settler.departures.get((record.name, machine))
        if machine not in outcome.lingering:
            yield _removal(row, record, _why_removed(row, outcome, why, fences), fences)
        elif not row.leaving and not record.problem:
            reason = _why_leaving(outcome, why)
            leaving = replace(row, leaving=True, reason=reason)
            yield _row_task(TaskKind.LEAVE, record, leaving, row.revision, reason)


def _clearance(
    rows: Iterable[Assignment], record: UnitRecord | None, fences: Fences
) -> Iterator[Task]:
    """What takes a unit that is not wanted away everywhere."""
    for row in rows:
        yield _removal(row, record, _why_unwanted(record), fences)


def _home_task(
    record: UnitRecord, machine: MachineId, row: Assignment | None, settler: Settler
) -> Task | None:
    """What brings the row in line with the record: nothing if it is."""
    if row is None or row.leaving:
        reason = settler.arrivals.get((record.name, machine), "it stays there after all")
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
        row=row if row.revision == revision else replace(row, revision=revision),
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


def _why_leaving(outcome: Outcome, why: str | None) -> str:
    return f"{why or 'it runs on one machine only'}; it stays until it is up on {_homes(outcome)}"


def _why_removed(row: Assignment, outcome: Outcome, why: str | None, fences: Fences) -> str:
    if row.unit in fences.waits:
        return f"{why or 'it has to leave'}; it is fenced, so it stops before it starts elsewhere"
    if outcome.refusal is not None:
        return f"{why or 'it was leaving'}, and no other machine suits it"
    if why is not None and not row.leaving:
        return why
    return f"it has moved to {_homes(outcome)}"


def _homes(outcome: Outcome) -> str:
    return f"machine {', '.join(short(machine) for machine in sorted(outcome.homes))}"
