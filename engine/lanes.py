"""Machines in order of a level that mostly grows, without sorting them at every look.

Theory of operation. Levels are few and machines many, so each level has a shelf for its machines.
Placing a unit makes its machine's level grow, and that is not told: a machine may stand on too low
a shelf, but never on too high a one. The first machine of the lowest shelf is compared with its
level of now, and moves up if that has grown. Only what makes a level fall has to be told. A shelf
is put in order of id when it has become the lowest, once and not at every placement, however many
machines and lanes there are.
"""

import heapq
from collections.abc import Callable, Iterable

from fleet.machine import MachineId

# How many instances of its templates are on a machine, and how many units in all.
Level = tuple[int, int]

# When more entries than this for each machine have been left behind, the shelves are built anew.
_MOST_LEFT_BEHIND = 2


class Lane:
    """Some machines in order of their levels, and of their ids on one level."""

    def __init__(self, machines: Iterable[MachineId], level: Callable[[MachineId], Level]) -> None:
        self._level = level
        # Where each machine stands; an entry for it on any other shelf has been left behind.
        self._standing = {machine: level(machine) for machine in machines}
        self._build()

    def _build(self) -> None:
        self._shelves: dict[Level, list[MachineId]] = {}
        for machine, level in self._standing.items():
            self._shelves.setdefault(level, []).append(machine)
        self._levels = sorted(self._shelves)
        self._unsorted = set(self._shelves)
        self._left_behind = 0

    def first(self, accepts: Callable[[MachineId], bool]) -> MachineId | None:
        """The first machine in order that is accepted; each is asked about once at most."""
        refused: dict[MachineId, Level] = {}
        found = None
        while self._levels and found is None:
            level = self._levels[0]
            found = self._first_of(level, accepts, refused)
            if found is None:
                del self._shelves[heapq.heappop(self._levels)]
        for machine, level in reversed(refused.items()):  # as they stood: nothing to sort anew
            self._put(machine, level)
        return found

    def _first_of(
        self, level: Level, accepts: Callable[[MachineId], bool], refused: dict[MachineId, Level]
    ) -> MachineId | None:
        """The first on the lowest shelf that is accepted; those before it are taken down."""
        shelf, standing = self._shelves[level], self._standing
        if level in self._unsorted:
            shelf.sort(reverse=True)
            self._unsorted.discard(level)
        while shelf:
            machine = shelf[-1]
            if standing.get(machine) == level and machine not in refused:
                now = self._level(machine)
                if now > level:
                    self._put(machine, now)
                elif accepts(machine):
                    return machine
                else:
                    refused[machine] = level
            shelf.pop()
        return None

    def lower(self, machine: MachineId) -> None:
        """The level of a machine may have fallen; one that is new here comes in."""
        now = self._level(machine)
        old = self._standing.get(machine)
        if old is None or now < old:
            self._put(machine, now)
            if old is not None:
                self._leave_behind()

    def remove(self, machine: MachineId) -> None:
        if self._standing.pop(machine, None) is not None:
            self._leave_behind()

    def _put(self, machine: MachineId, level: Level) -> None:
        """Stand the machine on a shelf: the last one there is the first in order."""
        self._standing[machine] = level
        shelf = self._shelves.get(level)
        if shelf is None:
            self._shelves[level] = [machine]
            heapq.heappush(self._levels, level)
            return
        if machine > shelf[-1]:
            self._unsorted.add(level)
        shelf.append(machine)

    def _leave_behind(self) -> None:
        self._left_behind += 1
        if self._left_behind > _MOST_LEFT_BEHIND * len(self._standing) + 100:
            self._build()
