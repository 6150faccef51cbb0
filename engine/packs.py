"""What leaves a machine together: units that hang together by MachineOf run on one machine."""

from collections.abc import Mapping

from fleet.names import UnitName
from fleet.options import Requirements

Pack = tuple[UnitName, ...]


def packs(staying: Mapping[UnitName, Requirements]) -> tuple[Pack, ...]:
    """The units of one machine in packs that leave it whole or not at all, in order of name.

    Global units leave no machine, and nobody has to move because of them.
    """
    movable = {unit: asked for unit, asked in staying.items() if not asked.is_global}
    neighbours: dict[UnitName, set[UnitName]] = {unit: set() for unit in movable}
    for unit, asked in movable.items():
        for peer in (UnitName(peer) for peer in asked.machine_of):
            if peer in movable:
                neighbours[unit].add(peer)
                neighbours[peer].add(unit)
    found: list[Pack] = []
    seen: set[UnitName] = set()
    for unit in sorted(movable):
        if unit not in seen:
            pack = _reach(unit, neighbours)
            seen |= pack
            found.append(tuple(sorted(pack)))
    return tuple(found)


def _reach(start: UnitName, neighbours: Mapping[UnitName, set[UnitName]]) -> set[UnitName]:
    reached: set[UnitName] = set()
    open_ends = [start]
    while open_ends:
        unit = open_ends.pop()
        if unit not in reached:
            reached.add(unit)
            open_ends.extend(neighbours[unit])
    return reached
