"""Who runs where: the fixed point of all constraints, from where everything is now.

Theory of operation. First every unit that is somewhere decides whether it can stay, the ones whose
records changed longest ago first; one that cannot is set free, and with it the units that follow
it by MachineOf. Then the free and the new ones choose machines, over and over until a round
changes nothing, so that chains settle in one plan and every refusal speaks of the final picture.
A unit that is set free tries the machine it is on before all others, so nothing moves for nothing.
Last, what is on a machine that an operator drains goes elsewhere, where anybody else has room for
it: it stays if nobody has.

A settlement is kept, and changed by what changed (`engine.facts`). That is as good as settling all
anew, for these reasons. Whether units can stay is decided machine by machine: a machine on which
nothing has changed, and on which the last settlement changed nothing, comes out as it was. So
machines are *reopened*, cleared and decided again: those that were stirred, those of units that
were stirred, and, as units on two machines tie these together, those of whoever is on them. A unit
that waits has been refused by every machine, and asks again only those whose units have changed
since, which the board's diary tells. What was decided, but may not have been carried out, is
`unfinished` and decided again the next time. In doubt all is reopened.

Refused: deciding unit by unit in no order, as fleet 1.0 did, where the wrong unit of a pair could
move; and moving a running unit for one that waits.
"""

from collections.abc import Iterable, Mapping

from engine.board import Board
from engine.facts import Facts, Stirred
from engine.lingering import Lingering
from engine.neighbours import Units
from engine.outcomes import Outcome, Settlement, outcome_of
from engine.packs import Pack, packs
from engine.reasons import MOST_TOLD, short
from engine.relations import Group, Turn
from engine.reopening import Reopened, reopen, reopen_machine
from engine.scheduler import choose
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.options import Requirements

NOWHERE_ELSE = "there is no other machine in the cluster"
CROWDED = "too many units replace each other here"

Place = tuple[UnitName, MachineId]


class Settler:
    """Keeps the settlement that follows from the facts, always the same one.

    `arrivals` say why a unit comes to a machine, `departures` why it goes from one, of the last
    time; `affected` are the units about which anything was decided then.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._board = Board(veto=self._veto)
        self._settlement = Settlement()
        self._lingering = Lingering(facts, self._board, self._settlement)
        # Up to where in the board's diary each waiting group knows that it is refused.
        self._waiting: dict[Turn, int | None] = {}
        self._turns: dict[UnitName, Turn] = {}
        self._unfinished = Stirred()
        self._reopened = Reopened()
        self._is_in_doubt = True
        self._is_reshaped = False
        self._patience = 0
        self.arrivals: dict[Place, str] = {}
        self.departures: dict[Place, str] = {}
        self.affected: set[UnitName] = set()

    def settle(self, stirred: Stirred) -> None:
        """Decide about who was stirred, and about whom that concerns."""
        self.arrivals, self.departures, self.affected = {}, {}, set()
        # More displacements than this in one plan mean that units chase each other.
        self._patience = 2 * len(self._facts.wanted) + 8
        self._reopened = self._reopen(stirred)
        self._keep(self._reopened)
        kept = len(self._board.touched)
        self._place()
        while self._drain():
            self._place()
        # What leaves a drained machine depends on all the others.
        self._is_in_doubt = self._patience < 0 or bool(self._facts.drained)
        self._unfinished = Stirred(machines=set(self._board.touched[kept:]))
        for places in (self.arrivals, self.departures):
            self.note_unfinished(place for place in places if place[1] in self._facts.machines)

    def settle_again(self, stirred: Stirred) -> None:
        """Settle once more in the same plan: what the first time said of departures still holds."""
        departures, affected = self.departures, self.affected
        self.settle(stirred)
        self.departures = {**departures, **self.departures}
        self.affected |= affected

    def note_unfinished(self, places: Iterable[Place]) -> None:
        """What was decided about these may not be so when it is asked next."""
        for unit, machine in places:
            self._unfinished.machines.add(machine)
            if unit not in self._facts.globals:
                self._unfinished.units.add(unit)

    # What is decided anew

    def _reopen(self, stirred: Stirred) -> Reopened:
        was, now = len(self._board.machines), self._facts.machines
        is_in_doubt = self._is_in_doubt or bool(self._facts.drained)
        if is_in_doubt or not was or not now or (was > MOST_TOLD) != (len(now) > MOST_TOLD):
            stirred.units.update(self._facts.wanted, self._settlement.homes)
            stirred.machines.update(self._board.machines, now)
        stirred.units |= self._unfinished.units
        stirred.machines |= self._unfinished.machines
        reopened = reopen(stirred, self._facts, self._board, self._settlement.homes)
        self._board.touched.clear()
        for turn, seen in self._waiting.items():
            self._waiting[turn] = seen and 0
        self._is_reshaped = False
        for machine in sorted(reopened.machines):
            self._is_reshaped |= reopen_machine(
                machine, self._facts, self._board, self._settlement.homes
            )
        for unit in reopened.units:
            self._reopen_unit(unit)
        self.affected = set(reopened.units | reopened.globals)
        return reopened

    def _reopen_unit(self, unit: UnitName) -> None:
        turn = self._turns.pop(unit, None)
        if turn is not None:
            self._waiting.pop(turn, None)
        self._settlement.fixed.discard(unit)
        self._settlement.reasons.pop(unit, None)
        if unit in self._facts.wanted:
            self._settlement.homes[unit] = set()
        else:
            self._settlement.homes.pop(unit, None)

    # First: who can stay

    def _keep(self, reopened: Reopened) -> None:
        """Everybody who is somewhere and can be there stays."""
        units = (reopened.units | reopened.globals) & self._facts.wanted.keys()
        by_age = sorted(units, key=self._facts.revisions.__getitem__)  # mostly in turn already
        for unit in by_age:
            if unit not in self._turns:
                self._turns[unit] = self._facts.relations.turn(unit, self._facts.revisions)
        ordered = sorted(dict.fromkeys(self._turns[unit] for unit in by_age))
        for _, _, group in ordered:
            for unit in group:
                self._lingering.recall(unit)
                self._fix(unit, reopened)
        for turn in ordered:
            group = turn[2]
            if not self._settlement.fixed.isdisjoint(group):
                self._refuse_rest_of(group)
            elif group[0] in self._facts.globals:
                self._keep_global(group[0], reopened)
                self._waiting.setdefault(turn, None)
            elif not self._keep_group(group):
                self._waiting[turn] = None

    def _fix(self, unit: UnitName, reopened: Reopened) -> None:
        """Leave where it is what cannot be judged now: a unit with a problem, a held machine."""
        problem = self._facts.problem_of(unit)
        if problem:
            self._settlement.reasons[unit] = {"": problem}
        elif not self._facts.is_held(unit):
            return
        record, staying = self._facts.wanted[unit], self._facts.staying(unit)
        self._settlement.fixed.add(unit)
        asked = {unit: record.requirements.only_repelling()}
        for machine in reopened.machines.intersection(staying) if record.is_global else staying:
            if machine in self._facts.machines:
                verdict = self._board.judge(asked, machine, heed_leaving=False)
                if not verdict.able and not problem:
                    self._set_departure((unit,), machine, _no_longer(machine, verdict.reason))
                    continue
                self._board.put(unit, record.requirements, machine)
            self._settlement.homes[unit].add(machine)

    def _refuse_rest_of(self, group: Group) -> None:
        peers = ", ".join(unit for unit in group if unit in self._settlement.fixed)
        reason = f"it goes with {peers}, which is left alone for now"
        for unit in set(group) - self._settlement.fixed:
            self._settlement.reasons[unit] = {"": reason}

    def _keep_global(self, unit: UnitName, reopened: Reopened) -> None:
        asked = self._asked((unit,))
        for machine in sorted(self._facts.rows_of(unit).keys() & reopened.machines):
            if machine not in self._facts.machines:
                self._settlement.homes[unit].add(machine)
                continue
            verdict = self._board.judge(asked, machine, heed_leaving=False)
            if verdict.able:
                self._settle_on(asked, machine, verdict.displaces)
            else:
                self.departures[unit, machine] = _no_longer(machine, verdict.reason)

    def _keep_group(self, group: Group) -> bool:
        homes = self._common_homes(group)
        asked = self._asked(group) if homes else {}
        for machine in homes:
            if machine not in self._facts.machines:
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
            self.departures[unit, machine] = reason

    # Then: where the others go

    def _place(self) -> None:
        """Everybody else goes where there is room, until a round changes nothing."""
        changed = bool(self._waiting)
        while changed:
            changed = False
            for turn in sorted(self._waiting):
                group, seen = turn[2], self._waiting[turn]
                news = None if seen is None else set(self._board.touched[seen:])
                self._waiting[turn] = len(self._board.touched)
                if group[0] in self._facts.globals:
                    changed |= self._place_global(group[0], news)
                elif news is None or self._is_news_to(group, news):
                    changed |= self._place_group(turn)

    def _is_news_to(self, group: Group, news: set[MachineId]) -> bool:
        """Whether a group that all machines refused may hear otherwise from one of these."""
        asked = self._asked(group)
        if self._is_reshaped or any(each.machine_of for each in asked.values()):
            return bool(news)
        return not self._board.suiting(asked).isdisjoint(news)

    def _place_global(self, unit: UnitName, news: set[MachineId] | None) -> bool:
        asked = self._asked((unit,))
        homes = self._settlement.homes[unit]
        suiting = self._board.suiting(asked)
        placed = False
        for machine in sorted(suiting if news is None else suiting & news):
            if machine in homes:
                continue
            verdict = self._board.welcomes(asked, machine)
            if verdict.able:
                self._settle_on(asked, machine, verdict.displaces)
                self.arrivals[unit, machine] = "it is global and this machine suits it"
                placed = True
        if placed or news is None or news:
            self.affected.add(unit)
        return placed

    def _place_group(self, turn: Turn) -> bool:
        group = turn[2]
        asked = self._asked(group)
        if group[0] not in self._reopened.units:
            self._recall_losses(group)
            self.affected.update(group)
        choice = choose(self._board, asked, self._where_it_is(group))
        if choice.machine is None:
            made_room = 0
            for unit in group:
                self._settlement.reasons[unit] = choice.reasons
                made_room += self._lingering.end(unit)
            return made_room > 0
        del self._waiting[turn]
        self._settle_on(asked, choice.machine, choice.displaces)
        for unit in group:
            self._settlement.reasons.pop(unit, None)
            self.arrivals[unit, choice.machine] = self._arrival(unit, choice.machine, choice.why)
        return True

    def _recall_losses(self, group: Group) -> None:
        """Say again why a group that waits has left its machines, for when it finds another."""
        for machine in self._common_homes(group):
            if machine not in self._facts.machines:
                self._set_departure(group, machine, f"its machine {short(machine)} is gone")

    # Last: who goes although it could stay

    def _drain(self) -> bool:
        """What is on drained machines goes elsewhere, if it can; whether anything does."""
        self._settlement.stuck.clear()
        moved = False
        for machine in sorted(self._facts.drained):
            found = packs(self._board.staying(machine))
            for pack in sorted(found, key=lambda pack: min(self._turns[unit] for unit in pack)):
                moved |= self._drain_pack(pack, machine)
        return moved

    def _drain_pack(self, pack: Pack, machine: MachineId) -> bool:
        fixed = self._settlement.fixed.intersection(pack)
        if fixed:
            reason = f"it goes with {min(fixed)}, which is left alone for now"
            self._settlement.stuck |= {u: {machine: reason} for u in pack if u not in fixed}
            return False
        asked = self._asked(pack)
        for unit in pack:
            self._board.take(unit, machine)
            self._settlement.homes[unit].discard(machine)
        here = [m for m in self._where_it_is(pack) if not self._board.closed(m)]
        choice = choose(self._board, asked, here, displacing=False)
        for unit in pack:
            if choice.machine is None:
                self._settlement.stuck[unit] = _elsewhere(choice.reasons, machine)
                continue
            self.departures[unit, machine] = self._board.why_drained(machine)
            self.arrivals[unit, choice.machine] = self._arrival(unit, choice.machine, choice.why)
        self._settle_on(asked, choice.machine or machine, ())
        return choice.machine is not None

    def _arrival(self, unit: UnitName, machine: MachineId, why: str) -> str:
        rows = self._facts.rows_of(unit)
        if not rows:
            return why
        departures = [
            self.departures[unit, old]
            for old in sorted(rows)
            if old != machine and not rows[old].leaving and (unit, old) in self.departures
        ]
        return "; ".join([*departures, why]) if departures else why

    def _where_it_is(self, group: Group) -> list[MachineId]:
        """The living machines the group's units are on, those they are not leaving first."""
        rows = [row for unit in group for row in self._facts.rows_of(unit).values()]
        if not rows:
            return []
        ordered = sorted(rows, key=lambda row: (row.leaving, row.unit, row.machine))
        machines = dict.fromkeys(row.machine for row in ordered)
        return [machine for machine in machines if machine in self._facts.machines]

    def _settle_on(self, asked: Units, machine: MachineId, displaces: tuple[UnitName, ...]) -> None:
        for other in displaces:
            by = ", ".join(asked)
            self._set_free(other, machine, f"{by} replaces it on machine {short(machine)}")
        for unit, requirements in asked.items():
            self._board.put(unit, requirements, machine)
            self._settlement.homes[unit].add(machine)
            self._lingering.begin(unit, machine)
        leaving = self._board.leaving(machine)
        for other, requirements in tuple(leaving.items()) if leaving else ():
            if self._board.is_repelled(other, requirements, machine):
                self._board.has_left(other, machine)
                self.affected.add(other)

    def _set_free(self, unit: UnitName, machine: MachineId, why: str) -> None:
        """Take the unit, and whatever is there because of it, off the machine."""
        self.affected.add(unit)
        if machine not in self._settlement.homes[unit]:
            self._board.has_left(unit, machine)
            return
        self._patience -= 1
        self._board.take(unit, machine)
        self._settlement.homes[unit].discard(machine)
        self.departures[unit, machine] = why
        self._wait_for(unit)
        for follower in self._board.followers(unit, machine):
            is_home = machine in self._settlement.homes[follower]
            if is_home and follower not in self._settlement.fixed:
                gone = f"{unit}, which it goes with, has to leave machine {short(machine)}"
                self._set_free(follower, machine, gone)

    def _wait_for(self, unit: UnitName) -> None:
        """The unit's group looks for a machine; a global one knows those that refused it."""
        self._waiting.setdefault(self._turns[unit], None)

    def _veto(self, unit: UnitName, other: UnitName) -> str:
        if other in self._settlement.fixed:
            return f"{other} is here, and is left alone for now"
        relations = self._facts.relations
        return relations.veto(unit, other) or (CROWDED if self._patience < 0 else "")

    # Last: the result

    def outcome(self, unit: UnitName) -> Outcome:
        """What has been decided about a wanted unit."""
        is_waiting = self._turns[unit] in self._waiting
        return outcome_of(unit, self._facts, self._board, self._settlement, is_waiting=is_waiting)

    # Questions

    def _asked(self, group: Group) -> dict[UnitName, Requirements]:
        return {unit: self._facts.wanted[unit].requirements for unit in group}

    def _common_homes(self, group: Group) -> tuple[MachineId, ...]:
        """The machines that all of the group's units stay on now, if these are the same."""
        homes = {self._facts.staying(unit) for unit in group}
        return homes.pop() if len(homes) == 1 else ()


def _elsewhere(reasons: Mapping[str, str], machine: MachineId) -> Mapping[str, str]:
    """Why no other machine takes a unit; what holds for all of them stands under its own."""
    others = {other: why for other, why in reasons.items() if other and other != machine}
    return others or {machine: reasons.get("", NOWHERE_ELSE)}


def _no_longer(machine: MachineId, reason: str) -> str:
    return f"machine {short(machine)} can no longer run it: {reason}"
