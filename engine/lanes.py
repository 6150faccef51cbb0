"""Machines in order of a rank that mostly grows, without sorting them at every look.

Theory of operation. Placing a unit makes its machine's rank grow, and that is not told: an entry of
the heap may be too low, but never too high. What comes to its top is compared with the machine's
rank of now, and goes back with that if it has grown. Only what makes a rank fall has to be told.
So a placement costs a few steps in the heap, however many machines and lanes there are.
"""

import heapq
from collections.abc import Callable, Iterable

from fleet.machine import MachineId

# How many instances of its templates are on a machine, how many units in all, and the machine.
Rank = tuple[int, int, MachineId]

# A heap with more entries than this for each machine is built anew.
_MOST_PER_MACHINE = 3


class Lane:
    """Some machines in order of their ranks."""

    def __init__(self, machines: Iterable[MachineId], rank: Callable[[MachineId], Rank]) -> None:
        self._rank = rank
        self._listed = {machine: rank(machine) for machine in machines}
        self._heap = list(self._listed.values())
        heapq.heapify(self._heap)

    def first(self, accepts: Callable[[MachineId], bool]) -> MachineId | None:
        """The first machine in order that is accepted; each is asked about once at most."""
        heap, listed = self._heap, self._listed
        refused: list[Rank] = []
        found = None
        while heap and found is None:
            entry = heap[0]
            machine = entry[2]
            if listed.get(machine) is not entry:
                heapq.heappop(heap)
                continue
            now = self._rank(machine)
            if now != entry:
                listed[machine] = now
                heapq.heapreplace(heap, now)
            elif accepts(machine):
                found = machine
            else:
                refused.append(heapq.heappop(heap))
        for entry in refused:
            heapq.heappush(heap, entry)
        return found

    def lower(self, machine: MachineId) -> None:
        """The rank of a machine may have fallen; one that is new here comes in."""
        now = self._rank(machine)
        listed = self._listed.get(machine)
        if listed is None or now < listed:
            self._list(machine, now)

    def remove(self, machine: MachineId) -> None:
        self._listed.pop(machine, None)

    def _list(self, machine: MachineId, rank: Rank) -> None:
        self._listed[machine] = rank
        heapq.heappush(self._heap, rank)
        if len(self._heap) > _MOST_PER_MACHINE * len(self._listed) + 100:
            self._heap = list(self._listed.values())
            heapq.heapify(self._heap)
