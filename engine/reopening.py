"""Who has to be decided about anew, when some were stirred: the least that hangs together."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from engine.board import Board
from engine.facts import Facts, Stirred
from fleet.machine import MachineId
from fleet.names import UnitName


@dataclass(slots=True)
class Reopened:
    """The machines to be cleared and the units to be decided about, wanted or not.

    `globals` are decided about on these machines only.
    """

    units: set[UnitName] = field(default_factory=set)
    machines: set[MachineId] = field(default_factory=set)
    globals: set[UnitName] = field(default_factory=set)


def reopen(
    stirred: Stirred, facts: Facts, board: Board, homes: Mapping[UnitName, Set[MachineId]]
) -> Reopened:
    """Everybody who shares a machine with one who is decided about, at any distance.

    Global units tie no machines together: each of their rows is decided about by itself.
    """
    units: set[UnitName] = set()
    machines: set[MachineId] = set()
    more_units, more_machines = list(stirred.units), list(stirred.machines)
    while more_units or more_machines:
        if more_units:
            unit = more_units.pop()
            if unit not in units:
                units.add(unit)
                more_machines += [*facts.stored_rows_of(unit), *homes.get(unit, ())]
                more_units += facts.relations.group(unit) if unit in facts.wanted else ()
            continue
        machine = more_machines.pop()
        if machine not in machines:
            machines.add(machine)
            more_units += _there(machine, facts, board)
    tied = {unit for unit in facts.globals if not machines.isdisjoint(facts.rows_of(unit))}
    return Reopened(units=units, machines=machines, globals=tied - units)


def _there(machine: MachineId, facts: Facts, board: Board) -> set[UnitName]:
    """The units for which it matters what is decided about others on the machine."""
    there: set[UnitName] = set()
    if machine in facts.machines:
        there |= facts.units_on.get(machine, set()) & facts.wanted.keys()
    if machine in board.machines:
        there.update(board.staying(machine), board.leaving(machine))
    return there - facts.globals


def reopen_machine(
    machine: MachineId, facts: Facts, board: Board, homes: Mapping[UnitName, set[MachineId]]
) -> bool:
    """Clear the machine on the board, and bring it in line with what it is now.

    Returns whether machines are not what they were, for those who ask.
    """
    known, living = machine in board.machines, facts.machines.get(machine)
    is_reshaped = known and living is None
    if known and living is None:
        board.remove(machine)
    elif known:
        board.clear(machine)
    if living is not None and board.machine(machine) != living:
        board.add(living)
        is_reshaped = True
    for unit in facts.globals:
        if unit in homes:
            homes[unit].discard(machine)
    return is_reshaped
