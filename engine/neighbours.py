"""The units of one machine, and those of them that matter to another unit."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.constraints import first_match
from fleet.machine import Machine
from fleet.names import UnitName
from fleet.options import Requirements

Units = Mapping[UnitName, Requirements]


@dataclass(slots=True)
class Place:
    """A machine, the units that stay on it (`repelling` ones among them) and those that leave."""

    machine: Machine
    staying: dict[UnitName, Requirements] = field(default_factory=dict)
    repelling: dict[UnitName, Requirements] = field(default_factory=dict)
    leaving: dict[UnitName, Requirements] = field(default_factory=dict)


def near(unit: UnitName, asked: Requirements, place: Place) -> Units:
    """The neighbours that matter to a unit that asks this: mostly none."""
    if asked.max_per_machine or asked.reserves:
        return place.staying
    if asked.conflicts or asked.replaces:
        found = {
            other: theirs
            for other, theirs in place.staying.items()
            if repels(asked, other) or (other in place.repelling and repels(theirs, unit))
        }
    else:
        found = {other: each for other, each in place.repelling.items() if repels(each, unit)}
    for peer in asked.machine_of:
        if peer in place.staying:
            found[UnitName(peer)] = place.staying[UnitName(peer)]
    return found


def repels(asked: Requirements, other: UnitName) -> bool:
    """Whether a unit that asks this keeps the other away, or is kept away by it."""
    return first_match((*asked.conflicts, *asked.replaces), other) is not None


def by_name(units: Units) -> Units:
    """The same in order of name, so that of two reasons it is always the same that is given."""
    return dict(sorted(units.items())) if len(units) > 1 else units
