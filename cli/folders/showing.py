"""A difference as text: unit by unit, as lines with a meaning that a terminal may colour."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from cli.tables import legend
from fleet.folder.difference import Difference, UnitDifference
from fleet.foresight import Foreseen, ForeseenUnit
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState


class Tone(Enum):
    """What a line is about."""

    PLAIN = "plain"
    HEADING = "heading"
    ADDED = "added"
    REMOVED = "removed"
    PLACE = "place"


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    tone: Tone = Tone.PLAIN


def show(difference: Difference, foreseen: Foreseen, *, prune: bool) -> list[Line]:
    """The whole difference, with where the scheduler would have units run.

    What is stored needs its text for its contents to be compared.
    """
    units = {unit.name: unit for unit in foreseen.units}
    lines: list[Line] = []
    for one in difference.differing:
        lines += _unit(one, units.pop(one.name, None), foreseen.addresses)
    for one in difference.orphans:
        if prune:
            lines += _destroyed(one, units.pop(one.name, None), foreseen.addresses)
        else:
            told = f"{one.name}: no longer here; apply --prune would destroy it"
            lines.append(Line(told, Tone.HEADING))
    for name in difference.adopted:
        units.pop(name, None)
    for unit in units.values():
        lines.append(Line(f"{unit.name}: moves on their account", Tone.HEADING))
        lines += _places(unit, foreseen.addresses)
    return [*lines, Line(summary(difference, prune=prune))]


def summary(difference: Difference, *, prune: bool) -> str:
    """The last line: how much there is to do, and the revision that this holds for."""
    created = sum(one.stored is None for one in difference.differing)
    counts = [
        (created, "to create"),
        (len(difference.differing) - created, "to change"),
        (len(difference.orphans) if prune else 0, "to destroy"),
        (len(difference.adopted), f"to belong to {difference.source}"),
        (difference.unchanged, "unchanged"),
    ]
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    return f"{told or 'no units'} (revision {difference.revision})"


def _unit(
    one: UnitDifference, foreseen: ForeseenUnit | None, addresses: Mapping[MachineId, str]
) -> Iterator[Line]:
    if one.desired is None:
        return
    yield Line(f"{one.name}: {_what(one, one.desired.target)}", Tone.HEADING)
    if foreseen is not None:
        yield from _places(foreseen, addresses)
    if one.rewrites:
        before = (one.stored.text or "") if one.stored else ""
        old = f"{one.name} in the cluster" if one.stored else "/dev/null"
        yield from _text_lines(before, one.desired.file.text, old, one.desired.path)


def _what(one: UnitDifference, target: TargetState) -> str:
    if one.stored is None:
        return f"created, {target}"
    told = ["its contents change"] if one.renews else []
    if one.rewrites and not one.renews:
        told.append("only its comments change")
    if one.retargets:
        told.append(f"target state {one.stored.target} -> {target}")
    return ", ".join(told)


def _destroyed(
    one: UnitDifference, foreseen: ForeseenUnit | None, addresses: Mapping[MachineId, str]
) -> Iterator[Line]:
    yield Line(f"{one.name}: destroyed, no longer here", Tone.HEADING)
    if foreseen is not None:
        yield from _places(foreseen, addresses)


def _places(unit: ForeseenUnit, addresses: Mapping[MachineId, str]) -> Iterator[Line]:
    """Where the unit would run and why; or why nowhere."""

    def told(machine: str) -> str:
        return legend(machine, addresses.get(MachineId(machine), ""))

    for machine in unit.machines:
        if machine in unit.was:
            yield Line(f"  stays on {told(machine)}", Tone.PLACE)
        else:
            reason = unit.reasons.get(machine, "")
            because = f": {reason}" if reason else ""
            yield Line(f"  on {told(machine)}{because}", Tone.PLACE)
    for machine in unit.was:
        if machine not in unit.machines:
            yield Line(f"  no longer on {told(machine)}", Tone.PLACE)
    if not unit.refusals:
        return
    yield Line("  runs nowhere:" if not unit.machines else "  refused:", Tone.PLACE)
    for refusing, reason in sorted(unit.refusals.items()):
        where = told(refusing) if refusing else "every machine"
        yield Line(f"    {where}: {reason}", Tone.PLACE)


def _text_lines(before: str, after: str, old: str, new: str) -> Iterator[Line]:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), fromfile=old, tofile=new, lineterm=""
    )
    for line in lines:
        yield Line(line, _tone(line))


def _tone(line: str) -> Tone:
    if line.startswith(("---", "+++", "@@")):
        return Tone.PLAIN
    return {"+": Tone.ADDED, "-": Tone.REMOVED}.get(line[:1], Tone.PLAIN)


def done_lines(difference: Difference, *, prune: bool) -> Iterator[str]:
    """What was done to each unit, a line each; of those destroyed the wait tells."""
    for one in difference.differing:
        if one.stored is None:
            yield f"Unit {one.name} created"
        elif one.rewrites:
            yield f"Unit {one.name} updated"
        elif one.desired is not None:
            yield f"Unit {one.name} set to {one.desired.target}"


def done_summary(difference: Difference, *, prune: bool) -> str:
    """The last line of an apply."""
    created = sum(one.stored is None for one in difference.differing)
    counts = [
        (created, "created"),
        (len(difference.differing) - created, "changed"),
        (len(difference.orphans) if prune else 0, "destroyed"),
        (difference.unchanged + len(difference.adopted), "unchanged"),
    ]
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    source = f" from {difference.source}" if difference.source else ""
    return f"Applied{source}: {told or 'no units'}."


def names_of(units: Iterable[UnitDifference], most: int = 10) -> str:
    """The names of the units, as many as a line takes."""
    names: list[UnitName] = [one.name for one in units]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
