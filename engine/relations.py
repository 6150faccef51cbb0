"""How units hang together by MachineOf and Replaces: who goes with whom, and who comes first."""

from collections.abc import Mapping

from fleet.constraints import first_match
from fleet.names import UnitName
from fleet.options import Requirements

Group = tuple[UnitName, ...]


class Relations:
    """The relations among the units that are wanted, worked out when first asked for."""

    def __init__(self, asked: Mapping[UnitName, Requirements]) -> None:
        self._asked = asked
        self._needs: dict[UnitName, frozenset[UnitName]] = {}
        self._driven_out: dict[UnitName, tuple[UnitName, ...]] = {}

    def needs(self, unit: UnitName) -> frozenset[UnitName]:
        """The wanted units it depends on by MachineOf at any distance; itself if in a circle."""
        if not self._peers(unit):
            return frozenset()
        if unit not in self._needs:
            found: set[UnitName] = set()
            open_ends = list(self._peers(unit))
            while open_ends:
                peer = open_ends.pop()
                if peer not in found:
                    found.add(peer)
                    open_ends.extend(self._peers(peer))
            self._needs[unit] = frozenset(found)
        return self._needs[unit]

    def groups(self, revisions: Mapping[UnitName, int]) -> tuple[Group, ...]:
        """The units, those that need each other as one group, in the order in which they decide.

        Older ones come first, and every one after what it needs: a follower counts as young as
        the youngest unit it follows.
        """
        ranked: list[tuple[int, int, Group]] = []
        for unit in self._asked:
            needs = self.needs(unit)
            group: Group = (unit,)
            if unit in needs:
                group = tuple(sorted(peer for peer in needs if unit in self.needs(peer)))
                if unit != group[0]:
                    continue
            youngest = max(revisions[name] for name in {unit, *needs})
            ranked.append((youngest, len(needs), group))
        return tuple(group for _, _, group in sorted(ranked))

    def veto(self, unit: UnitName, other: UnitName) -> str:
        """Why the unit may not displace another although it replaces it, or nothing.

        Without these two rules such units would push each other from machine to machine for ever.
        """
        if other in self.needs(unit):
            return f"it replaces {other}, on which it depends by MachineOf"
        if self._reaches(other, unit):
            return f"{other} is here, and they replace each other in a circle"
        return ""

    def _peers(self, unit: UnitName) -> tuple[UnitName, ...]:
        asked = self._asked[unit]
        if asked.is_global:
            return ()
        return tuple(UnitName(peer) for peer in asked.machine_of if peer in self._asked)

    def _reaches(self, start: UnitName, goal: UnitName) -> bool:
        seen: set[UnitName] = set()
        open_ends = [start]
        while open_ends:
            unit = open_ends.pop()
            if unit == goal:
                return True
            if unit not in seen:
                seen.add(unit)
                open_ends.extend(self._drives_out(unit))
        return False

    def _drives_out(self, unit: UnitName) -> tuple[UnitName, ...]:
        """The units that it replaces, and those that go with them."""
        patterns = self._asked[unit].replaces
        if not patterns:
            return ()
        if unit not in self._driven_out:
            replaced = {n for n in self._asked if n != unit and first_match(patterns, n)}
            followers = {n for n in self._asked if not replaced.isdisjoint(self.needs(n))}
            self._driven_out[unit] = tuple(sorted(replaced | followers))
        return self._driven_out[unit]
