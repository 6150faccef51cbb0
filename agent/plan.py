"""The plan for one machine: what has to be done to its systemd so that it matches the schedule.

Pure. A plan holds what may be done now; what has to wait for it (unlinking for the stop) is in the
plan made after that. So a plan that is interrupted after any step is simply made anew from what
is on disk and in systemd, and comes to the same end.

The rules that protect what runs:
- A row that is `leaving` stands for "hands off": no task touches the unit.
- A live unit's file is neither replaced nor removed: it is stopped first, seen not to be live, and
  then changed.
- What fleet launched once it does not launch again: a unit that ended, crashed or was stopped by
  hand stays as it is until what is asked of it changes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

from agent.local import LocalUnit, requirements_of
from agent.systemd import SystemdState
from fleet.cluster import Assignment
from fleet.constraints import able_to_run
from fleet.machine import Machine
from fleet.names import UnitName
from fleet.options import Requirements
from fleet.states import TargetState
from fleet.unit import UnitFile


class Kind(StrEnum):
    """What a task does. Tasks are carried out in the order in which the kinds stand here."""

    STOP = "stop"
    UNLOAD = "unload"
    WRITE = "write"
    LINK = "link"
    RELOAD = "reload"
    START = "start"


NOT_SCHEDULED = "it is no longer scheduled here"
FENCE_IS_DOWN = "it is fenced, and starts when this machine's fence is up"
FALLEN = "the fence had stopped it, and this machine's lease is good again"
ORDER: Mapping[Kind, int] = {kind: place for place, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to do, to one unit (to none for a reload), and the reason as a sentence."""

    kind: Kind
    unit: UnitName | None = None
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.unit}: {self.reason}" if self.unit else self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, in order; `held` says of units why nothing, or no start, is done to them."""

    tasks: tuple[Task, ...] = ()
    held: Mapping[UnitName, str] = field(default_factory=dict)
    refused: frozenset[UnitName] = frozenset()
    """Those of the held that can never come up as things are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What is on this machine: files and notes, systemd's states, and what is under way.

    `foreign` has the path of the file by which systemd knows a unit that is not fleet's.
    `starting` are units whose start job runs, `stopping` those whose stop job does; `resting` are
    units that failed to do something a moment ago. `unreadable` are those of whose row nothing can
    be read, which is no reason to touch them. `lease` is the generation of the machine's lease
    while its fence is up, and `fallen` are fenced units that the fence has stopped.
    """

    local: Mapping[UnitName, LocalUnit] = field(default_factory=dict)
    states: Mapping[UnitName, SystemdState] = field(default_factory=dict)
    foreign: Mapping[UnitName, str] = field(default_factory=dict)
    starting: frozenset[UnitName] = frozenset()
    stopping: frozenset[UnitName] = frozenset()
    resting: frozenset[UnitName] = frozenset()
    unreadable: frozenset[UnitName] = frozenset()
    lease: str = ""
    fallen: frozenset[UnitName] = frozenset()

    def is_live(self, unit: UnitName) -> bool:
        """Whether systemd runs, starts or stops anything of the unit."""
        state = self.states.get(unit)
        return unit in self.starting or unit in self.stopping or bool(state and state.is_live)


def missing_files(desired: Mapping[UnitName, Assignment], here: Here) -> frozenset[str]:
    """The digests of the files that have to be fetched before anything is planned."""
    return frozenset(
        row.file
        for unit, row in desired.items()
        if not row.leaving and _hash_of(here.local.get(unit)) != row.hash
    )


def plan(
    desired: Mapping[UnitName, Assignment],
    here: Here,
    *,
    files: Mapping[str, UnitFile],
    machine: Machine,
    unwanted: str = NOT_SCHEDULED,
) -> Plan:
    """What to do now so that the machine comes to match the rows of its schedule.

    `unwanted` is why units without a row have to go.
    """
    draft = _Draft(desired, here, files, machine, unwanted)
    for unit in sorted(desired.keys() | here.local.keys()):
        if unit in here.stopping or unit in here.resting or unit in here.unreadable:
            continue
        row = desired.get(unit)
        if row is None:
            draft.take_away(here.local[unit])
        elif not row.leaving:
            draft.bring(row)
    return draft.finish()


class _Draft:
    """A plan in the making; every method decides about one unit."""

    def __init__(
        self,
        desired: Mapping[UnitName, Assignment],
        here: Here,
        files: Mapping[str, UnitFile],
        machine: Machine,
        unwanted: str,
    ) -> None:
        self._unwanted = unwanted
        self._desired = desired
        self._here = here
        self._files = files
        self._machine = machine
        self._leftovers = _leftovers(desired, here)
        self._tasks: list[Task] = []
        self._held: dict[UnitName, str] = {}
        self._refused: set[UnitName] = set()

    def take_away(self, local: LocalUnit) -> None:
        unit = local.unit
        if unit in self._here.foreign:
            self._do(Kind.UNLOAD, unit, f"{self._unwanted}, and what runs is not fleet's")
        elif self._here.is_live(unit):
            self._do(Kind.STOP, unit, self._unwanted)
        else:
            self._do(Kind.UNLOAD, unit, f"{self._unwanted}, and it has stopped")

    def bring(self, row: Assignment) -> None:
        unit = row.unit
        local = self._here.local.get(unit, LocalUnit(unit=unit))
        if unit in self._here.foreign:
            self._refuse(unit, _foreign_reason(unit, self._here.foreign[unit]))
        elif local.hash == row.hash:
            self._settle(row, local)
        elif row.file not in self._files or self._files[row.file].hash != row.hash:
            self._refuse(unit, f"the store does not have its contents ({row.file})")
        elif _has_others(local, row) and self._here.is_live(unit):
            self._do(Kind.STOP, unit, "its contents changed, so what runs has to stop first")
        else:
            changed = _has_others(local, row)
            reason = "its contents changed" if changed else "it is scheduled here"
            self._do(Kind.WRITE, unit, reason)
            self._do(Kind.LINK, unit, reason)
            launched = not changed and local.is_launched
            self._aim(row, local if launched else LocalUnit(unit=unit))

    def _settle(self, row: Assignment, local: LocalUnit) -> None:
        """The file is right: see to what systemd knows and runs."""
        state = self._here.states.get(row.unit)
        if not local.is_loaded:
            self._do(Kind.LINK, row.unit, "its file is here, but systemd may not know it yet")
        elif state is not None and state.load == "not-found":
            self._do(Kind.LINK, row.unit, "its file is here, but systemd does not know it")
        self._aim(row, local)

    def _aim(self, row: Assignment, local: LocalUnit) -> None:
        fallen = row.unit in self._here.fallen
        launched = (local.is_launched and not fallen) or row.unit in self._here.starting
        if row.target is TargetState.LAUNCHED and not launched:
            asked = self._asked(row)
            why = self._repelled(row.unit, asked) or self._unfenced(asked)
            if why:
                self._held[row.unit] = why
            else:
                reason = FALLEN if fallen else row.reason
                self._do(Kind.START, row.unit, reason or "its target state is launched")
        elif row.target is not TargetState.LAUNCHED and (launched or local.is_launched):
            self._do(Kind.STOP, row.unit, f"its target state is {row.target}")

    def _repelled(self, unit: UnitName, asked: Requirements) -> str:
        """Why the unit has to wait for others to be gone from here, "" if it need not."""
        verdict = able_to_run(unit, asked.only_repelling(), self._machine, self._leftovers)
        if not verdict.able:
            return f"waiting until another unit is gone from here: {verdict.reason}"
        if verdict.displaces:
            return f"waiting until {', '.join(verdict.displaces)} is gone from here"
        return ""

    def _unfenced(self, asked: Requirements) -> str:
        """Why a fenced unit has to wait for the fence, "" if it need not."""
        return FENCE_IS_DOWN if asked.is_fenced and not self._here.lease else ""

    def _asked(self, row: Assignment) -> Requirements:
        file = self._file_of(row)
        return requirements_of(row.unit, file) if file is not None else Requirements()

    def _do(self, kind: Kind, unit: UnitName, reason: str) -> None:
        self._tasks.append(Task(kind=kind, unit=unit, reason=reason))

    def _refuse(self, unit: UnitName, reason: str) -> None:
        self._held[unit] = reason
        self._refused.add(unit)

    def finish(self) -> Plan:
        kinds = {task.kind for task in self._tasks}
        if kinds & {Kind.UNLOAD, Kind.WRITE, Kind.LINK}:
            reason = "unit files changed, so systemd reads them anew"
            self._tasks.append(Task(kind=Kind.RELOAD, reason=reason))
        starts = [t.unit for t in self._tasks if t.kind is Kind.START and t.unit is not None]
        place = {unit: number for number, unit in enumerate(self._by_dependency(starts))}

        def rank(task: Task) -> tuple[int, int]:
            return ORDER[task.kind], place.get(task.unit, 0) if task.unit else 0

        tasks = tuple(sorted(self._tasks, key=rank))
        return Plan(tasks=tasks, held=self._held, refused=frozenset(self._refused))

    def _by_dependency(self, units: list[UnitName]) -> tuple[UnitName, ...]:
        contents = {}
        for unit in units:
            file = self._file_of(self._desired[unit])
            contents[unit] = ordered_after(file) if file is not None else frozenset()
        return start_order(contents)

    def _file_of(self, row: Assignment) -> UnitFile | None:
        local = self._here.local.get(row.unit)
        if local is not None and local.hash == row.hash:
            return local.file
        return self._files.get(row.file)


def ordered_after(file: UnitFile) -> frozenset[str]:
    """The units whose start the file wants to be waited for."""
    return frozenset(word for line in file.values("Unit", "After") for word in line.split())


def start_order(after: Mapping[UnitName, Iterable[str]]) -> tuple[UnitName, ...]:
    """The units with those first that others come after; systemd orders only what is queued.

    Units that wait for each other in a circle are left in order of their names.
    """
    graph = {unit: sorted(after.keys() & set(after[unit])) for unit in sorted(after)}
    try:
        return tuple(TopologicalSorter(graph).static_order())
    except CycleError:
        return tuple(graph)


def _has_others(local: LocalUnit, row: Assignment) -> bool:
    """Whether other contents than the row's are here, or were when the file was last here."""
    return bool(local.hash) or (local.note is not None and local.note.hash != row.hash)


def _hash_of(local: LocalUnit | None) -> str:
    return local.hash if local is not None else ""


def _leftovers(desired: Mapping[UnitName, Assignment], here: Here) -> dict[UnitName, Requirements]:
    """Live units that are to go from here, with what they ask for."""
    return {
        unit: local.requirements.only_repelling()
        for unit, local in here.local.items()
        if here.is_live(unit) and (unit not in desired or desired[unit].leaving)
    }


def _foreign_reason(unit: UnitName, path: str) -> str:
    where = f" from {path}" if path else ""
    return f"this machine has a {unit} of its own{where}; give the unit another name"
