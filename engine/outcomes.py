"""What a settlement means for one unit: where it is to run, or why it runs nowhere."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.board import Board
from engine.facts import Facts
from engine.reasons import short
from engine.scheduler import why_nowhere
from fleet.machine import MachineId
from fleet.names import UnitName

NO_MACHINES = "there are no machines in the cluster"
ALL_VANISHED = "every machine of the cluster has vanished, and is waited for"


@dataclass(slots=True)
class Settlement:
    """Who runs where.

    `homes` are the machines of each wanted unit, `reasons` what hinders each that runs nowhere or
    cannot be judged, by machine. `fixed` units are left alone for now. `stuck` ones are at home on
    a machine that they are to leave, since no other takes them.
    """

    homes: dict[UnitName, set[MachineId]] = field(default_factory=dict)
    reasons: dict[UnitName, Mapping[str, str]] = field(default_factory=dict)
    fixed: set[UnitName] = field(default_factory=set)
    stuck: dict[UnitName, Mapping[str, str]] = field(default_factory=dict)


class Outcome(NamedTuple):
    """Where a unit is to run, on which machines its rows stay as they are while it moves away, and
    why it runs nowhere if it does."""

    homes: frozenset[MachineId]
    lingering: Set[MachineId] = frozenset()
    refusal: Mapping[str, str] | None = None


def outcome_of(
    unit: UnitName, facts: Facts, board: Board, settlement: Settlement, *, is_waiting: bool
) -> Outcome:
    """The outcome for a wanted unit; `is_waiting` says that it looks for a machine."""
    homes = frozenset(settlement.homes[unit])
    rows = facts.rows_of(unit)
    is_at_home = bool(homes) and not facts.problem_of(unit)
    if is_at_home and (not rows or unit in facts.fenced):
        # It has nothing to leave; a fenced one breaks before it is made anew.
        return Outcome(homes=homes, refusal=settlement.stuck.get(unit))
    living = rows.keys() & facts.machines.keys()
    lingering = {machine for machine in living if unit in board.leaving(machine)}
    lost = [row for row in rows.values() if row.machine not in facts.machines]
    if is_at_home:
        if lost and unit not in facts.globals and not facts.has_arrived(unit, homes):
            lingering.update(row.machine for row in lost)
        return Outcome(homes=homes, lingering=lingering, refusal=settlement.stuck.get(unit))
    lingering.update(row.machine for row in lost if row.leaving)
    if not homes:
        # It fits nowhere; a lost machine may yet come back with it.
        homes = frozenset(row.machine for row in lost if not row.leaving)
    reasons = settlement.reasons.get(unit, {})
    if is_waiting:
        reasons = _why_waiting(unit, facts, board, reasons, homes)
    return Outcome(homes=homes, lingering=lingering, refusal=reasons)


def _why_waiting(
    unit: UnitName,
    facts: Facts,
    board: Board,
    reasons: Mapping[str, str],
    lost: Set[MachineId],
) -> Mapping[str, str]:
    if not facts.machines:
        return {"": ALL_VANISHED if facts.held else NO_MACHINES}
    asked = facts.wanted[unit].requirements
    for peer in asked.machine_of:
        if peer not in facts.wanted:
            return {"": f"it asks for MachineOf={peer}, and {peer} is not started"}
    if asked.is_global:
        reasons = why_nowhere(board, {unit: asked})
    if "" in reasons:
        tail = "".join(f"; its machine {short(machine)} is gone" for machine in sorted(lost))
        return {"": reasons[""] + tail}
    gone: dict[str, str] = dict.fromkeys(lost, "its machine is gone, and no other fits")
    return dict(sorted({**reasons, **gone}.items()))
