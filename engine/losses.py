"""Which missing machines are given up, and when so many vanish that none is.

Theory of operation. A machine is missing when its key is gone, which is when its lease ended. One
that goes missing is given up at once and its units are placed elsewhere. But when more than one,
and more than a certain part of all machines known, went missing within one machine lease, it is
likelier that the network or the store failed than the machines: then the missing ones are *held*,
and their units stay theirs, until enough are back, the hold time has passed, or an operator ends
it.

Machines that vanish at one instant are missed one after another, since each renewed its lease at
another moment. So when one goes missing the leases of the others are looked at: one that is not
half full any more is *fading*, since it is renewed when a third is gone. Only if the fading would
make too many is the missing one held, until they have renewed or are missing too, half a lease at
most. Waiting that long at every loss, as others do, would cost a lone machine's units seconds.

A machine that is shut down, or told to leave, says so before its key goes. It is given up at once
and counts for nothing here: many that leave on purpose are no mass loss.

After an outage of the store nobody could renew, so for one machine lease no machine is given up.

A new leader knows nothing of the past. Machines with units that nobody has dealt with yet count
as lost just now; apart from that a change of leader delays nothing.

The brake is that of Kubernetes' node controller, with fleet's numbers:
https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from fractions import Fraction

from engine.reasons import short
from fleet.machine import MachineId
from fleet.names import UnitName

# How soon to look at the leases of fading machines again.
FADING_S = 0.25
# How many leases are looked at when a machine is missed: of more machines some stand for all.
MOST_ASKED = 128
# Of the machines known, the part that may vanish together before nothing is believed any more.
BRAKE_PART = Fraction(1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The brake, on: these machines are missing and not given up before `until_s`."""

    machines: frozenset[MachineId]
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """What the leader remembers between plans; times are its monotonic clock's.

    `known` are the machines that count, `lost_at_s` when those of them that are missing were
    first missed, `missing_since_s` the same of machines with claims (`engine.fencing`). `up_at_s`
    is for `engine.rollout`, `drop_files_at_s` for `engine.nameless`. A new leader begins with an
    empty memory, but for a hold that it finds.
    """

    is_new: bool = True
    known: frozenset[MachineId] = frozenset()
    lost_at_s: Mapping[MachineId, float] = field(default_factory=dict)
    hold: Hold | None = None
    amnesty_until_s: float = 0.0
    missing_since_s: Mapping[MachineId, float] = field(default_factory=dict)
    up_at_s: Mapping[tuple[UnitName, MachineId, str], float] = field(default_factory=dict)
    drop_files_at_s: float | None = None

    def after_outage(self, amnesty_until_s: float) -> "EngineMemory":
        """The memory after the store was away: what was missed before and not held is given up."""
        held = self.hold.machines if self.hold else frozenset()
        given_up = self.lost_at_s.keys() - held
        return replace(
            self,
            known=self.known - given_up,
            lost_at_s={m: at_s for m, at_s in self.lost_at_s.items() if m in held},
            amnesty_until_s=amnesty_until_s,
            missing_since_s={},
        )

    def with_hold(self, hold: Hold) -> "EngineMemory":
        """The memory of a new leader that finds a hold in the store."""
        return replace(self, hold=hold)

    def released(self, now_s: float) -> "EngineMemory":
        """The memory after an operator ended the hold."""
        return replace(self, hold=self.hold and replace(self.hold, until_s=now_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRules:
    """How long a machine's lease is, and how long a mass loss, of how many, is not believed."""

    machine_ttl_s: float
    hold_s: float
    part: Fraction = BRAKE_PART

    def is_mass(self, lost: Set[MachineId], known: Set[MachineId]) -> bool:
        """Whether so many are lost at once that it is likelier that something else is wrong."""
        return len(lost) > 1 and len(lost) > self.part * len(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """The verdict: the machines held, the memory of it, when to look again, what to tell.

    `begun` and `ended` are sentences, empty unless a hold begins, grows or ends now.
    """

    held: frozenset[MachineId]
    memory: EngineMemory
    wake_at_s: float | None = None
    begun: str = ""
    ended: str = ""


def weigh_losses(
    memory: EngineMemory,
    *,
    live: Set[MachineId],
    with_rows: Set[MachineId],
    at_stake: Set[MachineId],
    now_s: float,
    rules: LossRules,
    fading: Set[MachineId] = frozenset(),
    departed: Set[MachineId] = frozenset(),
) -> Losses:
    """Which machines that have rows are missing and yet not given up.

    `at_stake` are those with units that nobody has dealt with; they count for a new leader.
    `fading` are living ones that do not renew, looked up if `has_fresh_loss` says so.
    `departed` ones left on purpose.
    """
    if _is_calm(memory, live, now_s) and departed <= live:
        return Losses(held=frozenset(), memory=memory)
    left = departed - live
    hold = memory.hold and replace(memory.hold, machines=memory.hold.machines - left)
    known = memory.known | live | (hold.machines if hold else frozenset())
    if memory.is_new:
        known |= at_stake
    memory = replace(memory, is_new=False, known=frozenset(known - left), hold=hold)
    if now_s < memory.amnesty_until_s:
        held = (memory.known | with_rows) - live - left
        return Losses(held=frozenset(held), memory=memory, wake_at_s=memory.amnesty_until_s)
    missing = sorted(memory.known - live)
    lost_at_s = {machine: memory.lost_at_s.get(machine, now_s) for machine in missing}
    memory = replace(memory, lost_at_s=lost_at_s)
    if memory.hold is None:
        return _consider_hold(memory, live=live, now_s=now_s, rules=rules, fading=fading - departed)
    return _continue_hold(memory, memory.hold, live=live, now_s=now_s, rules=rules)


def _is_calm(memory: EngineMemory, live: Set[MachineId], now_s: float) -> bool:
    """Whether all is as it was and nobody is missed: then nothing has to be weighed."""
    if memory.is_new or memory.hold is not None or memory.lost_at_s:
        return False
    return now_s >= memory.amnesty_until_s and memory.known == live


def has_fresh_loss(
    memory: EngineMemory,
    *,
    live: Set[MachineId],
    with_rows: Set[MachineId],
    now_s: float,
    rules: LossRules,
    departed: Set[MachineId] = frozenset(),
) -> bool:
    """Whether a machine vanished so lately that others may be about to be missed as well."""
    if memory.hold is not None or now_s < memory.amnesty_until_s:
        return False
    missing = (memory.known | (with_rows if memory.is_new else frozenset())) - live - departed
    return any(_is_fresh(memory.lost_at_s.get(machine, now_s), now_s, rules) for machine in missing)


def asked_of(machines: Set[MachineId]) -> tuple[MachineId, ...]:
    """The machines whose leases are to be looked at: all, or of many a part spread over them."""
    ordered = sorted(machines)
    count = min(len(ordered), MOST_ASKED)
    return tuple(ordered[number * len(ordered) // count] for number in range(count))


def fading_of(
    machines: Set[MachineId], asked: Sequence[MachineId], fading: Set[MachineId]
) -> frozenset[MachineId]:
    """The fading machines, if of those asked these are: as large a part of the others fades too.

    Which of the others is not known, nor does it matter: the brake counts them.
    """
    others = sorted(machines - set(asked))
    count = round(len(others) * len(fading) / len(asked)) if asked else 0
    return frozenset({*fading, *others[:count]})


def _is_fresh(lost_at_s: float, now_s: float, rules: LossRules) -> bool:
    return now_s - lost_at_s < rules.machine_ttl_s / 2


def _consider_hold(
    memory: EngineMemory,
    *,
    live: Set[MachineId],
    now_s: float,
    rules: LossRules,
    fading: Set[MachineId] = frozenset(),
    over: Set[MachineId] = frozenset(),
    ended: str = "",
) -> Losses:
    """Begin a hold if too much was lost of late, apart from the hold that is `over`."""
    recent = _recent(memory, now_s, rules) - over
    known = live | recent
    if not rules.is_mass(recent, known):
        kept = {machine: memory.lost_at_s[machine] for machine in sorted(recent)}
        memory = replace(memory, known=frozenset(known), lost_at_s=kept, hold=None)
        fresh = any(_is_fresh(at_s, now_s, rules) for at_s in kept.values())
        if fresh and rules.is_mass(recent | (fading & live), known):
            return Losses(held=recent, memory=memory, wake_at_s=now_s + FADING_S, ended=ended)
        return Losses(held=frozenset(), memory=memory, ended=ended)
    hold = Hold(machines=frozenset(recent), until_s=now_s + rules.hold_s)
    begun = (
        f"{len(recent)} of {len(known)} machines vanished within {rules.machine_ttl_s:g} s: their "
        f"units stay theirs until they are back, or for {rules.hold_s:g} s: {_names(recent)}"
    )
    return _holding(memory, hold, known, begun=begun, ended=ended)


def _continue_hold(
    memory: EngineMemory, hold: Hold, *, live: Set[MachineId], now_s: float, rules: LossRules
) -> Losses:
    recent = _recent(memory, now_s, rules)
    waiting = frozenset((hold.machines | recent) - live)
    if not waiting:
        return _consider_hold(
            memory, live=live, now_s=now_s, rules=rules, ended="all machines that vanished are back"
        )
    if now_s >= hold.until_s:
        gone = hold.machines - live
        ended = f"{len(gone)} machines are still missing and given up: {_names(gone)}"
        return _consider_hold(memory, live=live, now_s=now_s, rules=rules, over=gone, ended=ended)
    known = live | waiting
    if not rules.is_mass(waiting, known):
        until_s = min(hold.until_s, now_s + rules.machine_ttl_s)
        return _holding(memory, Hold(machines=waiting, until_s=until_s), known)
    newcomers = waiting - hold.machines
    if not newcomers:
        return _holding(memory, Hold(machines=waiting, until_s=hold.until_s), known)
    grown = Hold(machines=waiting, until_s=now_s + rules.hold_s)
    begun = (
        f"{len(newcomers)} more machines vanished, {len(waiting)} of {len(known)} in all: their "
        f"units stay theirs until they are back, or for {rules.hold_s:g} s: {_names(waiting)}"
    )
    return _holding(memory, grown, known, begun=begun)


def _holding(
    memory: EngineMemory, hold: Hold, known: Set[MachineId], *, begun: str = "", ended: str = ""
) -> Losses:
    return Losses(
        held=hold.machines,
        memory=replace(memory, hold=hold, known=frozenset(known)),
        wake_at_s=hold.until_s,
        begun=begun,
        ended=ended,
    )


def _recent(memory: EngineMemory, now_s: float, rules: LossRules) -> frozenset[MachineId]:
    """The machines that went missing within the last machine lease."""
    return frozenset(
        machine for machine, at_s in memory.lost_at_s.items() if now_s - at_s < rules.machine_ttl_s
    )


def _names(machines: Set[MachineId]) -> str:
    return ", ".join(short(machine) for machine in sorted(machines))
