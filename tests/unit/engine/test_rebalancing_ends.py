"""Rebalancing made: plans carry it on, no unit is without a copy that runs, and it comes to an end.

The worlds are those of `test_random_worlds`, drawn by seed, to which machines come late.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.rebalancing import Move, find_moves, tasks_of
from fleet.cluster import Cluster
from fleet.names import UnitName
from fleet.states import TargetState
from tests.unit.engine.test_random_worlds import SEASONED, WORLDS_PER_TEST, Dice, at_rest
from tests.unit.engine.test_small_worlds import check_peace, check_settled
from tests.unit.engine.worlds import all_up, carried_out, planned, rows_of, with_machines

ROUNDS = 20


def uneven(dice: Dice) -> Cluster:
    """A world at rest, to which one or two machines have just come."""
    cluster = at_rest(dice.world())
    late = [dice.machine(number) for number in range(7, 7 + dice.chance.randint(1, 2))]
    return at_rest(with_machines(cluster, *late))


def begun(cluster: Cluster, moves: tuple[Move, ...]) -> Cluster:
    """The cluster after the moves were written, of which every part is peaceful."""
    after = cluster
    for move in moves:
        after = carried_out(after, tasks_of(cluster, move, by="root@box"))
        check_peace(after)
    return after


def running(cluster: Cluster) -> set[UnitName]:
    """The units with a row where they are up."""
    up = {(state.unit, state.machine) for state in cluster.states if state.is_up}
    return {row.unit for row in cluster.schedule if (row.unit, row.machine) in up}


def coming_up(cluster: Cluster, dice: Dice) -> Iterator[Cluster]:
    """The cluster as its units come up where they have rows, one after the other."""
    states = list(all_up(cluster).states)
    dice.chance.shuffle(states)
    yield cluster
    known = {(state.unit, state.machine): state for state in cluster.states}
    for state in states:
        known[state.unit, state.machine] = state
        yield replace(cluster, states=tuple(known.values()))


def finished(cluster: Cluster, dice: Dice) -> Cluster:
    """The cluster when all that moves has moved; at no step is a unit without a running copy.

    Plans do nothing about what moves but take old rows away; who waited for room may get it.
    """
    launched = {n for n, each in cluster.units.items() if each.target is TargetState.LAUNCHED}
    up = running(cluster) & launched
    moved = {row.unit for row in cluster.schedule if row.leaving}
    schedule = cluster
    for step in coming_up(cluster, dice):
        schedule = replace(schedule, states=step.states)
        tasks = planned(schedule, SEASONED).tasks
        for task in tasks:
            assert task.unit not in moved or (task.row and task.row.leaving), str(task)
        schedule = carried_out(schedule, tasks)
        assert running(schedule) >= up
    return schedule


def spread(cluster: Cluster) -> int:
    """The sum of the squares of the machines' loads: the smaller, the more even."""
    loads = Counter(row.machine for row in cluster.schedule if not row.leaving)
    return sum(load * load for load in loads.values())


@pytest.mark.parametrize("start", range(0, 5 * WORLDS_PER_TEST, WORLDS_PER_TEST))
def test_moves_are_carried_on_by_plans_and_rebalancing_again_and_again_ends(start: int) -> None:
    made = 0
    for seed in range(start, start + WORLDS_PER_TEST):
        dice = Dice(seed)
        cluster = uneven(dice)
        for _ in range(ROUNDS):
            moves = find_moves(cluster, dice.chance.choice((1, 100)))
            if not moves:
                break
            made += len(moves)
            moving = begun(cluster, moves)
            assert spread(moving) < spread(cluster)
            cluster = at_rest(finished(moving, dice))
            assert rows_of(cluster) >= {f"{u}@{move.target}" for move in moves for u in move.pack}
            check_settled(cluster)
        else:
            raise AssertionError(f"world {seed} is rebalanced without end")
    assert made > WORLDS_PER_TEST / 5, "these worlds hardly try anything"


@pytest.mark.parametrize("start", range(0, 5 * WORLDS_PER_TEST, WORLDS_PER_TEST))
def test_who_asks_twice_at_once_moves_nothing_more(start: int) -> None:
    for seed in range(start, start + WORLDS_PER_TEST):
        cluster = uneven(Dice(seed))
        moving = begun(cluster, find_moves(cluster, 100))
        assert find_moves(moving, 100) == (), seed
