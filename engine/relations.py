"""How units hang together by MachineOf and Replaces: who goes with whom, and who comes first.

They are told of units one by one, and work out what is asked of them when it is first asked.
"""

from collections.abc import Mapping, Set

from fleet.constraints import first_match
from fleet.names import UnitName
from fleet.options import Requirements

Group = tuple[UnitName, ...]
# When a group decides: the revision of its youngest, how many it follows, and itself.
Turn = tuple[int, int, Group]

_NOBODY: frozenset[UnitName] = frozenset()


class Relations:
    """The relations among the units that are wanted."""

    def __init__(self, asked: Mapping[UnitName, Requirements] | None = None) -> None:
        self._asked: dict[UnitName, Requirements] = {}
        # What each unit follows that is not global, and the other way round.
        self._followed: dict[UnitName, tuple[str, ...]] = {}
        self._followers: dict[str, set[UnitName]] = {}
        self._replacing: set[UnitName] = set()
        self._needs: dict[UnitName, frozenset[UnitName]] = {}
        self._driven_out: dict[UnitName, tuple[UnitName, ...]] = {}
        for unit, requirements in (asked or {}).items():
            self.add(unit, requirements)

    # Changing them

    def add(self, unit: UnitName, asked: Requirements) -> None:
        """The unit is wanted, and asks for this."""
        self.remove(unit)
        self._asked[unit] = asked
        if asked.machine_of and not asked.is_global:
            self._followed[unit] = asked.machine_of
            for peer in asked.machine_of:
                self._followers.setdefault(peer, set()).add(unit)
        if asked.replaces:
            self._replacing.add(unit)
        self._forget(unit)

    def remove(self, unit: UnitName) -> None:
        """The unit is wanted no more."""
        asked = self._asked.pop(unit, None)
        if asked is None:
            return
        for peer in set(self._followed.pop(unit, ())):
            followers = self._followers[peer]
            followers.discard(unit)
            if not followers:
                del self._followers[peer]
        self._replacing.discard(unit)
        self._forget(unit)

    def _forget(self, unit: UnitName) -> None:
        for name in self.swayed_by(unit):
            self._needs.pop(name, None)
        self._driven_out.clear()

    def swayed_by(self, unit: UnitName) -> set[UnitName]:
        """Those for whom it matters what the unit is and when it decides: itself, and who follow it
        at any distance; if one of them replaces others, all who do."""
        found: set[UnitName] = set()
        open_ends = [unit]
        while open_ends:
            name = open_ends.pop()
            if name not in found:
                found.add(name)
                open_ends.extend(self._followers.get(name, ()))
        return found if self._replacing.isdisjoint(found) else found | self._replacing

    # Asking them

    @property
    def replacing(self) -> Set[UnitName]:
        """The units that replace others."""
        return self._replacing

    def needs(self, unit: UnitName) -> frozenset[UnitName]:
        """The wanted units it depends on by MachineOf at any distance; itself if in a circle."""
        if unit not in self._followed:
            return _NOBODY
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

    def group(self, unit: UnitName) -> Group:
        """The unit and those that it needs and that need it, in order of name: mostly it alone."""
        needs = self.needs(unit)
        if unit not in needs:
            return (unit,)
        return tuple(sorted(peer for peer in needs if unit in self.needs(peer)))

    def turn(self, unit: UnitName, revisions: Mapping[UnitName, int]) -> Turn:
        """When the unit's group decides.

        Older ones come first, and every one after what it needs: a follower counts as young as
        the youngest unit it follows.
        """
        needs = self.needs(unit)
        if not needs:
            return revisions[unit], 0, (unit,)
        youngest = max(revisions[name] for name in {unit, *needs})
        return youngest, len(needs), self.group(unit)

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
        peers = self._followed.get(unit, ())
        return tuple(UnitName(peer) for peer in peers if peer in self._asked)

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
        """The units that it replaces, and those that go with them, as far as they replace others.

        No way leads on from one that replaces nobody, nor can one end there.
        """
        patterns = self._asked[unit].replaces
        if not patterns:
            return ()
        if unit not in self._driven_out:

            def is_replaced(name: UnitName) -> bool:
                return name != unit and first_match(patterns, name) is not None

            self._driven_out[unit] = tuple(
                name
                for name in sorted(self._replacing)
                if is_replaced(name) or any(is_replaced(need) for need in self.needs(name))
            )
        return self._driven_out[unit]
