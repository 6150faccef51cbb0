"""Which machine a unit gets: the pure choice, from machines and the units on them.

Constraints come first (`fleet.constraints`). Among the machines that suit, instances of one
template are spread before they are stacked, then the machine with the fewest units wins, then the
lowest machine id. Load counts units of every kind and nothing else; nothing is ever rebalanced.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.constraints import Verdict, able_to_run
from fleet.machine import SHORT_ID_LENGTH, Machine, MachineId
from fleet.names import UnitName, split_name
from fleet.options import Requirements

Veto = Callable[[UnitName, UnitName], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The machine chosen and why, and the units that make room; or each machine's reason."""

    machine: MachineId | None = None
    why: str = ""
    displaces: tuple[UnitName, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Place:
    machine: Machine
    staying: dict[UnitName, Requirements] = field(default_factory=dict)
    repelling: dict[UnitName, Requirements] = field(default_factory=dict)
    leaving: dict[UnitName, Requirements] = field(default_factory=dict)
    instances: dict[UnitName, int] = field(default_factory=dict)


class Board:
    """The living machines and the units on them, indexed for the scheduler's questions.

    `veto(unit, other)` says why a unit may not displace another, or nothing.
    """

    def __init__(self, machines: Iterable[Machine], veto: Veto | None = None) -> None:
        ordered = sorted(machines, key=lambda machine: machine.id)
        self._places = {machine.id: _Place(machine) for machine in ordered}
        self._veto = veto

    @property
    def machines(self) -> tuple[MachineId, ...]:
        return tuple(self._places)

    def put(self, unit: UnitName, asked: Requirements, machine: MachineId) -> None:
        """The unit stays on the machine; if it was leaving it, no longer."""
        place = self._places[machine]
        place.leaving.pop(unit, None)
        if unit in place.staying:
            self.take(unit, machine)
        place.staying[unit] = asked
        if asked.conflicts or asked.replaces:
            place.repelling[unit] = asked
        template = split_name(unit).template
        if template:
            place.instances[template] = place.instances.get(template, 0) + 1

    def take(self, unit: UnitName, machine: MachineId) -> None:
        """The unit is not on the machine after all."""
        place = self._places[machine]
        del place.staying[unit]
        place.repelling.pop(unit, None)
        template = split_name(unit).template
        if template:
            place.instances[template] -= 1

    def let_leave(self, unit: UnitName, asked: Requirements, machine: MachineId) -> None:
        """The unit runs on the machine for a while yet: it repels, but nobody can lean on it."""
        self._places[machine].leaving[unit] = asked

    def has_left(self, unit: UnitName, machine: MachineId) -> bool:
        """The unit is not waited for on the machine; whether it was."""
        return self._places[machine].leaving.pop(unit, None) is not None

    def leaving(self, machine: MachineId) -> Mapping[UnitName, Requirements]:
        """The units that will leave the machine, but still run there."""
        return self._places[machine].leaving

    def load(self, machine: MachineId) -> int:
        """How many units stay on the machine."""
        return len(self._places[machine].staying)

    def instances(self, template: UnitName | None, machine: MachineId) -> int:
        """How many instances of the template stay on the machine."""
        return self._places[machine].instances.get(template, 0) if template else 0

    def followers(self, unit: UnitName, machine: MachineId) -> tuple[UnitName, ...]:
        """The units on the machine that are there because this one is."""
        staying = self._places[machine].staying
        return tuple(sorted(name for name, asked in staying.items() if unit in asked.machine_of))

    def judge(
        self,
        group: Mapping[UnitName, Requirements],
        machine: MachineId,
        *,
        heed_leaving: bool = True,
    ) -> Verdict:
        """Whether the units, one or several that need each other, may be on the machine now.

        Units about to leave the machine stand in the way unless `heed_leaving` is false.
        """
        place = self._places[machine]
        alone = len(group) == 1
        displaces: set[UnitName] = set()
        for unit, asked in group.items():
            near = _near(asked, place) if alone else place.staying | dict(group)
            verdict = self._judge_one(unit, asked, place, near, heed_leaving)
            if not verdict.able and not alone:
                return Verdict(f"{unit}, which it goes with, cannot be here: {verdict.reason}")
            if alone:
                return verdict
            displaces.update(verdict.displaces)
        within = sorted(displaces & group.keys())
        if within:
            return Verdict(f"{within[0]} is to go with a unit that replaces it")
        return Verdict(displaces=tuple(sorted(displaces)))

    def _judge_one(
        self,
        unit: UnitName,
        asked: Requirements,
        place: _Place,
        near: Mapping[UnitName, Requirements],
        heed_leaving: bool,
    ) -> Verdict:
        if unit in asked.machine_of:
            near = {**near, unit: asked}
        verdict = able_to_run(unit, asked, place.machine, _by_name(near))
        if verdict.able and place.leaving and heed_leaving:
            repelling = asked.only_repelling()
            beside = able_to_run(unit, repelling, place.machine, _by_name(place.leaving))
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
        near = {**_near(repelling, place), **place.leaving}
        verdict = able_to_run(unit, repelling, place.machine, near)
        return not verdict.able or bool(verdict.displaces)


def choose(
    board: Board,
    group: Mapping[UnitName, Requirements],
    prefer: Sequence[MachineId] = (),
) -> Choice:
    """The machine for units that go together, mostly just one.

    `prefer` are machines they are on already: one that still suits, with nobody displaced, is
    taken whatever the load.
    """
    for machine in prefer:
        verdict = board.judge(group, machine)
        if verdict.able and not verdict.displaces:
            return Choice(machine=machine, why=f"it is on machine {short(machine)} already")
    templates = tuple(filter(None, (split_name(unit).template for unit in group)))

    def order(machine: MachineId) -> tuple[int, int, MachineId]:
        alike = sum(board.instances(template, machine) for template in templates)
        return alike, board.load(machine), machine

    reasons: dict[str, str] = {}
    for machine in sorted(board.machines, key=order):
        verdict = board.judge(group, machine)
        if verdict.able:
            why = _why(machine, templates[:1], *order(machine)[:2])
            return Choice(machine=machine, why=why, displaces=verdict.displaces)
        reasons[machine] = verdict.reason
    return Choice(reasons=dict(sorted(reasons.items())))


def short(machine: MachineId) -> str:
    """The machine as sentences name it."""
    return machine[:SHORT_ID_LENGTH]


def _why(machine: MachineId, templates: Sequence[UnitName], alike: int, load: int) -> str:
    units = f"{load} unit{'' if load == 1 else 's'}"
    fewest = "".join(f"the fewest of {template} ({alike}) and " for template in templates)
    return f"machine {short(machine)} suits it and has {fewest or 'the fewest units, '}{units}"


def _near(asked: Requirements, place: _Place) -> Mapping[UnitName, Requirements]:
    """The neighbours that matter to a unit that asks this."""
    if asked.conflicts or asked.replaces:
        return place.staying
    if not asked.machine_of:
        return place.repelling
    peers = {UnitName(peer) for peer in asked.machine_of} & place.staying.keys()
    return place.repelling | {peer: place.staying[peer] for peer in peers}


def _by_name(units: Mapping[UnitName, Requirements]) -> Mapping[UnitName, Requirements]:
    """The same in order of name, so that of two reasons it is always the same that is given."""
    return dict(sorted(units.items())) if len(units) > 1 else units
