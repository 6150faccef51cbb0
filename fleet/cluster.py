"""The cluster as the store holds it, decoded into plain values.

Everything that plans or reports reads a `Cluster`: it is one revision of the store, so its parts
agree with each other.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fleet.claims import Claim
from fleet.errors import InvalidUnit
from fleet.hold import Hold
from fleet.machine import (
    Cordon,
    Machine,
    MachineId,
)
from fleet.names import UnitName, parse_name
from fleet.options import NOTHING_ASKED, SECTION, Requirements, read_requirements
from fleet.states import TargetState, UnitState
from fleet.store.port import Entry
from fleet.unit import UnitOption


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecord:
    """A unit as its users want it.

    `hash` names the canonical text, `file` the author's own text in the store. `options` is its
    `[X-Fleet]` section. `source` names the folder it was applied from, "" for none. `revision` is
    that of the last change, 0 before it is stored. `max_unavailable` is what whoever brought the
    contents said, 0 for nothing; it counts in `requirements`, where the smaller of both stands.
    """

    name: UnitName
    hash: str
    file: str
    target: TargetState
    options: tuple[tuple[str, str], ...] = ()
    by: str = ""
    at_s: float = 0.0
    source: str = ""
    revision: int = 0
    created: int = 0
    requirements: Requirements = field(default_factory=Requirements)
    problem: str = ""
    max_unavailable: int = 0

    @property
    def is_global(self) -> bool:
        return self.requirements.is_global

    @property
    def own_options(self) -> tuple[UnitOption, ...]:
        """The `[X-Fleet]` section as options of the unit file."""
        return tuple(UnitOption(SECTION, *pair) for pair in self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One row of the schedule: this machine has this unit, up to `target`, for this reason.

    `leaving` means that the unit moves elsewhere: the machine leaves it just as it is until the
    row goes, which is when the unit is up in its new place.
    """

    unit: UnitName
    machine: MachineId
    hash: str
    file: str
    target: TargetState
    reason: str = ""
    leaving: bool = False
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a unit runs nowhere: a reason per machine, or under "" one that holds for all.

    `is_fenced` says that it only waits, and `until_s` for how long (seconds since the epoch, 0 if
    nobody can tell).
    """

    unit: UnitName
    reasons: Mapping[str, str]
    is_fenced: bool = False
    until_s: float = 0.0
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """The machine whose engine decides; `created` is the fence of all its writes."""

    machine: MachineId
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One revision of the cluster.

    `departures` are machines that left on purpose a short while ago, or are about to. Only the
    leader reads `claims`.
    `pending_change` is the revision of a change of units that is made but not completed, 0 without
    one; then units are not yet what they should be. While somebody is `uploading`, files that no
    unit names will be named; `kept_files` are those that a commit which is followed names.
    `latest_change` is the revision of the last change of any unit,
    `latest_rows` that of the last write of the engine's: a row, a refusal, a hold.
    `cordons` are those of all machines, here or not; a machine that is here has its own.
    `registrations` are the revisions at which the machines that are here have said what they are.
    """

    revision: int = 0
    units: Mapping[UnitName, UnitRecord] = field(default_factory=dict)
    machines: Mapping[MachineId, Machine] = field(default_factory=dict)
    schedule: tuple[Assignment, ...] = ()
    states: tuple[UnitState, ...] = ()
    refusals: Mapping[UnitName, Refusal] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    leader: Leader | None = None
    hold: Hold | None = None
    departures: frozenset[MachineId] = frozenset()
    claims: tuple[Claim, ...] = ()
    pending_change: int = 0
    latest_change: int = 0
    latest_rows: int = 0
    uploading: bool = False
    kept_files: frozenset[str] = frozenset()
    cordons: Mapping[MachineId, Cordon] = field(default_factory=dict)
    registrations: Mapping[MachineId, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    _rows: Mapping[UnitName, tuple[Assignment, ...]] = field(init=False, repr=False, compare=False)
    _states: Mapping[UnitName, tuple[UnitState, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        staying = (row for row in self.schedule if not row.leaving)
        object.__setattr__(self, "_rows", _by_unit(staying))
        object.__setattr__(self, "_states", _by_unit(self.states))

    @property
    def current_hold(self) -> Hold | None:
        """The hold on those of its machines that are still gone; None if all are back."""
        if self.hold is None:
            return None
        gone = self.hold.machines - self.machines.keys()
        return replace(self.hold, machines=gone) if gone else None

    def assignments_of(self, unit: UnitName) -> tuple[Assignment, ...]:
        """The unit's rows that are to stay, by machine."""
        return self._rows.get(unit, ())

    def states_of(self, unit: UnitName) -> tuple[UnitState, ...]:
        """What every machine that has the unit says of it, by machine."""
        return self._states.get(unit, ())

    def machine_of(self, unit: UnitName) -> MachineId | None:
        """The machine a unit is scheduled on; None for a global unit and an unscheduled one."""
        staying = (row.machine for row in self.assignments_of(unit))
        return home_of(self.units.get(unit), staying)

    def home_state(self, unit: UnitName) -> UnitState | None:
        """What the machine it is scheduled on says of a unit; None for a global one."""
        return state_at(self.machine_of(unit), self.states_of(unit))

    def current_state(self, unit: UnitName) -> TargetState:
        """How far a unit has come on the machine it is scheduled on."""
        state = self.home_state(unit)
        return state.current if state else TargetState.INACTIVE


def home_of(record: UnitRecord | None, staying: Iterable[MachineId]) -> MachineId | None:
    """The machine a unit is scheduled on, given those that it has rows on which are to stay."""
    if record is None or record.is_global:
        return None
    return next(iter(staying), None)


def state_at(machine: MachineId | None, states: Iterable[UnitState]) -> UnitState | None:
    """What that machine says of a unit, among what all of them say."""
    for state in states:
        if state.machine == machine:
            return state
    return None


_Row = TypeVar("_Row", Assignment, UnitState)


def _by_unit(rows: Iterable[_Row]) -> dict[UnitName, tuple[_Row, ...]]:
    grouped: dict[UnitName, list[_Row]] = {}
    for row in rows:
        grouped.setdefault(row.unit, []).append(row)
    return {unit: tuple(rows) for unit, rows in grouped.items()}


def encode_unit(record: UnitRecord) -> bytes:
    return _encode(
        hash=record.hash,
        file=record.file,
        target=record.target.value,
        options=[list(pair) for pair in record.options],
        by=record.by,
        at=record.at_s,
        **({"source": record.source} if record.source else {}),
        **({"max_unavailable": record.max_unavailable} if record.max_unavailable else {}),
    )


@functools.lru_cache(maxsize=16384)
def decode_unit(name: UnitName, value: bytes) -> UnitRecord:
    """The unit that was stored; raises MALFORMED (fleet/errors.py) if it cannot be read.

    Options that are malformed make a record with a `problem` and no requirements.
    """
    document = json.loads(value)
    options = tuple((str(key), str(text)) for key, text in document.get("options", ()))
    limit = int(document.get("max_unavailable", 0))
    asked, problem = NOTHING_ASKED, ""
    unit = parse_name(name)
    try:
        read = read_requirements((UnitOption(SECTION, *pair) for pair in options), unit)
        asked = at_most_unavailable(read, limit)
    except InvalidUnit as error:
        problem = str(error)
    return UnitRecord(
        name=unit,
        hash=str(document["hash"]),
        file=str(document["file"]),
        target=TargetState(document["target"]),
        options=options,
        by=str(document.get("by", "")),
        at_s=float(document.get("at", 0.0)),
        source=str(document.get("source", "")),
        requirements=asked,
        problem=problem,
        max_unavailable=limit,
    )


def at_most_unavailable(asked: Requirements, limit: int) -> Requirements:
    """What is asked for, with so many unavailable at a time at most; 0 is no limit."""
    limits = [each for each in (asked.max_unavailable, limit) if each]
    return replace(asked, max_unavailable=min(limits)) if limit else asked


def encode_assignment(row: Assignment) -> bytes:
    return _encode(
        hash=row.hash,
        file=row.file,
        target=row.target.value,
        reason=row.reason,
        leaving=row.leaving,
    )


@functools.lru_cache(maxsize=16384)
def decode_assignment(
    machine: MachineId, unit: UnitName, value: bytes, revision: int = 0
) -> Assignment:
    """The row that was stored; raises MALFORMED (fleet/errors.py) if it cannot be read."""
    document = json.loads(value)
    return Assignment(
        unit=parse_name(unit),
        machine=machine,
        hash=str(document["hash"]),
        file=str(document["file"]),
        target=TargetState(document["target"]),
        reason=str(document.get("reason", "")),
        leaving=bool(document.get("leaving", False)),
        revision=revision,
    )


def encode_refusal(refusal: Refusal) -> bytes:
    waits = {"fenced": True, "until": refusal.until_s} if refusal.is_fenced else {}
    return _encode(reasons=dict(sorted(refusal.reasons.items())), **waits)


def decode_refusal(unit: UnitName, entry: Entry) -> Refusal:
    """The refusal of an entry; raises MALFORMED (fleet/errors.py) if it cannot be read."""
    document = json.loads(entry.value)
    return Refusal(
        unit=unit,
        reasons={str(k): str(v) for k, v in document["reasons"].items()},
        is_fenced=bool(document.get("fenced", False)),
        until_s=float(document.get("until", 0.0)),
        revision=entry.modified,
    )


def encode_leader(machine: MachineId) -> bytes:
    return _encode(machine=machine)


def _encode(**document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
