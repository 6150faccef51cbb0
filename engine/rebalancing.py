"""Which units would go from the fullest machines to the emptiest, what that would gain, and the
tasks that set them going.

The scheduler rebalances nothing by itself, so machines that came late are empty. Asked here, it
chooses anew for one unit after the other, fullest machine first, as if the unit were new: so
constraints, wishes and the spread of instances hold as ever. A move has to gain something: its new
machine has fewer units afterwards than its old one had before. So every move makes the squares of
the loads a smaller sum, and rebalancing over and over comes to an end. Nobody is displaced, and
what has begun to leave a machine still stands in the way there, so that all of these moves can be
under way at once.

A move is what a plan for a drained machine begins with: a row on the new machine, and the old row
marked as leaving. Plans take it from there: a unit that has rows stays where it does not leave, and
the old row goes when the unit is up in its new place.

These stay: global units, pinned ones, whatever is on a cordoned machine (that is what a cordon
says; a drain moves its units anyway), what is not up or not yet as it is wanted, what moves
already, and fenced units, which would have to stop before they start elsewhere. Nobody comes to a
machine where anything is not yet as it is wanted. Units that go together (MachineOf) go together or
not at all, and count as one move. They are one transaction, for half a move would be a plan's to
mend: a pack that is too large for that stays.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from engine.board import Board
from engine.facts import Facts
from engine.packs import Pack, packs
from engine.reasons import short
from engine.scheduler import choose
from engine.tasks import Task, TaskKind
from fleet.cluster import Assignment, Cluster
from fleet.foresight import Foreseen, ForeseenUnit
from fleet.machine import Cordon, MachineId
from fleet.names import UnitName
from fleet.store.port import MAX_TXN_OPS

# Each unit of a move is two rows; beside them its transaction writes a mark, and in two parts what
# is told of it.
MOST_TOGETHER = (MAX_TXN_OPS - 3) // 2
# Why nobody is moved to a machine for now.
_UNSETTLED = Cordon(by="", why="not all there is as it is wanted", drain=False)


@dataclass(frozen=True, slots=True)
class Move:
    """Units that go from one machine to another together, and why."""

    pack: Pack
    source: MachineId
    target: MachineId
    reason: str


def find_moves(cluster: Cluster, most: int) -> tuple[Move, ...]:
    """The next moves, at most so many, in order; none while machines that vanished are held."""
    return () if cluster.current_hold else tuple(islice(_moves(Facts.of(cluster)), most))


def tasks_of(cluster: Cluster, move: Move, *, by: str) -> Iterator[Task]:
    """What sets one of the cluster's moves going, as somebody has asked for."""
    reason = f"{move.reason}; rebalance asked for by {by}"
    stays = f"{reason}; it stays until it is up on machine {short(move.target)}"
    for unit in move.pack:
        (row,) = cluster.assignments_of(unit)
        yield _task(cluster, TaskKind.LEAVE, replace(row, leaving=True, reason=stays))
        there = replace(row, machine=move.target, reason=reason, revision=0)
        yield _task(cluster, TaskKind.PLACE, there)


def _task(cluster: Cluster, kind: TaskKind, row: Assignment) -> Task:
    return Task(
        kind=kind,
        unit=row.unit,
        machine=row.machine,
        reason=row.reason,
        row=row,
        unit_revision=cluster.units[row.unit].revision,
    )


def foreseen_of(cluster: Cluster, moves: Iterable[Move]) -> Foreseen:
    """The moves of one cluster as the API tells of them."""
    told = {machine for move in moves for machine in (move.source, move.target)}
    known = sorted(told & cluster.machines.keys())
    return Foreseen(
        revision=cluster.latest_change,
        units=tuple(_foreseen(unit, move) for move in moves for unit in move.pack),
        addresses={machine: cluster.machines[machine].address for machine in known},
    )


def _foreseen(unit: UnitName, move: Move) -> ForeseenUnit:
    return ForeseenUnit(
        name=unit,
        was=(move.source,),
        machines=(move.target,),
        reasons={move.target: move.reason},
    )


def _moves(facts: Facts) -> Iterator[Move]:
    board = _board_of(facts)
    asked: set[UnitName] = set()
    while (move := _next_move(facts, board, asked)) is not None:
        yield move


def _board_of(facts: Facts) -> Board:
    """The machines with their units as the rows have them.

    Nobody comes to one where a row is not as its unit is wanted: what runs there asks for something
    that cannot be told any more, and may not bear a newcomer.
    """
    unsettled = {
        machine
        for unit, rows in facts.rows.items()
        for machine, row in rows.items()
        if not _is_as_wanted(facts, unit, row)
    }
    board = Board(
        replace(each, cordon=each.cordon or _UNSETTLED) if each.id in unsettled else each
        for each in facts.machines.values()
    )
    for unit, record in facts.wanted.items():
        for machine, row in facts.rows_of(unit).items():
            if machine in board.machines:
                place = board.let_leave if row.leaving else board.put
                place(unit, record.requirements, machine)
    return board


def _is_as_wanted(facts: Facts, unit: UnitName, row: Assignment) -> bool:
    record = facts.wanted.get(unit)
    if record is None or facts.problem_of(unit):
        return False
    return (row.hash, row.file, row.target) == (record.hash, record.file, record.target)


def _next_move(facts: Facts, board: Board, asked: set[UnitName]) -> Move | None:
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
            move = _move(facts, board, pack, source) if _may_go(facts, pack, source) else None
            if move is not None:
                return move
    return None


def _may_go(facts: Facts, pack: Pack, machine: MachineId) -> bool:
    fits = len(pack) <= MOST_TOGETHER
    return fits and all(_is_movable(facts, unit, machine) for unit in pack)


def _is_movable(facts: Facts, unit: UnitName, machine: MachineId) -> bool:
    if len(facts.rows_of(unit)) != 1 or unit in facts.fenced:
        return False
    is_as_wanted = _is_as_wanted(facts, unit, facts.rows_of(unit)[machine])
    return is_as_wanted and facts.is_up(unit, machine)


def _move(facts: Facts, board: Board, pack: Pack, source: MachineId) -> Move | None:
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
    return Move(pack, source, target, f"machine {short(source)} has {load} units; {choice.why}")
