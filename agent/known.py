"""What is known of units from systemd's answers and signals, which do not come in one line.

Pure. Answers and signals are numbered as they arrive, since an answer is dealt with by whoever
asked, perhaps after signals that arrived later: of the two, the later one knows better.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from agent.systemd import SystemdState
from agent.wire import SUCCESS, apply_properties
from fleet.names import UnitName


class Known:
    """The states of the units that were asked about."""

    def __init__(self) -> None:
        self._states: dict[UnitName, SystemdState] = {}
        self._signal_at: dict[UnitName, int] = {}
        self._stale: set[UnitName] = set()
        self._dated: set[UnitName] = set()
        self._lacking: set[UnitName] = set()
        self._asked: set[UnitName] = set()

    def __contains__(self, unit: object) -> bool:
        return unit in self._states or unit in self._asked

    def state(self, unit: UnitName) -> SystemdState:
        """What is known of the unit; of one never asked about, that systemd does not find it."""
        return self._states.get(unit) or SystemdState(unit=unit)

    def unknown(self, units: Iterable[UnitName]) -> list[UnitName]:
        """Those of the units that have to be asked about."""
        return [unit for unit in units if unit not in self._states or unit in self._stale]

    def dated(self, units: Iterable[UnitName]) -> list[UnitName]:
        """Those of the units that have to be looked at as far as systemd has them in memory."""
        return [unit for unit in units if unit in self._dated]

    def asking(self, units: Iterable[UnitName]) -> None:
        """The units are being asked about now."""
        names = frozenset(units)
        self._stale -= names
        self._dated -= names
        self._asked |= names - self._states.keys()

    def learn(self, listed: SystemdState, arrived: int) -> bool:
        """Take in an entry of a list, which lacks the details of a state that is news.

        Returns whether somebody may have been told otherwise before.
        """
        unit = listed.unit
        self._asked.discard(unit)
        old = self._states.get(unit)
        if old is not None and self._signal_at.get(unit, 0) > arrived:
            # What runs by the later word of a signal was found, whatever the earlier list says.
            self._states[unit] = old if old.is_live else replace(old, load=listed.load)
        elif old is None or _outline(old) != _outline(listed):
            self._states[unit] = listed
            self._lacking.add(unit)
        return old is not None and old != self._states[unit]

    def signal(self, unit: UnitName, changed: Mapping[str, Any], arrived: int) -> bool:
        """Take in a signal about a unit that somebody asked about; whether it tells anything new.

        Most do not: systemd sends one for each step of a job, and others whenever a unit that names
        this one is loaded.
        """
        if unit not in self._states:
            self._stale.add(unit)  # the answer is on its way, and may be from before
            return True
        old = self._states[unit]
        self._signal_at[unit] = arrived
        new = apply_properties(old, changed)
        if new.is_live and not old.is_live:
            new = replace(new, load="loaded")  # systemd starts only what it has loaded
        self._states[unit] = new
        if new.has_gone_wrong and _outline(new) != _outline(old):
            self._lacking.add(unit)
        return new != old or unit in self._stale

    def take_lacking(self, units: Iterable[UnitName]) -> frozenset[UnitName]:
        """Those of the units whose details are to be asked for now."""
        found = frozenset(self._lacking.intersection(units))
        self._lacking -= found
        return found

    def complete(self, asked: SystemdState, details: Mapping[str, Any]) -> None:
        """Take in the details of a state, unless the unit has gone on to another."""
        now = self._states.get(asked.unit)
        if now is not None and _outline(now) == _outline(asked):
            self._states[asked.unit] = apply_properties(now, details)

    def started(self, unit: UnitName) -> None:
        """A start was queued, which systemd only takes of what it has loaded; signals say more."""
        old = self._states.get(unit)
        if old is not None:
            self._stale.discard(unit)
            self._states[unit] = replace(old, load="loaded", result=old.result or SUCCESS)

    def distrust(self, units: Iterable[UnitName]) -> None:
        """Have the units asked about anew: their files changed."""
        self._stale.update(units)

    def date(self) -> None:
        """Have all units looked at anew: systemd read everything again."""
        self._dated.update(self._states)

    def forget(self, unit: UnitName) -> SystemdState:
        """Let go of the unit; returns what was known."""
        last = self.state(unit)
        self._states.pop(unit, None)
        self._signal_at.pop(unit, None)
        self._stale.discard(unit)
        self._dated.discard(unit)
        self._lacking.discard(unit)
        self._asked.discard(unit)
        return last

    def clear(self) -> None:
        """Let go of everything."""
        for unit in [*self._states, *self._asked]:
            self.forget(unit)


def _outline(state: SystemdState) -> tuple[str, str, str]:
    return state.load, state.active, state.sub
