"""Reporting: what changed in systemd or in fleet's own part becomes the state that is published.

A failure is reported together with the last lines of the unit's journal, so that the first word of
it is the whole truth; reading them is bounded, and rare for a unit that fails over and over.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.health import HealthChecks
from agent.local import LocalUnit, LocalUnits
from agent.patience import Patience
from agent.publisher import Publisher
from agent.report import (
    JOURNAL_LINES,
    SETTLE_S,
    Trouble,
    has_failed,
    is_simple,
    settle_s,
    unit_state,
)
from agent.systemd import Systemd, SystemdState
from fleet.errors import FleetError
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.pace import Pace
from fleet.states import TargetState

_log = logging.getLogger(__name__)

RETRY_S = 0.5
# systemd tells of each step by itself: in a storm of them many share a look.
PAUSE_S = 0.002
LONGEST_PAUSE_S = 0.05
READERS = 4
# A start or stop is told of when it is over, or when it has been under way for this long, the
# longer the more there are: each word costs the whole cluster, and most are over in a moment.
QUICK_S = 1.0
QUICK_EACH_S = 0.02
# A unit that systemd restarts again and again does not have its journal read each time.
JOURNAL_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """fleet's own part in a unit: what is here, what was wanted, and what is wrong with it.

    It is `starting` or `stopping` while such a job of fleet's is under way, one of `jobs` here.

    One that is `leaving` is reported even if nothing of it is here: whoever waits for its arrival
    elsewhere has to know whether anything would go on here meanwhile.
    """

    local: LocalUnit
    wanted_hash: str = ""
    starting: bool = False
    stopping: bool = False
    jobs: int = 0
    trouble: Trouble | None = None
    leaving: bool = False


def quick_s(jobs: int) -> float:
    """How long a job may take before it is told of, one of so many that are under way."""
    return QUICK_S + jobs * QUICK_EACH_S


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    """The journal's last lines about one failure."""

    about: tuple[str, float, str]
    at_s: float
    lines: tuple[str, ...]


class Reporter:
    """Composes states of units that were touched. `look` says of a unit None once it is gone."""

    def __init__(
        self,
        systemd: Systemd,
        publisher: Publisher,
        machine: MachineId,
        *,
        local: LocalUnits,
        look: Callable[[UnitName], Look | None],
    ) -> None:
        self._systemd = systemd
        self._publisher = publisher
        self._machine = machine
        self._look = look
        self._health = HealthChecks(systemd, local, changed=self._touch_one)
        self._touched: set[UnitName] = set()
        self._pace = Pace(first_s=PAUSE_S, longest_s=LONGEST_PAUSE_S)
        self._news = asyncio.Event()
        self._settling = Patience(self._touch_one)
        self._jobs = Patience(self._touch_one)
        self._is_busy = False
        self._calm: asyncio.TimerHandle | None = None
        self._journals: dict[UnitName, _Lines] = {}
        self._reading: dict[UnitName, asyncio.Task[None]] = {}
        self._readers = asyncio.Semaphore(READERS)

    def touch(self, units: Iterable[UnitName]) -> None:
        """Have the units reported, if they changed."""
        self._touched.update(units)
        self._news.set()

    async def run(self) -> None:
        """Report for ever."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                self._pace.news(_now_s())
                touched = await self._report()
                await asyncio.sleep(self._pace.spoke(_now_s(), touched))
        finally:
            for task in self._reading.values():
                task.cancel()
            await asyncio.gather(*self._reading.values(), return_exceptions=True)
            await self._health.close()

    async def _report(self) -> int:
        """Compose what there is to say of the units that were touched, and say how many were."""
        touched, self._touched = self._touched, set()
        here = [unit for unit in touched if self._look(unit) is not None]
        try:
            states = await self._systemd.states(here) if here else {}
        except FleetError as error:
            _log.info("states wait for systemd: %s", error)
            await asyncio.sleep(RETRY_S)
            self.touch(touched)
            return 0
        for unit in touched:
            look = self._look(unit)
            if look is None:
                self._journals.pop(unit, None)
                self._settling.forget(unit)
                self._jobs.forget(unit)
                self._health.drop(unit)
                self._publisher.drop(unit)
            elif unit in states:
                self._notice(look.jobs)
                self._report_unit(look, states[unit])
        return len(touched)

    def _notice(self, jobs: int) -> None:
        """How many jobs are under way. Once none is, systemd gets to how its units fare at once,
        so that a moment later all are believed."""
        if self._is_busy is bool(jobs):
            return
        self._is_busy = bool(jobs)
        if self._calm is not None:
            self._calm.cancel()
        loop = asyncio.get_running_loop()
        self._calm = None if jobs else loop.call_later(SETTLE_S, self._settling.end)

    def _report_unit(self, look: Look, state: SystemdState) -> None:
        unit = state.unit
        if _is_on_its_way(look, state) or self._is_quick(look) or self._settles(look, state):
            return
        if _is_on_its_way_out(look, state) and self._publisher.state(unit) is not None:
            return
        if not has_failed(look.local, state):
            self._put(look, state, ())
        elif self._is_read(state):
            self._put(look, state, self._journals[unit].lines)
        elif unit not in self._reading:
            self._reading[unit] = asyncio.create_task(self._read_journal(state))

    def _is_quick(self, look: Look) -> bool:
        """Whether a job is under way that may be over before anybody misses a word of it."""
        unit = look.local.unit
        if not (look.starting or look.stopping):
            self._jobs.forget(unit)
            return False
        told = self._publisher.state(unit)
        if look.starting and told is not None and told.current is TargetState.LAUNCHED:
            return False  # that is of an earlier start, and must not look like this one's end
        return not self._jobs.has_lasted(unit, look.starting, quick_s(look.jobs))

    def _settles(self, look: Look, state: SystemdState) -> bool:
        """Whether systemd calls a simple service active for too short a time to be believed."""
        file = look.local.file
        if state.active != "active" or file is None or not is_simple(state.unit, file):
            return False
        return not self._settling.has_lasted(state.unit, state.since_s, settle_s(look.jobs))

    def _touch_one(self, unit: UnitName) -> None:
        self.touch((unit,))

    def _put(self, look: Look, state: SystemdState, journal: tuple[str, ...]) -> None:
        told = unit_state(
            self._machine,
            look.local,
            state,
            starting=look.starting,
            trouble=look.trouble,
            wanted_hash=look.wanted_hash,
            journal=journal,
        )
        if look.local.requirements.health_command:
            told = self._health.add(look.local, told)
        self._publisher.put(told)

    def _is_read(self, state: SystemdState) -> bool:
        known = self._journals.get(state.unit)
        if known is None:
            return False
        loops = state.active != "failed"
        now_s = _now_s()
        return known.about == _about(state) or (loops and now_s - known.at_s < JOURNAL_PAUSE_S)

    async def _read_journal(self, state: SystemdState) -> None:
        unit = state.unit
        try:
            async with self._readers:
                lines = await self._systemd.journal_tail(unit, JOURNAL_LINES)
            self._journals[unit] = _Lines(about=_about(state), at_s=_now_s(), lines=lines)
        finally:
            self._reading.pop(unit, None)
        self.touch((unit,))


def _is_on_its_way_out(look: Look, state: SystemdState) -> bool:
    """Whether it has come to rest and is wanted here no more, so that nothing is told of it soon.

    With a thousand units that are destroyed it is a word less for each.
    """
    is_wanted = look.leaving or bool(look.wanted_hash)
    return not is_wanted and look.trouble is None and state.active == "inactive"


def _is_on_its_way(look: Look, state: SystemdState) -> bool:
    """Whether systemd does not know the unit only because its file has yet to be linked.

    Nor is one whose start was asked for: what systemd said of it may be from before.
    """
    refused = look.trouble is not None and look.trouble.refused
    is_coming = look.starting or not (look.local.is_loaded or look.leaving or refused)
    return state.load == "not-found" and is_coming


def _about(state: SystemdState) -> tuple[str, float, str]:
    return state.active, state.since_s, state.invocation


def _now_s() -> float:
    return asyncio.get_running_loop().time()
