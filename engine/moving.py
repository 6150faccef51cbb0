"""Rebalancing carried out: the moves that are found are written as the engine would write them.

Whoever is asked writes, for the leader that the store named when it was looked at: the guards are
the leader's own, its fence among them, so that nothing is written for one that was deposed, or
about what has changed since. Then all is looked at anew. docs/decisions/0012-rebalancing.md has why
the leader is not asked to do it.
"""

import contextlib
from collections.abc import Sequence

from engine.apply import decide
from engine.rebalancing import Move, find_moves, foreseen_of, tasks_of
from fleet.batch import Decision
from fleet.cluster import Cluster, Leader
from fleet.errors import Conflict
from fleet.foresight import Foreseen
from fleet.registry import Registry
from fleet.store.port import Guard

# So many units at a time are one transaction: each is a guard and two writes, and each new machine
# two guards.
_AT_A_TIME = 24
# How often in a row what was looked at may change before it is written.
_ATTEMPTS = 5


class Rebalancer:
    """Finds and makes the moves that even out the load of one cluster."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def foresee(self, most: int) -> Foreseen:
        """The next moves, at most so many; nothing is moved."""
        cluster = await self._registry.cluster()
        return foreseen_of(cluster, find_moves(cluster, most))

    async def rebalance(self, most: int, *, by: str) -> Foreseen:
        """Set the next moves going, at most so many, and say which.

        Raises Conflict if nobody leads the cluster, if vanished machines are held, or if the
        cluster changes faster than moves can be written; if some were made by then, it says those.
        """
        cluster, made = await self._move_some(most, by=by)
        more = made
        while more and len(made) < most:
            try:
                cluster, more = await self._move_some(most - len(made), by=by)
            except Conflict:
                break
            made += more
        return foreseen_of(cluster, made)

    async def _move_some(self, most: int, *, by: str) -> tuple[Cluster, tuple[Move, ...]]:
        """Make as many of the next moves as are one transaction, of the cluster as it is."""
        for _ in range(_ATTEMPTS):
            cluster = await self._registry.cluster()
            leader = _leader_of(cluster)
            moves = _first(find_moves(cluster, most))
            with contextlib.suppress(Conflict):
                await self._write(cluster, leader, moves, by=by)
                return cluster, moves
        raise Conflict("the cluster changes all the time, and nothing is moved; try again")

    async def _write(
        self, cluster: Cluster, leader: Leader, moves: Sequence[Move], *, by: str
    ) -> None:
        decisions = []
        for move in moves:
            parts = [
                decide(task, self._registry, leader) for task in tasks_of(cluster, move, by=by)
            ]
            decisions.append(
                Decision(
                    operations=[each for part in parts for each in part.operations],
                    guards=[
                        *self._premises(cluster, move),
                        *(each for part in parts for each in part.guards),
                    ],
                    events=[each for part in parts for each in part.events],
                )
            )
        since = cluster.latest_rows
        await self._registry.leadership.commit(leader, decisions, since=since)

    def _premises(self, cluster: Cluster, move: Move) -> list[Guard]:
        """That no unit has changed, and that the new machine is as it was, and takes units."""
        keys = self._registry.keys
        return [
            Guard(keys.latest_change, modified=cluster.latest_change),
            Guard(keys.machine(move.target), modified=cluster.registrations[move.target]),
            Guard(keys.cordon(move.target), modified=0),
        ]


def _leader_of(cluster: Cluster) -> Leader:
    """Who leads, and may move units now; raises Conflict."""
    if cluster.leader is None:
        raise Conflict("no engine leads the cluster, so nothing is moved; try again when one does")
    if cluster.current_hold is not None:
        raise Conflict(
            "machines that vanished are held, so nothing is moved; see fleetctl hold: "
            f"{cluster.current_hold.reason}"
        )
    return cluster.leader


def _first(moves: Sequence[Move]) -> tuple[Move, ...]:
    """As many of the moves as are made at a time, at least one."""
    units, count = 0, 0
    for move in moves:
        units += len(move.pack)
        if count and units > _AT_A_TIME:
            break
        count += 1
    return tuple(moves[:count])
