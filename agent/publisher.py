"""Publishing: what this machine says of its units, kept in the store under the machine's lease.

The first change goes out at once and those that follow within PAUSE_S together, or after many
within a longer pause: a request costs the same for one state as for a hundred. Only what differs
from what was last written is written; after a new lease that is everything, since what lay under
the old one ends with it.
"""

import asyncio
import logging

from fleet.errors import Unavailable
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.states import UnitState
from fleet.store.port import LeaseId, LeaseLost

_log = logging.getLogger(__name__)

PAUSE_S = 0.02
_PAUSE_PER_STATE_S = 0.005
_LONGEST_PAUSE_S = 0.25
RETRY_S = 0.5


class Publisher:
    """Holds the latest state of each unit; `run()` has the store hold the same."""

    def __init__(self, registry: Registry, machine: MachineId) -> None:
        self._registry = registry
        self._machine = machine
        self._lease: LeaseId | None = None
        self._states: dict[UnitName, UnitState] = {}
        self._written: dict[UnitName, UnitState] = {}
        self._dirty: set[UnitName] = set()
        self._news = asyncio.Event()

    def put(self, state: UnitState) -> None:
        """Have this be what the store says of the unit."""
        self._states[state.unit] = state
        self._mark(state.unit)

    def drop(self, unit: UnitName) -> None:
        """Have the store say nothing of the unit, as far as this machine is concerned."""
        self._states.pop(unit, None)
        self._mark(unit)

    def state(self, unit: UnitName) -> UnitState | None:
        """What was put last."""
        return self._states.get(unit)

    def use_lease(self, lease: LeaseId | None) -> None:
        """Write under this lease from now on, everything anew; with None wait for one."""
        if lease != self._lease:
            self._lease = lease
            self._written.clear()
            self._dirty |= self._states.keys()
            self._news.set()

    def _mark(self, unit: UnitName) -> None:
        self._dirty.add(unit)
        self._news.set()

    async def run(self) -> None:
        """Write for ever; the store's troubles are logged and waited out."""
        troubled = False
        while True:
            await self._news.wait()
            self._news.clear()
            written = 0
            try:
                written = await self._flush()
                troubled = False
            except Unavailable as error:
                if not troubled:
                    _log.warning("states cannot be published, trying again: %s", error)
                troubled = True
                self._news.set()
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(pause_after(written))

    async def _flush(self) -> int:
        """Write what differs, and say of how many units."""
        lease = self._lease
        if lease is None:
            return 0
        taken, self._dirty = self._dirty, set()
        changes = {
            unit: self._states.get(unit)
            for unit in taken
            if unit not in self._written or self._states.get(unit) != self._written[unit]
        }
        if not changes:
            return 0
        try:
            await self._registry.publish_states(self._machine, changes, lease)
        except LeaseLost as error:
            _log.info("states wait for a new lease: %s", error)
            self._lease = None if self._lease == lease else self._lease
            self._dirty |= taken
            return 0
        except BaseException:
            self._dirty |= taken
            raise
        if lease != self._lease:
            self._dirty |= taken  # a new session came in between: under its lease as well
            return len(changes)
        for unit, state in changes.items():
            if state is None:
                self._written.pop(unit, None)
            else:
                self._written[unit] = state
        return len(changes)


def pause_after(states: int) -> float:
    """How long changes are gathered after so many states were written at once."""
    return min(_LONGEST_PAUSE_S, max(PAUSE_S, states * _PAUSE_PER_STATE_S))
