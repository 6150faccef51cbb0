"""Who runs where: the fixed point of all constraints, from where everything is now.

Theory of operation. First every unit that is somewhere decides whether it can stay, the ones whose
records changed longest ago first; one that cannot is set free, and with it the units that follow
it by MachineOf. Then the free and the new ones choose machines, over and over until a round
changes nothing, so that chains settle in one plan and every refusal speaks of the final picture.
A unit that is set free tries the machine it is on before all others, so nothing moves for nothing.

Refused: deciding unit by unit in no order, as fleet 1.0 did, where the wrong unit of a pair could
move; and moving a running unit for one that waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.board import Board
from engine.reasons import short
from engine.relations import Group, Relations
from engine.scheduler import choose
from fleet.cluster import Assignment, UnitRecord
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.options import Requirements

NO_MACHINES = "there are no machines in the cluster"
ALL_VANISHED = "every machine of the cluster has vanished, and is waited for"
CROWDED = "too many units replace each other here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is to be settled: the units wanted, their rows, and the machines.

    `held` are machines that are missing but not given up: what is on them stays there. `up` are
    the pairs of unit and machine where the unit has come as far as it should, `idle` those where
    nothing of it runs.
    """

    wanted: Mapping[UnitName, UnitRecord]
    rows: Mapping[UnitName, tuple[Assignment, ...]]
    machines: Mapping[MachineId, Machine]
    held: frozenset[MachineId] = frozenset()
    up: frozenset[tuple[UnitName, MachineId]] = frozenset()
    idle: frozenset[tuple[UnitName, MachineId]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Who runs where: `homes` of each wanted unit, and why not for those that run nowhere.

    `arrivals` say why a unit comes to a machine, `departures` why it goes from one. `lingering`
    are rows that stay as they are, of units that move away.
    """

    homes: Mapping[UnitName, frozenset[MachineId]]
    refusals: Mapping[UnitName, Mapping[str, str]]
    arrivals: Mapping[tuple[UnitName, MachineId], str]
    departures: Mapping[tuple[UnitName, MachineId], str]
    lingering: frozenset[tuple[UnitName, MachineId]]


def settle(situation: Situation) -> Settlement:
    """The settlement that follows from the situation, always the same one."""
    work = _Settling(situation)
    work.keep()
    work.place()
    return work.finish()


@dataclass(slots=True)
class _Free:
    """The groups that look for a machine, and what hinders each of their units, by machine."""

    groups: set[int] = field(default_factory=set)
    reasons: dict[UnitName, Mapping[str, str]] = field(default_factory=dict)


class _Settling:
    """A settlement in the making."""

    def __init__(self, situation: Situation) -> None:
        self._now = situation
        wanted = situation.wanted
        self._asked = {unit: record.requirements for unit, record in wanted.items()}
        self._relations = Relations(self._asked)
        revisions = {unit: record.revision for unit, record in wanted.items()}
        self._groups = self._relations.groups(revisions)
        self._index = {unit: n for n, group in enumerate(self._groups) for unit in group}
        self._board = Board(situation.machines.values(), self._veto)
        self._homes: dict[UnitName, set[MachineId]] = {unit: set() for unit in wanted}
        self._fixed: set[UnitName] = set()
        self._free = _Free()
        self._arrivals: dict[tuple[UnitName, MachineId], str] = {}
        self._departures: dict[tuple[UnitName, MachineId], str] = {}
        # More displacements than this in one plan mean that units chase each other.
        self._patience = 2 * len(wanted) + 8

    # First: who can stay

    def keep(self) -> None:
        """Everybody who is somewhere and can be there stays."""
        for group in self._groups:
            for unit in group:
                self._set_leaving(unit)
                self._fix(unit)
        for number, group in enumerate(self._groups):
            if any(unit in self._fixed for unit in group):
                self._refuse_rest_of(group)
            elif self._asked[group[0]].is_global:
                self._keep_global(group[0])
                self._free.groups.add(number)
            elif not self._keep_group(group):
                self._free.groups.add(number)

    def _set_leaving(self, unit: UnitName) -> None:
        record = self._now.wanted[unit]
        if record.is_global or (self._has_arrived(unit) and not record.problem):
            return
        for row in self._now.rows.get(unit, ()):
            if row.leaving and row.machine in self._now.machines:
                self._let_leave(unit, row.machine)

    def _fix(self, unit: UnitName) -> None:
        """Leave where it is what cannot be judged now: a unit with a problem, a held machine."""
        staying = self._staying(unit)
        record = self._now.wanted[unit]
        held = [machine for machine in staying if machine in self._now.held]
        if record.problem:
            self._free.reasons[unit] = {"": record.problem}
        elif not held or record.is_global:
            return
        self._fixed.add(unit)
        for machine in staying:
            self._homes[unit].add(machine)
            if machine in self._now.machines:
                self._board.put(unit, self._asked[unit], machine)

    def _refuse_rest_of(self, group: Group) -> None:
        for unit in group:
            if unit not in self._fixed:
                peers = ", ".join(peer for peer in group if peer in self._fixed)
                reason = f"it goes with {peers}, which is left alone for now"
                self._free.reasons[unit] = {"": reason}

    def _keep_global(self, unit: UnitName) -> None:
        asked = self._asked[unit]
        for row in self._now.rows.get(unit, ()):
            if row.machine not in self._now.machines:
                self._homes[unit].add(row.machine)
                continue
            verdict = self._board.judge({unit: asked}, row.machine, heed_leaving=False)
            if verdict.able:
                self._settle_on({unit: asked}, row.machine, verdict.displaces)
            else:
                self._departures[unit, row.machine] = _no_longer(row.machine, verdict.reason)

    def _keep_group(self, group: Group) -> bool:
        homes = {self._staying(unit) for unit in group}
        if len(homes) != 1:
            return False
        asked = {unit: self._asked[unit] for unit in group}
        for machine in homes.pop():
            if machine not in self._now.machines:
                self._set_departure(group, machine, f"its machine {short(machine)} is gone")
                continue
            verdict = self._board.judge(asked, machine, heed_leaving=False)
            if verdict.able:
                self._settle_on(asked, machine, verdict.displaces)
                return True
            self._set_departure(group, machine, _no_longer(machine, verdict.reason))
        return False

    def _set_departure(self, group: Group, machine: MachineId, reason: str) -> None:
        for unit in group:
            self._departures[unit, machine] = reason

    # Then: where the others go

    def place(self) -> None:
        """Everybody else goes where there is room, until a round changes nothing."""
        changed = bool(self._free.groups)
        while changed:
            changed = False
            for number in sorted(self._free.groups):
                group = self._groups[number]
                if self._asked[group[0]].is_global:
                    changed |= self._place_global(group[0])
                else:
                    changed |= self._place_group(number, group)

    def _place_global(self, unit: UnitName) -> bool:
        asked = self._asked[unit]
        placed = False
        reasons: dict[str, str] = {}
        for machine in self._board.machines:
            if machine in self._homes[unit]:
                continue
            verdict = self._board.judge({unit: asked}, machine)
            if verdict.able:
                self._settle_on({unit: asked}, machine, verdict.displaces)
                self._arrivals[unit, machine] = "it is global and this machine suits it"
                placed = True
            else:
                reasons[machine] = verdict.reason
        self._free.reasons[unit] = reasons
        return placed

    def _place_group(self, number: int, group: Group) -> bool:
        asked = {unit: self._asked[unit] for unit in group}
        choice = choose(self._board, asked, self._where_it_is(group))
        if choice.machine is None:
            made_room = 0
            for unit in group:
                self._free.reasons[unit] = choice.reasons
                made_room += self._cannot_linger(unit)
            return made_room > 0
        self._free.groups.discard(number)
        self._settle_on(asked, choice.machine, choice.displaces)
        for unit in group:
            self._free.reasons.pop(unit, None)
            self._arrivals[unit, choice.machine] = self._arrival(unit, choice.machine, choice.why)
        return True

    def _arrival(self, unit: UnitName, machine: MachineId, why: str) -> str:
        lost = [row.machine for row in self._now.rows.get(unit, ()) if not row.leaving]
        departures = [
            self._departures[unit, old]
            for old in lost
            if old != machine and (unit, old) in self._departures
        ]
        return "; ".join([*departures, why])

    def _where_it_is(self, group: Group) -> list[MachineId]:
        """The living machines the group's units are on, those they are not leaving first."""
        rows = [row for unit in group for row in self._now.rows.get(unit, ())]
        ordered = sorted(rows, key=lambda row: (row.leaving, row.unit, row.machine))
        machines = dict.fromkeys(row.machine for row in ordered)
        return [machine for machine in machines if machine in self._now.machines]

    def _settle_on(
        self,
        asked: Mapping[UnitName, Requirements],
        machine: MachineId,
        displaces: tuple[UnitName, ...],
    ) -> None:
        for other in displaces:
            by = ", ".join(asked)
            self._set_free(other, machine, f"{by} replaces it on machine {short(machine)}")
        for unit, requirements in asked.items():
            self._board.put(unit, requirements, machine)
            self._homes[unit].add(machine)
            self._linger(unit, machine)
        for other, requirements in list(self._board.leaving(machine).items()):
            if self._board.is_repelled(other, requirements, machine):
                self._board.has_left(other, machine)

    def _set_free(self, unit: UnitName, machine: MachineId, why: str) -> None:
        """Take the unit, and whatever is there because of it, off the machine."""
        if machine not in self._homes[unit]:
            self._board.has_left(unit, machine)
            return
        self._patience -= 1
        self._board.take(unit, machine)
        self._homes[unit].discard(machine)
        self._departures[unit, machine] = why
        self._free.groups.add(self._index[unit])
        for follower in self._board.followers(unit, machine):
            if machine in self._homes[follower] and follower not in self._fixed:
                gone = f"{unit}, which it goes with, has to leave machine {short(machine)}"
                self._set_free(follower, machine, gone)

    def _linger(self, unit: UnitName, home: MachineId) -> None:
        """Keep the unit where it is until it has arrived, as far as the neighbours bear that."""
        if self._asked[unit].is_global:
            return
        for row in self._now.rows.get(unit, ()):
            if row.machine == home or row.machine not in self._now.machines:
                continue
            if self._has_arrived(unit):
                self._board.has_left(unit, row.machine)
            else:
                self._let_leave(unit, row.machine)

    def _let_leave(self, unit: UnitName, machine: MachineId) -> None:
        if (unit, machine) in self._now.idle:
            return  # nothing runs there that could bridge the time until it has arrived
        asked = self._asked[unit]
        if not self._board.is_repelled(unit, asked, machine):
            self._board.let_leave(unit, asked, machine)

    def _cannot_linger(self, unit: UnitName) -> int:
        """Nothing keeps the unit where it was; on how many machines that makes room."""
        rows = self._now.rows.get(unit, ())
        living = [row.machine for row in rows if row.machine in self._now.machines]
        return sum(self._board.has_left(unit, machine) for machine in living)

    def _veto(self, unit: UnitName, other: UnitName) -> str:
        if other in self._fixed:
            return f"{other} is here, and is left alone for now"
        return self._relations.veto(unit, other) or (CROWDED if self._patience < 0 else "")

    # Last: the result

    def finish(self) -> Settlement:
        """The result, with the rows that stay for a while where their units leave."""
        lingering = {
            (unit, machine)
            for machine in self._board.machines
            for unit in self._board.leaving(machine)
        }
        refusals: dict[UnitName, Mapping[str, str]] = {}
        for unit, record in self._now.wanted.items():
            lost = self._lost_rows(unit)
            if not self._homes[unit]:
                # It fits nowhere; a lost machine may yet come back with it.
                self._homes[unit].update(row.machine for row in lost if not row.leaving)
                refusals[unit] = self._refusal(unit)
                lingering.update((unit, row.machine) for row in lost if row.leaving)
            elif record.problem:
                refusals[unit] = self._refusal(unit)
                lingering.update((unit, row.machine) for row in lost if row.leaving)
            elif not record.is_global and not self._has_arrived(unit):
                lingering.update((unit, row.machine) for row in lost)
        return Settlement(
            homes={unit: frozenset(homes) for unit, homes in self._homes.items()},
            refusals=refusals,
            arrivals=self._arrivals,
            departures=self._departures,
            lingering=frozenset(lingering),
        )

    def _lost_rows(self, unit: UnitName) -> list[Assignment]:
        rows = self._now.rows.get(unit, ())
        return [row for row in rows if row.machine not in self._now.machines]

    def _refusal(self, unit: UnitName) -> Mapping[str, str]:
        reasons = dict(self._free.reasons.get(unit, {}))
        if "" in reasons:
            return reasons
        if not self._now.machines:
            return {"": ALL_VANISHED if self._now.held else NO_MACHINES}
        for peer in self._asked[unit].machine_of:
            if peer not in self._now.wanted:
                return {"": f"it asks for MachineOf={peer}, and {peer} is not started"}
        for machine in self._homes[unit]:
            reasons[machine] = "its machine is gone, and no other fits"
        return dict(sorted(reasons.items()))

    # Questions

    def _staying(self, unit: UnitName) -> tuple[MachineId, ...]:
        rows = [row.machine for row in self._now.rows.get(unit, ()) if not row.leaving]
        return tuple(
            sorted(rows, key=lambda machine: ((unit, machine) not in self._now.up, machine))
        )

    def _has_arrived(self, unit: UnitName) -> bool:
        """Whether the unit is where it should be, as far as is decided."""
        homes = self._homes[unit] or self._staying(unit)
        return any((unit, machine) in self._now.up for machine in homes)


def _no_longer(machine: MachineId, reason: str) -> str:
    return f"machine {short(machine)} can no longer run it: {reason}"
