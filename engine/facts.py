"""What is known of the cluster, told bit by bit, and which of it changed since it was asked last.

Theory of operation. The leader keeps these facts from one plan to the next. Whatever reads the
store tells them what changed; they keep the indexes that a plan needs (a unit's rows, a machine's
units, who names a file) and note who is *stirred*: the units and machines about which something
has to be decided anew. Nothing is decided here. What does not bear on who runs where, such as the
state of a unit that is on one machine only, stirs nobody. In doubt, too many are stirred.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from engine.relations import Relations
from fleet.claims import Claim
from fleet.cluster import Assignment, Cluster, Refusal, UnitRecord
from fleet.machine import Machine, MachineId
from fleet.names import UnitName, split_name
from fleet.options import find_contradiction
from fleet.states import TargetState, UnitState

# systemd's words for a unit of which nothing runs.
_AT_REST = frozenset({"inactive", "failed"})
_NO_ROWS: Mapping[MachineId, Assignment] = {}


@dataclass(slots=True)
class Stirred:
    """Who is to be decided about, and of whom only has to be seen whether the store agrees."""

    units: set[UnitName] = field(default_factory=set)
    machines: set[MachineId] = field(default_factory=set)
    told: set[UnitName] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


class Facts:
    """The units, rows, machines, states and refusals there are now.

    `wanted` are the records of those units that are to run, with a problem where what they ask for
    contradicts itself. `held` are machines that are missing but not given up. `waits` are units
    left alone for a reason that will pass; rows of `withdrawn` ones count as gone already. What is
    on `drained` machines is to leave. `limited` units take new contents only so many at a time, and
    `instances` are those wanted of each template.
    """

    def __init__(self) -> None:
        self.units: dict[UnitName, UnitRecord] = {}
        self.wanted: dict[UnitName, UnitRecord] = {}
        self.revisions: dict[UnitName, int] = {}
        self.globals: set[UnitName] = set()
        self.fenced: set[UnitName] = set()
        self.limited: set[UnitName] = set()
        self.instances: dict[UnitName, set[UnitName]] = {}
        self.rows: dict[UnitName, dict[MachineId, Assignment]] = {}
        self.units_on: dict[MachineId, set[UnitName]] = {}
        self.machines: dict[MachineId, Machine] = {}
        self.drained: set[MachineId] = set()
        self.states: dict[UnitName, dict[MachineId, UnitState]] = {}
        self.claims: dict[tuple[UnitName, MachineId], Claim] = {}
        self.refusals: dict[UnitName, Refusal] = {}
        self.files: dict[str, int] = {}
        self.namings: dict[str, int] = {}
        self.kept_files: frozenset[str] = frozenset()
        self.held: frozenset[MachineId] = frozenset()
        self.waits: Mapping[UnitName, str] = {}
        self.withdrawn: Set[UnitName] = frozenset()
        self.relations = Relations()
        self.leaving_rows = 0
        self.stirred = Stirred()

    @classmethod
    def of(cls, cluster: Cluster) -> "Facts":
        """All the facts of a cluster, told at once."""
        facts = cls()
        for machine in cluster.machines.values():
            facts.set_machine(machine)
        for record in cluster.units.values():
            facts.set_unit(record)
        for row in cluster.schedule:
            facts.set_row(row)
        for state in cluster.states:
            facts.set_state(state)
        for refusal in cluster.refusals.values():
            facts.set_refusal(refusal)
        for digest, revision in cluster.files.items():
            facts.set_file(digest, revision)
        facts.keep_files(cluster.kept_files)
        for claim in cluster.claims:
            facts.set_claim(claim)
        return facts

    def take_stirred(self) -> Stirred:
        """Who was stirred since the last time."""
        taken, self.stirred = self.stirred, Stirred()
        return taken

    # Units

    def set_unit(self, record: UnitRecord) -> None:
        """The unit's record is this now."""
        unit = record.name
        old = self.units.get(unit)
        self.units[unit] = record
        self._name(record.file, 1)
        if old is not None:
            self._name(old.file, -1)
        self._want(unit, _checked(record) if _is_wanted(record) else None)

    def drop_unit(self, unit: UnitName) -> None:
        """The unit is destroyed."""
        old = self.units.pop(unit, None)
        if old is not None:
            self._name(old.file, -1)
            self._want(unit, None)

    def _want(self, unit: UnitName, record: UnitRecord | None) -> None:
        self._stir_swayed(unit)
        self.globals.discard(unit)
        self.fenced.discard(unit)
        self.limited.discard(unit)
        template = split_name(unit).template if "@" in unit else None
        if template is not None:
            self.instances.setdefault(template, set()).discard(unit)
        if record is None:
            self.wanted.pop(unit, None)
            self.revisions.pop(unit, None)
            self.relations.remove(unit)
        else:
            old = self.wanted.get(unit)
            self.wanted[unit] = record
            self.revisions[unit] = record.revision
            if record.is_global:
                self.globals.add(unit)
            if record.requirements.is_fenced:
                self.fenced.add(unit)
            if record.requirements.max_unavailable:
                self.limited.add(unit)
            if template is not None:
                self.instances[template].add(unit)
            if old is None or old.requirements != record.requirements:
                self.relations.add(unit, record.requirements)
        self._stir_swayed(unit)

    def _stir_swayed(self, unit: UnitName) -> None:
        swayed = self.relations.swayed_by(unit)
        self.stirred.units |= swayed

    def problem_of(self, unit: UnitName) -> str:
        """Why the unit is left alone where it is, or nothing."""
        return self.wanted[unit].problem or self.waits.get(unit, "")

    def withhold(self, waits: Mapping[UnitName, str], withdrawn: Set[UnitName]) -> None:
        """These units are left alone, and the rows of the withdrawn ones count as gone."""
        for unit in waits.keys() | self.waits.keys():
            if waits.get(unit) != self.waits.get(unit):
                self.stirred.units.add(unit)
        self.stirred.units |= withdrawn ^ self.withdrawn
        self.waits, self.withdrawn = waits, withdrawn

    # Rows

    def rows_of(self, unit: UnitName) -> Mapping[MachineId, Assignment]:
        """The unit's rows that count, by machine, in no order."""
        return _NO_ROWS if unit in self.withdrawn else self.rows.get(unit, _NO_ROWS)

    def stored_rows_of(self, unit: UnitName) -> Mapping[MachineId, Assignment]:
        """All rows of the unit, by machine, in no order."""
        return self.rows.get(unit, _NO_ROWS)

    def set_row(self, row: Assignment) -> None:
        """The row is this now."""
        rows = self.rows.setdefault(row.unit, {})
        old = rows.get(row.machine)
        rows[row.machine] = row
        self._name(row.file, 1)
        self.leaving_rows += row.leaving
        if old is None:
            self.units_on.setdefault(row.machine, set()).add(row.unit)
        else:
            self._name(old.file, -1)
            self.leaving_rows -= old.leaving
        if old is None or old.leaving != row.leaving:
            self._stir_place(row.unit, row.machine)
        self.stirred.told.add(row.unit)

    def drop_row(self, unit: UnitName, machine: MachineId) -> None:
        """The row is gone."""
        rows = self.rows.get(unit, {})
        old = rows.pop(machine, None)
        if old is None:
            return
        if not rows:
            del self.rows[unit]
        self._name(old.file, -1)
        self.leaving_rows -= old.leaving
        there = self.units_on[machine]
        there.discard(unit)
        if not there:
            del self.units_on[machine]
        self._stir_place(unit, machine)
        self.stirred.told.add(unit)

    def _stir_place(self, unit: UnitName, machine: MachineId) -> None:
        self.stirred.machines.add(machine)
        if unit not in self.globals:
            self.stirred.units.add(unit)

    # Machines

    def set_machine(self, machine: Machine) -> None:
        """The machine lives, and is as it is told of here."""
        old = self.machines.get(machine.id)
        self.machines[machine.id] = machine
        if old is None:
            self._stir_all_on(machine.id)
        if old is None or _judged(old) != _judged(machine):
            self.stirred.machines.add(machine.id)
        self.drained.discard(machine.id)
        if machine.cordon is not None and machine.cordon.drain:
            self.drained.add(machine.id)

    def drop_machine(self, machine: MachineId) -> None:
        """The machine is not there any more."""
        self.drained.discard(machine)
        if self.machines.pop(machine, None) is not None:
            self._stir_all_on(machine)
            self.stirred.machines.add(machine)

    def hold(self, machines: frozenset[MachineId]) -> None:
        """These machines are missing, and what is on them stays there."""
        for machine in self.held ^ machines:
            self._stir_all_on(machine)
        self.held = machines

    def _stir_all_on(self, machine: MachineId) -> None:
        self.stirred.units |= self.units_on.get(machine, set()) - self.globals

    # States

    def set_state(self, state: UnitState) -> None:
        """The machine says this of the unit now."""
        self.states.setdefault(state.unit, {})[state.machine] = state
        self._stir_mover(state.unit)

    def drop_state(self, unit: UnitName, machine: MachineId) -> None:
        """The machine says nothing of the unit any more."""
        states = self.states.get(unit, {})
        states.pop(machine, None)
        if not states:
            self.states.pop(unit, None)
        self._stir_mover(unit)

    def _stir_mover(self, unit: UnitName) -> None:
        rows = self.stored_rows_of(unit)
        if unit not in self.globals and (len(rows) > 1 or any(r.leaving for r in rows.values())):
            self.stirred.units.add(unit)

    def is_up(self, unit: UnitName, machine: MachineId) -> bool:
        """Whether the unit has come as far as it should on the machine."""
        state, record = self._state(unit, machine), self.wanted.get(unit)
        if state is None or record is None:
            return False
        if record.target is TargetState.LOADED:
            return state.current is not TargetState.INACTIVE
        return state.is_up

    def is_idle(self, unit: UnitName, machine: MachineId) -> bool:
        """Whether nothing of the unit runs on the machine, as that says."""
        state = self._state(unit, machine)
        return state is not None and state.active in _AT_REST

    def _state(self, unit: UnitName, machine: MachineId) -> UnitState | None:
        return self.states.get(unit, {}).get(machine)

    def staying(self, unit: UnitName) -> tuple[MachineId, ...]:
        """The machines that the unit has rows on and is not leaving; those where it is up first."""
        rows = self.rows_of(unit)
        if not rows:
            return ()
        machines = [row.machine for row in rows.values() if not row.leaving]
        if len(machines) < 2:
            return tuple(machines)
        return tuple(sorted(machines, key=lambda m: (not self.is_up(unit, m), m)))

    def is_held(self, unit: UnitName) -> bool:
        """Whether the unit, which is not global, stays on a machine that is held."""
        if not self.held or unit in self.globals:
            return False
        return not self.held.isdisjoint(self.staying(unit))

    def has_arrived(self, unit: UnitName, homes: Set[MachineId]) -> bool:
        """Whether the unit is up on one of these machines, or without any on one that it has."""
        return any(self.is_up(unit, machine) for machine in homes or self.staying(unit))

    # Claims

    def set_claim(self, claim: Claim) -> None:
        self.claims[claim.unit, claim.machine] = claim

    def drop_claim(self, unit: UnitName, machine: MachineId) -> None:
        self.claims.pop((unit, machine), None)

    # What the store holds of earlier plans

    def set_refusal(self, refusal: Refusal) -> None:
        self.refusals[refusal.unit] = refusal
        self.stirred.told.add(refusal.unit)

    def drop_refusal(self, unit: UnitName) -> None:
        self.refusals.pop(unit, None)
        self.stirred.told.add(unit)

    def set_file(self, digest: str, revision: int) -> None:
        self.files[digest] = revision
        self.stirred.files.add(digest)

    def drop_file(self, digest: str) -> None:
        self.files.pop(digest, None)

    def keep_files(self, digests: frozenset[str]) -> None:
        """These are named by the commit that is followed, and no others any more."""
        for digest in digests - self.kept_files:
            self._name(digest, 1)
        for digest in self.kept_files - digests:
            self._name(digest, -1)
        self.kept_files = digests

    def _name(self, digest: str, change: int) -> None:
        """One more, or one less, record, row or commit that names the file."""
        count = self.namings.get(digest, 0) + change
        if count:
            self.namings[digest] = count
        else:
            self.namings.pop(digest, None)
            self.stirred.files.add(digest)


def _judged(machine: Machine) -> tuple[object, ...]:
    """What of the machine any judgement may depend on."""
    return machine.metadata, machine.resources, machine.cordon


def _is_wanted(record: UnitRecord) -> bool:
    return record.target is not TargetState.INACTIVE and not is_template(record.name)


def is_template(unit: UnitName) -> bool:
    return "@" in unit and split_name(unit).is_template


def _checked(record: UnitRecord) -> UnitRecord:
    """The record, with a problem if what it asks for contradicts itself once it has a name."""
    problem = record.problem or find_contradiction(record.requirements)
    return record if not problem else replace(record, problem=problem)
