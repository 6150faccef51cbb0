"""Patience: what may pass in a moment is told of only if it lasts."""

import asyncio
from collections.abc import Callable

from fleet.names import UnitName


class Patience:
    """Whether units have been in a condition for some time; `over` is told of one that has.

    A condition is any value; another one begins anew.
    """

    def __init__(self, over: Callable[[UnitName], None]) -> None:
        self._over = over
        self._seen: dict[UnitName, tuple[object, bool]] = {}

    def has_lasted(self, unit: UnitName, condition: object, for_s: float) -> bool:
        """Whether the unit was first seen so that many seconds ago."""
        seen = self._seen.get(unit)
        if seen is None or seen[0] != condition:
            self._seen[unit] = (condition, False)
            asyncio.get_running_loop().call_later(for_s, self._end, unit, condition)
            return False
        return seen[1]

    def end(self) -> None:
        """Have patience with nobody any more: what is seen now has lasted."""
        for unit, (condition, _) in tuple(self._seen.items()):
            self._end(unit, condition)

    def forget(self, unit: UnitName) -> None:
        """The unit is in no condition that has to last."""
        self._seen.pop(unit, None)

    def _end(self, unit: UnitName, condition: object) -> None:
        if self._seen.get(unit) == (condition, False):
            self._seen[unit] = (condition, True)
            self._over(unit)
