"""The living machines and the units on them, indexed for the scheduler's questions.

What a question costs depends on what it is about, not on how many machines there are: a unit that
nobody repels and that repels nobody is judged without a look at its neighbours, and the machines
that a unit may like at all come in order out of `lanes`. `touched` is a diary: every change to a
machine's units adds the machine, so that who was refused need ask again only where there is news.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import partial

from engine.lanes import Lane, Level
from engine.neighbours import Place, Units, by_name, near
from engine.reasons import short
from engine.traits import Likes, Traits, likes_of
from engine.wishes import Wishes, WishRank
from fleet.constraints import Verdict, able_to_run, machine_refusal
from fleet.machine import Machine, MachineId
from fleet.names import UnitName, split_name
from fleet.options import Requirements

Veto = Callable[[UnitName, UnitName], str]
Templates = tuple[UnitName, ...]
_Condition = tuple[str, set[MachineId]]

_ABLE = Verdict()
_NOBODY: Mapping[MachineId, int] = {}
# More kinds of requirements than this are not remembered.
_MOST_FITS = 256
# Beyond this part of the machines with an instance, a template has a lane of its own.
_CROWDED_PART = 10


@dataclass(slots=True)
class _Fit:
    """Machines that are what some units ask for, and those machines in order."""

    asked: tuple[Requirements, ...]
    machines: set[MachineId]
    lanes: dict[Templates, Lane] = field(default_factory=dict)


class Board:
    """The machines and their units. `veto(unit, other)` says why a unit may not displace another,
    or nothing."""

    def __init__(self, machines: Iterable[Machine] = (), veto: Veto | None = None) -> None:
        self._places: dict[MachineId, Place] = {}
        self._traits = Traits()
        self._fits: dict[frozenset[Likes], _Fit] = {}
        self._where: dict[UnitName, set[MachineId]] = {}
        self._instances: dict[UnitName, dict[MachineId, int]] = {}
        self._veto = veto
        self.touched: list[MachineId] = []
        for machine in sorted(machines, key=lambda machine: machine.id):
            self.add(machine)

    # The machines

    @property
    def machines(self) -> Collection[MachineId]:
        return self._places.keys()

    def machine(self, machine: MachineId) -> Machine | None:
        """The machine of that id as it was last told of, None if it is not there."""
        place = self._places.get(machine)
        return place.machine if place else None

    def add(self, machine: Machine) -> None:
        """The machine is there, with nothing on it if it is new, or with other metadata."""
        place = self._places.get(machine.id)
        if place is None:
            self._places[machine.id] = Place(machine)
        else:
            place.machine = machine
        self._traits.add(machine)
        for fit in self._fits.values():
            if _is_what_they_ask(machine, fit.asked):
                fit.machines.add(machine.id)
                for lane in fit.lanes.values():
                    lane.lower(machine.id)
            else:
                self._drop(machine.id, fit)
        self.touched.append(machine.id)

    def remove(self, machine: MachineId) -> None:
        """The machine is there no more, nor anything on it."""
        self.clear(machine)
        del self._places[machine]
        self._traits.remove(machine)
        for fit in self._fits.values():
            self._drop(machine, fit)

    def _drop(self, machine: MachineId, fit: _Fit) -> None:
        fit.machines.discard(machine)
        for lane in fit.lanes.values():
            lane.remove(machine)

    # The units

    def put(self, unit: UnitName, asked: Requirements, machine: MachineId) -> None:
        """The unit stays on the machine; if it was leaving it, no longer."""
        place = self._places[machine]
        place.leaving.pop(unit, None)
        if unit in place.staying:
            self.take(unit, machine)
        place.staying[unit] = asked
        if asked.conflicts or asked.replaces:
            place.repelling[unit] = asked
        self._where.setdefault(unit, set()).add(machine)
        template = template_of(unit)
        if template:
            count = self._instances.setdefault(template, {})
            count[machine] = count.get(machine, 0) + 1
        self.touched.append(machine)

    def take(self, unit: UnitName, machine: MachineId) -> None:
        """The unit is not on the machine after all."""
        self._take(unit, self._places[machine])
        self._lower(machine)

    def clear(self, machine: MachineId) -> None:
        """Nothing is on the machine, nor leaves it."""
        place = self._places[machine]
        for unit in tuple(place.staying):
            self._take(unit, place)
        place.leaving.clear()
        self._lower(machine)

    def _take(self, unit: UnitName, place: Place) -> None:
        machine = place.machine.id
        del place.staying[unit]
        place.repelling.pop(unit, None)
        where = self._where[unit]
        where.discard(machine)
        if not where:
            del self._where[unit]
        template = template_of(unit)
        if template:
            count = self._instances[template]
            count[machine] -= 1
            if not count[machine]:
                del count[machine]

    def _lower(self, machine: MachineId) -> None:
        for fit in self._fits.values():
            if machine in fit.machines:
                for lane in fit.lanes.values():
                    lane.lower(machine)
        self.touched.append(machine)

    def let_leave(self, unit: UnitName, asked: Requirements, machine: MachineId) -> None:
        """The unit runs on the machine for a while yet: it repels, but nobody can lean on it."""
        self._places[machine].leaving[unit] = asked
        self.touched.append(machine)

    def has_left(self, unit: UnitName, machine: MachineId) -> bool:
        """The unit is not waited for on the machine; whether it was."""
        if self._places[machine].leaving.pop(unit, None) is None:
            return False
        self.touched.append(machine)
        return True

    def staying(self, machine: MachineId) -> Units:
        """The units that stay on the machine."""
        return self._places[machine].staying

    def leaving(self, machine: MachineId) -> Units:
        """The units that will leave the machine, but still run there."""
        return self._places[machine].leaving

    def load(self, machine: MachineId) -> int:
        """How many units stay on the machine."""
        return len(self._places[machine].staying)

    def instances(self, template: UnitName | None, machine: MachineId) -> int:
        """How many instances of the template stay on the machine."""
        return self._instances.get(template, _NOBODY).get(machine, 0) if template else 0

    def followers(self, unit: UnitName, machine: MachineId) -> tuple[UnitName, ...]:
        """The units on the machine that are there because this one is."""
        staying = self._places[machine].staying
        return tuple(sorted(name for name, asked in staying.items() if unit in asked.machine_of))

    # Where a unit may go

    def level(self, templates: Templates, machine: MachineId) -> Level:
        """What machines are tried by, the lowest first, and the lowest id first on one level."""
        alike = 0
        for template in templates:
            alike += self._instances.get(template, _NOBODY).get(machine, 0)
        return alike, len(self._places[machine].staying)

    def first(
        self, group: Units, templates: Templates, accepts: Callable[[MachineId], bool]
    ) -> MachineId | None:
        """The first machine in order of level, then of id, that is accepted.

        Those are left out that are not what the units ask for, or lack units that they follow.
        """
        level = partial(self.level, templates)
        few = self._few(group)
        if few is not None:
            return next(filter(accepts, sorted(sorted(few), key=level)), None)
        fit = self._fit(group)
        if not templates:
            return fit.lanes[()].first(accepts)
        with_alike = [self._instances.get(template, _NOBODY) for template in templates]
        if sum(map(len, with_alike)) * _CROWDED_PART > len(fit.machines):
            if templates not in fit.lanes:
                fit.lanes[templates] = Lane(fit.machines, level)
            return fit.lanes[templates].first(accepts)
        crowd = set().union(*with_alike)
        lane = fit.lanes[()]
        if not crowd:
            return lane.first(accepts)
        found = lane.first(lambda machine: machine not in crowd and accepts(machine))
        if found is None:
            rest = sorted(sorted(crowd & fit.machines), key=level)
            found = next(filter(accepts, rest), None)
        return found

    def suiting(self, group: Units) -> Set[MachineId]:
        """The machines that `first` does not leave out."""
        few = self._few(group)
        return self._fit(group).machines if few is None else few

    def wishes(self, group: Units) -> Wishes:
        """What the units would like, over the machines as they are now."""
        machines = [place.machine for place in self._places.values()]
        return Wishes(group, machines, self.instances)

    def first_wished(
        self,
        wishes: Wishes,
        group: Units,
        templates: Templates,
        accepts: Callable[[MachineId], bool],
    ) -> MachineId | None:
        """Like `first`, with the wishes before the level, which costs a look at every machine."""

        def rank(machine: MachineId) -> tuple[WishRank, Level]:
            return wishes.rank(self._places[machine].machine), self.level(templates, machine)

        return next(filter(accepts, sorted(sorted(self.suiting(group)), key=rank)), None)

    def speaks_for(self, machine: MachineId, wishes: Wishes) -> tuple[str, ...]:
        """What of the wishes speaks for the machine."""
        return wishes.told(self._places[machine].machine)

    def _few(self, group: Units) -> set[MachineId] | None:
        """The machines that may be tried, if what the units follow or name leaves but few."""
        if not any(asked.machine_of or asked.machine_id is not None for asked in group.values()):
            return None
        found = [self._where.get(peer, set()) for peer in _peers(group)]
        found += [
            self._traits.liked(likes_of(asked))
            for asked in group.values()
            if asked.machine_id is not None
        ]
        if not found:
            return None
        there = (self._places[machine].machine for machine in set.intersection(*found))
        asked = tuple(group.values())
        return {machine.id for machine in there if _is_what_they_ask(machine, asked)}

    def _fit(self, group: Units) -> _Fit:
        likes = frozenset(map(likes_of, group.values()))
        fit = self._fits.get(likes)
        if fit is None:
            if len(self._fits) >= _MOST_FITS:
                self._fits.clear()
            machines = set.intersection(*map(self._traits.liked, likes))
            fit = self._fits[likes] = _Fit(tuple(group.values()), machines)
            fit.lanes[()] = Lane(machines, partial(self.level, ()))
        return fit

    def unsuited(self, group: Units) -> Counter[str]:
        """Why `first` leaves machines out, with how many machines each reason holds for."""
        counts: Counter[str] = Counter()
        left = set(self._places)
        for unit, asked in group.items():
            for reason, suited in self._conditions(asked, group):
                tail = reason if len(group) == 1 else _not_here(unit, reason)
                counts[tail] += len(left - suited)
                left &= suited
        return counts

    def _conditions(
        self, asked: Requirements, group: Units
    ) -> Iterator[tuple[str, set[MachineId]]]:
        """What a unit asks for of a machine, each as a reason, with the machines that have it."""
        if asked.machine_id is not None:
            liked = self._traits.liked(likes_of(Requirements(machine_id=asked.machine_id)))
            yield f"the unit asks for MachineID={asked.machine_id}", liked
        for key, choices in sorted(asked.metadata.items()):
            wanted = " or ".join(f"{key}={choice}" for choice in sorted(choices))
            liked = self._traits.liked(likes_of(Requirements(metadata={key: choices})))
            yield f"the unit asks for metadata {wanted}", liked
        for condition in asked.conditions:
            liked = self._traits.liked(likes_of(Requirements(conditions=(condition,))))
            yield f"the unit asks for metadata {condition}", liked
        if asked.reserves:
            liked = self._traits.liked(likes_of(Requirements(reserves=asked.reserves)))
            yield "it reserves more than the machine has", liked
        for peer in asked.machine_of:
            if peer not in group:
                there = self._where.get(UnitName(peer), set())
                yield f"MachineOf={peer}, which is not here", there

    # Whether a unit may be on a machine

    def welcomes(self, group: Units, machine: MachineId) -> Verdict:
        """Whether units that are not on the machine yet may come to it."""
        reason = self.closed(machine)
        return Verdict(reason) if reason else self.judge(group, machine)

    def closed(self, machine: MachineId) -> str:
        """Why no unit may come to the machine that is not there already, or nothing."""
        cordon = self._places[machine].machine.cordon
        return f"it is {cordon.told}" if cordon else ""

    def why_drained(self, machine: MachineId) -> str:
        """Why the units on the machine are to leave it, or nothing."""
        cordon = self._places[machine].machine.cordon
        return f"machine {short(machine)} is {cordon.told}" if cordon and cordon.drain else ""

    def judge(self, group: Units, machine: MachineId, *, heed_leaving: bool = True) -> Verdict:
        """Whether the units, one or several that need each other, may be on the machine now.

        Units about to leave the machine stand in the way unless `heed_leaving` is false.
        """
        place = self._places[machine]
        if len(group) == 1:
            ((unit, asked),) = group.items()
            return self._judge_one(unit, asked, place, near(unit, asked, place), heed_leaving)
        displaces: set[UnitName] = set()
        for unit, asked in group.items():
            around = place.staying | dict(group)
            verdict = self._judge_one(unit, asked, place, around, heed_leaving)
            if not verdict.able:
                return Verdict(_not_here(unit, verdict.reason))
            displaces.update(verdict.displaces)
        within = sorted(displaces & group.keys())
        if within:
            return Verdict(f"{within[0]} is to go with a unit that replaces it")
        return Verdict(displaces=tuple(sorted(displaces)))

    def _judge_one(
        self,
        unit: UnitName,
        asked: Requirements,
        place: Place,
        around: Units,
        heed_leaving: bool,
    ) -> Verdict:
        if unit in asked.machine_of:
            around = {**around, unit: asked}
        if not (around or place.leaving or asked.machine_of):
            reason = machine_refusal(asked, place.machine)
            return Verdict(reason) if reason else _ABLE
        verdict = able_to_run(unit, asked, place.machine, by_name(around))
        if verdict.able and place.leaving and heed_leaving:
            repelling = asked.only_repelling()
            beside = able_to_run(unit, repelling, place.machine, by_name(place.leaving))
            if not beside.able:
                return Verdict(f"{beside.reason}, and has not left yet")
        if verdict.displaces and self._veto is not None:
            reasons = (self._veto(unit, other) for other in verdict.displaces)
            return Verdict(next(filter(None, reasons), ""), verdict.displaces)
        return verdict

    def is_repelled(self, unit: UnitName, asked: Requirements, machine: MachineId) -> bool:
        """Whether the unit and one that runs on the machine must not run together."""
        place = self._places[machine]
        repelling = asked.only_repelling()
        around = {**near(unit, repelling, place), **place.leaving}
        verdict = able_to_run(unit, repelling, place.machine, around)
        return not verdict.able or bool(verdict.displaces)


def template_of(unit: UnitName) -> UnitName | None:
    """The template that the unit is an instance of, or None."""
    return split_name(unit).template if "@" in unit else None


def _is_what_they_ask(machine: Machine, asked: Iterable[Requirements]) -> bool:
    return not any(machine_refusal(each, machine) for each in asked)


def _peers(group: Units) -> set[UnitName]:
    """The units beside the group that it follows."""
    return {UnitName(peer) for asked in group.values() for peer in asked.machine_of} - group.keys()


def _not_here(unit: UnitName, reason: str) -> str:
    return f"{unit}, which it goes with, cannot be here: {reason}"
