"""Which machine a unit gets: the pure choice, from machines and the units on them.

Constraints come first (`fleet.constraints`). Among the machines that suit, wishes decide where a
unit has any (`engine.wishes`). Then instances of one template are spread before they are stacked,
then the machine with the fewest units wins, then the lowest machine id. Load counts units of every
kind and nothing else; nothing is rebalanced by itself. A machine that an operator has cordoned
takes no newcomers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from engine.board import Board, template_of
from engine.neighbours import Units
from engine.reasons import MOST_TOLD, short, summarise_counts
from engine.wishes import has_wishes
from fleet.constraints import Verdict
from fleet.machine import MachineId
from fleet.names import UnitName


class Choice(NamedTuple):
    """The machine chosen and why, and the units that make room; or each machine's reason."""

    machine: MachineId | None = None
    why: str = ""
    displaces: tuple[UnitName, ...] = ()
    reasons: Mapping[str, str] = MappingProxyType({})


def choose(
    board: Board, group: Units, prefer: Sequence[MachineId] = (), *, displacing: bool = True
) -> Choice:
    """The machine for units that go together, mostly just one.

    `prefer` are machines they are on already: one that still suits, with nobody displaced, is
    taken whatever the load. Units that could stay where they are displace nobody.
    """
    for machine in prefer:
        verdict = board.judge(group, machine)
        if verdict.able and not verdict.displaces:
            return Choice(machine=machine, why=f"it is on machine {short(machine)} already")
    templates = tuple(filter(None, map(template_of, group)))
    verdicts: dict[MachineId, Verdict] = {}

    def accepts(machine: MachineId) -> bool:
        verdict = board.welcomes(group, machine)
        if verdict.displaces and not displacing:
            verdict = Verdict(f"it would displace {', '.join(verdict.displaces)}")
        verdicts[machine] = verdict
        return verdict.able

    wishes = board.wishes(group) if has_wishes(group) else None
    found = (
        board.first(group, templates, accepts)
        if wishes is None
        else board.first_wished(wishes, group, templates, accepts)
    )
    if found is None:
        return Choice(reasons=_why_not(board, group, verdicts))
    told = board.speaks_for(found, wishes) if wishes else ()
    template = templates[0] if templates else None
    why = _why(found, template, *board.level(templates, found), told)
    return Choice(machine=found, why=why, displaces=verdicts[found].displaces)


def why_nowhere(board: Board, group: Units) -> Mapping[str, str]:
    """Why no machine suits: a reason for each, or under "" one for all if they are many."""
    suiting = board.suiting(group)
    return _why_not(board, group, {machine: board.judge(group, machine) for machine in suiting})


def _why_not(
    board: Board, group: Units, verdicts: Mapping[MachineId, Verdict]
) -> Mapping[str, str]:
    if len(board.machines) <= MOST_TOLD:
        found = {m: verdicts.get(m) or board.welcomes(group, m) for m in sorted(board.machines)}
        return {machine: verdict.reason for machine, verdict in found.items()}
    counts = board.unsuited(group) + Counter(verdict.reason for verdict in verdicts.values())
    return {"": summarise_counts(counts)}


def _why(
    machine: MachineId,
    template: UnitName | None,
    alike: int,
    load: int,
    wishes: Sequence[str],
) -> str:
    units = f"{load} unit{'' if load == 1 else 's'}"
    if wishes:
        beside = f"{alike} of {template} and " if template else ""
        told = ", ".join(wishes)
        return f"machine {short(machine)} suits it, {told}, and it has {beside}{units}"
    fewest = f"the fewest of {template} ({alike}) and " if template else "the fewest units, "
    return f"machine {short(machine)} suits it and has {fewest}{units}"
