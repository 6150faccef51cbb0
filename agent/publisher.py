"""Publishing: what this machine says of its units, kept in the store under the machine's lease.

The first change goes out at once, and while more keep coming they are gathered for longer and
longer. Only what differs from what was last written is written; after a new lease that is
everything, since what lay under the old one ends with it.
"""

import asyncio
import contextlib
import logging

from fleet.errors import Unavailable
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.pace import Pace
from fleet.registry import Registry
from fleet.states import UnitState
from fleet.store.port import LeaseId, LeaseLost

_log = logging.getLogger(__name__)

PAUSE_S = 0.02
_PAUSE_PER_STATE_S = 0.005
_LONGEST_PAUSE_S = 0.25
RETRY_S = 0.5
# So long after trouble what is in the store is compared: a request that was given up may have been
# carried out later, over what was written since. No store keeps one for longer.
LOOK_AFTER_S = 10.0


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
        self._pace = Pace(first_s=PAUSE_S, longest_s=_LONGEST_PAUSE_S, each_s=_PAUSE_PER_STATE_S)
        self._look_at_s: float | None = None

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
        self._pace.news(_now_s())
        self._news.set()

    async def run(self) -> None:
        """Write for ever; the store's troubles are logged and waited out."""
        troubled = False
        while True:
            await self._wait()
            written = 0
            try:
                written = await self._flush()
                await self._look_if_due()
                troubled = False
            except Unavailable as error:
                if not troubled:
                    _log.warning("states cannot be published, trying again: %s", error)
                troubled = True
                self._look_at_s = _now_s() + LOOK_AFTER_S
                self._news.set()
                await asyncio.sleep(RETRY_S)
            self._pace.spoke(_now_s(), written)
            if self._dirty:
                self._pace.news(_now_s())
            await self._pace.pause()

    async def _wait(self) -> None:
        """Until there is news, or it is time to look at what is in the store."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._look_at_s):
                await self._news.wait()
        self._news.clear()

    async def _look_if_due(self) -> None:
        """Have what lies in the store otherwise than it was written last be written anew."""
        if self._lease is None or self._look_at_s is None or _now_s() < self._look_at_s:
            return
        found = {state.unit: state for state in await self._registry.states(self._machine)}
        for unit in found.keys() | self._written.keys():
            if found.get(unit) != self._written.get(unit):
                self._written.pop(unit, None)
                self._mark(unit)
        self._look_at_s = None

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


def _now_s() -> float:
    return asyncio.get_running_loop().time()
