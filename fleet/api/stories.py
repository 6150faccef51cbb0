"""The units' stories: what one copy of the store after another says of each unit.

Pure. A story is told from the unit's own few entries and from what all stories speak of, so that
its price does not depend on the cluster's size. An entry is decoded when it is first told of, and
once: a newcomer who follows one unit does not have all others read.
"""

import operator
from collections.abc import Callable, Collection, Mapping, Sequence

from fleet.api.reports import ReportedAssignment, UnitReport
from fleet.cluster import Assignment, Cluster, Refusal, UnitRecord, home_of, state_at
from fleet.errors import MALFORMED
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.snapshot import decode_cluster, read_assignment, read_refusal, read_state, read_unit
from fleet.states import TargetState, UnitState
from fleet.store.port import Entry

_Part = UnitRecord | ReportedAssignment | UnitState | Refusal
_Reader = Callable[[str, Entry], _Part]
_machine = operator.attrgetter("machine")


class Stories:
    """The units' stories in one copy of the store after another."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._entries: dict[str, Entry] = {}
        # By key, each an entry until it is told of, and then what it says.
        self._of_unit: dict[UnitName, dict[str, Entry | _Part | None]] = {}
        self._shared = Cluster()
        self._shared_prefixes = (keys.machines, keys.engine)
        self._readers: tuple[tuple[str, _Reader], ...] = (
            (keys.states, read_state),
            (keys.schedule, _read_row),
            (keys.units, read_unit),
            (keys.refusals, read_refusal),
        )
        self.revision = -1

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What has to be copied; all of it lies under the root."""
        own = (prefix for prefix, _ in self._readers)
        changes = (self._keys.pending_change, self._keys.latest_change)
        return (*own, *self._shared_prefixes, *changes)

    @property
    def units(self) -> frozenset[UnitName]:
        """All units of which there is anything to tell."""
        return frozenset(self._of_unit)

    def take_in(
        self, entries: Mapping[str, Entry], revision: int, among: Collection[str] | None = None
    ) -> frozenset[UnitName]:
        """Look at a newer copy, and say whose story may have changed.

        What changed is looked for `among` these keys, as far as they are known, else among all.
        """
        searched = self._entries.keys() | entries.keys() if among is None else among
        changed = {key for key in searched if self._take(key, entries.get(key))}
        changed.discard(self._keys.latest_change)
        self.revision = revision
        shared = {key for key in changed if key.startswith(self._shared_prefixes)}
        touched: set[UnitName] = set()
        for key in changed - shared:
            unit = UnitName(key.rpartition("/")[2])
            touched.add(unit)
            self._index(unit, key)
        if shared:
            self._read_shared()
            touched |= self._of_unit.keys()
        return frozenset(touched)

    def _take(self, key: str, entry: Entry | None) -> bool:
        """Have this under the key; whether it is news."""
        old = self._entries.get(key)
        if old is entry or old == entry:  # mostly they are one and the same, seen at once
            return False
        if entry is None:
            del self._entries[key]
        else:
            self._entries[key] = entry
        return True

    def tell(self, unit: UnitName) -> UnitReport:
        """The unit's story, whether there is such a unit or not; what is malformed is left out."""
        record: UnitRecord | None = None
        refusal: Refusal | None = None
        rows: list[ReportedAssignment] = []
        states: list[UnitState] = []
        own = self._of_unit.get(unit, {})
        for key, part in own.items():
            if isinstance(part, Entry):
                own[key] = part = self._read(part)
            match part:
                case UnitState():
                    states.append(part)
                case ReportedAssignment():
                    rows.append(part)
                case UnitRecord():
                    record = part
                case Refusal():
                    refusal = part
        rows.sort(key=_machine)
        states.sort(key=_machine)
        return report(
            unit, record=record, refusal=refusal, rows=rows, states=states, around=self._shared
        )

    def _read(self, entry: Entry) -> _Part | None:
        """What the entry says, None if that cannot be read."""
        for prefix, read in self._readers:
            if entry.key.startswith(prefix):
                try:
                    return read(entry.key.removeprefix(prefix), entry)
                except MALFORMED:
                    return None
        return None

    def knows(self, change: int) -> bool:
        """Whether users' changes of units are taken in up to that revision."""
        latest = self._entries.get(self._keys.latest_change)
        return self.revision >= change or (latest is not None and latest.modified >= change)

    def _index(self, unit: UnitName, key: str) -> None:
        own = self._of_unit.setdefault(unit, {})
        if key in self._entries:
            own[key] = self._entries[key]
        else:
            own.pop(key, None)
        if not own:
            del self._of_unit[unit]

    def _read_shared(self) -> None:
        """Read what every unit's story speaks of: machines, the leader, a hold."""
        prefixes = self._shared_prefixes
        entries = [entry for key, entry in self._entries.items() if key.startswith(prefixes)]
        self._shared = decode_cluster(self._keys, entries, self.revision)


def _read_row(rest: str, entry: Entry) -> ReportedAssignment:
    return reported(read_assignment(rest, entry))


def reported(row: Assignment) -> ReportedAssignment:
    """What is told of a row of the schedule."""
    return ReportedAssignment(
        machine=row.machine, target=row.target, leaving=row.leaving, reason=row.reason
    )


def report(
    name: UnitName,
    *,
    record: UnitRecord | None,
    refusal: Refusal | None,
    rows: Sequence[ReportedAssignment],
    states: Sequence[UnitState],
    around: Cluster,
) -> UnitReport:
    """What there is to say of a unit, whether it is there or not.

    Its rows and states are by machine; of the cluster `around` it, only machines, leader and hold
    are looked at.
    """
    reasons = dict(sorted(refusal.reasons.items())) if refusal else {}
    staying = [row.machine for row in rows if not row.leaving]
    home = home_of(record, staying)
    state = state_at(home, states)
    machines, hold = around.machines, around.current_hold
    spoken_of = {row.machine for row in rows} | {state.machine for state in states}
    spoken_of.update(map(MachineId, reasons))
    return UnitReport(
        name=name,
        exists=record is not None,
        hash=record.hash if record else "",
        desired=record.target if record else None,
        current=state.current if state else TargetState.INACTIVE,
        machine=home,
        is_global=record.is_global if record else False,
        states=tuple(states),
        assignments=tuple(rows),
        refusals=reasons,
        addresses={one: machines[one].address for one in sorted(spoken_of) if one in machines},
        leaderless=around.leader is None,
        hold=hold.reason if hold and not hold.machines.isdisjoint(staying) else "",
        fence=reasons.get("", "") if refusal and refusal.is_fenced else "",
        fence_until_s=refusal.until_s if refusal else 0.0,
    )
