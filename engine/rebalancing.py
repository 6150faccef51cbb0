"""Which units would go from the fullest machines to the emptiest, and what that would gain.

The scheduler rebalances nothing by itself, so machines that came late are empty. Asked here, it
chooses anew for one unit after the other, fullest machine first, as if the unit were new: so
constraints, wishes and the spread of instances hold as ever. A move has to gain something: its new
machine has fewer units afterwards than its old one had before. Nobody is displaced, and what has
begun to leave a machine still stands in the way there, so that all of these moves can be under way
at once.

These stay: global units, pinned ones, whatever is on a cordoned machine (that is what a cordon
says; a drain moves its units anyway), what is not up or moves already, and fenced units, which
would have to stop before they start elsewhere. Units that go together (MachineOf) go together or
not at all, and count as one move.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from engine.board import Board
from engine.facts import Facts
from engine.packs import Pack, packs
from engine.reasons import short
from engine.scheduler import choose
from fleet.cluster import Cluster
from fleet.foresight import Foreseen, ForeseenUnit
from fleet.machine import MachineId
from fleet.names import UnitName


@dataclass(frozen=True, slots=True)
class _Move:
    pack: Pack
    source: MachineId
    target: MachineId
    reason: str


def rebalance(cluster: Cluster, most: int) -> Foreseen:
    """The next moves, at most so many, in order; none while machines that vanished are held."""
    facts = Facts.of(cluster)
    moves = [] if cluster.current_hold else list(islice(_moves(facts), most))
    told = sorted({machine for move in moves for machine in (move.source, move.target)})
    return Foreseen(
        revision=cluster.latest_change,
        units=tuple(_foreseen(unit, move) for move in moves for unit in move.pack),
        addresses={machine: facts.machines[machine].address for machine in told},
    )


def _foreseen(unit: UnitName, move: _Move) -> ForeseenUnit:
    return ForeseenUnit(
        name=unit,
        was=(move.source,),
        machines=(move.target,),
        reasons={move.target: move.reason},
    )


def _moves(facts: Facts) -> Iterator[_Move]:
    board = _board_of(facts)
    asked: set[UnitName] = set()
    while (move := _next_move(facts, board, asked)) is not None:
        yield move


def _board_of(facts: Facts) -> Board:
    """The machines with their units as the rows have them."""
    board = Board(facts.machines.values())
    for unit, record in facts.wanted.items():
        for machine, row in facts.rows_of(unit).items():
            if machine in facts.machines:
                place = board.let_leave if row.leaving else board.put
                place(unit, record.requirements, machine)
    return board


def _next_move(facts: Facts, board: Board, asked: set[UnitName]) -> _Move | None:
    """The next move; who gains nothing now is not asked again, for moves leave less to gain."""
    open_ones = [machine.id for machine in facts.machines.values() if machine.cordon is None]
    least = min(map(board.load, open_ones), default=0)
    for source in sorted(open_ones, key=lambda machine: (-board.load(machine), machine)):
        if board.load(source) < least + 2:
            return None
        found = packs(board.staying(source))
        for pack in sorted(found, key=lambda pack: (len(pack), pack)):
            if not asked.isdisjoint(pack):
                continue
            asked.update(pack)
            if all(_is_movable(facts, unit, source) for unit in pack):
                move = _move(facts, board, pack, source)
                if move is not None:
                    return move
    return None


def _is_movable(facts: Facts, unit: UnitName, machine: MachineId) -> bool:
    settled = len(facts.rows_of(unit)) == 1 and facts.is_up(unit, machine)
    return settled and unit not in facts.fenced and not facts.problem_of(unit)


def _move(facts: Facts, board: Board, pack: Pack, source: MachineId) -> _Move | None:
    """The move of the pack if it gains anything; the board is left as it is after it."""
    load = board.load(source)
    asked = {unit: facts.wanted[unit].requirements for unit in pack}
    for unit in pack:
        board.take(unit, source)
    choice = choose(board, asked, displacing=False)
    target = choice.machine
    if target is None or target == source or board.load(target) + len(pack) >= load:
        target = None
    for unit, requirements in asked.items():
        board.put(unit, requirements, target or source)
        if target is not None:
            board.let_leave(unit, requirements, source)
    if target is None:
        return None
    return _Move(pack, source, target, f"machine {short(source)} has {load} units; {choice.why}")
