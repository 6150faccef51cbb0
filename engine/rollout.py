"""How many units of one kind may take their new contents at a time.

Theory of operation. Instances of a template, or the rows of a global unit, whose new contents say
MaxUnavailable take them in batches: an update waits as long as so many of them are not up. One
with its new contents counts as up once it has been active, and healthy if it has a HealthCommand,
for ActiveFor. When one fails with them, the others keep what they have until the units are changed
again. Updates of what is not up anyway
never wait: they can only mend it. Everything is read from the rows and states there are, so it
goes on under another leader, who only counts ActiveFor from its own beginning.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from engine.reasons import short
from fleet.cluster import Assignment, UnitRecord
from fleet.machine import MachineId
from fleet.names import UnitName, split_name
from fleet.states import TargetState, UnitState

Place = tuple[UnitName, MachineId]
# A unit on a machine with the hash of its contents.
Version = tuple[UnitName, MachineId, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Which updates wait, and why those that failures keep waiting do.

    `up_at_s` is since when new contents are up, to remember; `wake_at_s` when more may go on.
    """

    waiting: frozenset[Place] = frozenset()
    refusals: Mapping[UnitName, str] = field(default_factory=dict)
    up_at_s: Mapping[Version, float] = field(default_factory=dict)
    wake_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """A row with its unit's record, and what its machine says of it."""

    row: Assignment
    record: UnitRecord
    state: UnitState | None

    @property
    def is_outdated(self) -> bool:
        return self.row.hash != self.record.hash

    @property
    def is_up(self) -> bool:
        return self.state is not None and self.state.hash == self.row.hash and self.state.is_up

    @property
    def has_failed(self) -> bool:
        state = self.state
        return state is not None and state.hash == self.row.hash and state.has_failed


_Kind = list[_Entry]


def roll_out(
    wanted: Mapping[UnitName, UnitRecord],
    schedule: Iterable[Assignment],
    states: Iterable[UnitState],
    up_at_s: Mapping[Version, float],
    now_s: float,
) -> Rollout:
    """What waits now; `schedule` are the rows of living machines.

    `up_at_s` is as the last plan left it; times are the leader's clock.
    """
    waiting: set[Place] = set()
    refusals: dict[UnitName, str] = {}
    seen: dict[Version, float] = {}
    wakings: list[float] = []
    for kind in _kinds(wanted, schedule, states):
        held = [(e.row.unit, e.row.machine) for e in kind if e.is_outdated and e.is_up]
        fails = _failure(kind)
        if fails is not None:
            refusals.update((unit, _why_not(fails)) for unit, _ in held)
            waiting.update(held)
            continue
        settling = _settling(kind, up_at_s, now_s)
        seen |= {version: since for version, (since, _) in settling.items()}
        not_yet = [ready for _, ready in settling.values() if now_s < ready]
        wakings += not_yet if held else []
        limit = min(e.record.requirements.max_unavailable for e in kind if e.is_outdated)
        budget = limit - len(not_yet) - sum(not e.is_up for e in kind)
        waiting.update(held[max(0, budget) :])
    return Rollout(
        waiting=frozenset(waiting),
        refusals=refusals,
        up_at_s=seen,
        wake_at_s=min(wakings, default=None),
    )


def _settling(
    kind: _Kind, up_at_s: Mapping[Version, float], now_s: float
) -> dict[Version, tuple[float, float]]:
    """Since when those with their new contents are up, and when they count as such."""
    found: dict[Version, tuple[float, float]] = {}
    for entry in kind:
        if entry.is_up and not entry.is_outdated:
            version = entry.row.unit, entry.row.machine, entry.row.hash
            since_s = up_at_s.get(version, now_s)
            found[version] = since_s, since_s + entry.record.requirements.active_for_s
    return found


def _failure(kind: _Kind) -> "_Entry | None":
    """One that fails with the contents that others are still to take."""
    coming = {entry.record.hash for entry in kind if entry.is_outdated}
    return next((e for e in kind if e.has_failed and e.row.hash in coming), None)


def _kinds(
    wanted: Mapping[UnitName, UnitRecord],
    schedule: Iterable[Assignment],
    states: Iterable[UnitState],
) -> list[_Kind]:
    """The kinds with a limit of which some are to take new contents."""
    limited = {kind_of(unit) for unit, r in wanted.items() if r.requirements.max_unavailable}
    if not limited:
        return []
    said = {(state.unit, state.machine): state for state in states}
    kinds: dict[UnitName, _Kind] = {}
    for row in schedule:
        record = wanted.get(row.unit)
        if record is None or record.problem or row.leaving or kind_of(row.unit) not in limited:
            continue
        if row.target is record.target is TargetState.LAUNCHED:
            entry = _Entry(row, record, said.get((row.unit, row.machine)))
            kinds.setdefault(kind_of(row.unit), []).append(entry)
    return [kind for kind in kinds.values() if _is_limited(kind)]


def _is_limited(kind: _Kind) -> bool:
    limits = [e.record.requirements.max_unavailable for e in kind if e.is_outdated]
    return bool(limits) and all(limits)


def kind_of(unit: UnitName) -> UnitName:
    """What the unit is one of: its template, or itself."""
    return split_name(unit).template or unit


def _why_not(failed: _Entry) -> str:
    health = failed.state.told_health if failed.state is not None else ""
    return (
        f"{failed.row.unit} fails with its new contents on machine {short(failed.row.machine)}"
        f"{f' ({health})' if health else ''}, and the others keep theirs"
    )
