"""May this unit run on this machine, beside these units? The one answer engine and agent share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.globs import glob_matches
from fleet.machine import Machine
from fleet.names import UnitName, split_name
from fleet.options import Requirements
from fleet.resources import lacking


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: `reason` says why not and is empty for yes; `displaces` must make room first."""

    reason: str = ""
    displaces: tuple[UnitName, ...] = ()

    @property
    def able(self) -> bool:
        return not self.reason


def able_to_run(
    name: UnitName,
    asked: Requirements,
    machine: Machine,
    neighbours: Mapping[UnitName, Requirements],
) -> Verdict:
    """Whether the machine suits the unit and the machine's other units bear it.

    The checks go in this order: MachineID, MachineMetadata, what the machine has at all, MachineOf,
    Conflicts of either side, Replaces, MaxPerMachine, what is free of CPU and Memory. The unit
    itself among the neighbours is passed over. A unit that `Replaces` names does not stand in the
    way but has to leave; two that replace each other leave each other alone.
    """
    reason = machine_refusal(asked, machine) or _peer_refusal(asked, neighbours)
    if reason:
        return Verdict(reason)
    others = {other: theirs for other, theirs in neighbours.items() if other != name}
    for other, theirs in others.items():
        reason = _conflict(name, asked, other, theirs)
        if reason:
            return Verdict(reason)
    displaces: list[UnitName] = []
    for other, theirs in others.items():
        leaves = first_match(asked.replaces, other) is not None
        stays = first_match(theirs.replaces, name) is not None
        if leaves and not stays:
            displaces.append(other)
        elif stays and not leaves:
            return Verdict(f"{other} is here and replaces it")
    if asked.max_per_machine or asked.reserves:
        staying = {other: theirs for other, theirs in others.items() if other not in displaces}
        reason = _crowding(name, asked, staying) or lacking(
            asked.reserves, machine.resources, (theirs.reserves for theirs in staying.values())
        )
        return Verdict(reason, () if reason else tuple(displaces))
    return Verdict(displaces=tuple(displaces))


def machine_refusal(asked: Requirements, machine: Machine) -> str:
    """Why the machine is not what the unit asks for, whatever runs there; nothing if it is."""
    if asked.machine_id is not None and not machine.answers_to(asked.machine_id):
        return f"the unit asks for MachineID={asked.machine_id}"
    for key in sorted(asked.metadata):
        choices = asked.metadata[key]
        if machine.metadata.get(key) not in choices:
            wanted = " or ".join(f"{key}={choice}" for choice in sorted(choices))
            has = f"{key}={machine.metadata[key]}" if key in machine.metadata else f"no {key}"
            return f"the unit asks for metadata {wanted}, the machine has {has}"
    for condition in asked.conditions:
        if not condition.is_met(machine.metadata):
            key = condition.key
            has = f"{key}={machine.metadata[key]}" if key in machine.metadata else f"no {key}"
            return f"the unit asks for metadata {condition}, the machine has {has}"
    return lacking(asked.reserves, machine.resources) if asked.reserves else ""


def first_match(patterns: Iterable[str], name: str) -> str | None:
    """The first pattern that matches the name, or None."""
    for pattern in patterns:
        if glob_matches(pattern, name):
            return pattern
    return None


def _peer_refusal(asked: Requirements, neighbours: Mapping[UnitName, Requirements]) -> str:
    for peer in asked.machine_of:
        if peer not in neighbours:
            return f"MachineOf={peer}, which is not here"
    return ""


def _crowding(
    name: UnitName, asked: Requirements, neighbours: Mapping[UnitName, Requirements]
) -> str:
    template = split_name(name).template
    if not asked.max_per_machine or not template:
        return ""
    alike = sum(split_name(other).template == template for other in neighbours)
    if alike < asked.max_per_machine:
        return ""
    return f"{alike} of {template} are here already (MaxPerMachine={asked.max_per_machine})"


def _conflict(
    name: UnitName, asked: Requirements, other: UnitName, other_asked: Requirements
) -> str:
    mine = first_match(asked.conflicts, other)
    if mine:
        return f"it conflicts with {other} here (Conflicts={mine})"
    theirs = first_match(other_asked.conflicts, name)
    if theirs:
        return f"{other} here conflicts with it (Conflicts={theirs})"
    return ""
