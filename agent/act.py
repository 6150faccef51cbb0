"""Carrying a plan out: many units at a time, and the failure of one holds up no other.

Files of a pass are written, linked and reloaded together. Stops and starts take as long as the
units need, so they go on by themselves while later passes are made; `starting` and `stopping` say
of which units. A unit that failed to do something rests for a while, longer each time.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.local import LocalUnit, LocalUnits, Note
from agent.plan import Kind, Plan, Task
from agent.report import Trouble
from agent.systemd import DONE, Systemd
from fleet.errors import FleetError, SystemdError, Unavailable
from fleet.names import UnitName
from fleet.unit import UnitFile

_log = logging.getLogger(__name__)

FIRST_REST_S = 1.0
LONGEST_REST_S = 30.0
# How long stops that end one after the other are gathered, to share a reload and a look at all
# units; the more are under way, the longer.
STOPS_TOGETHER_S = 0.2
STOP_EACH_S = 0.003
LONGEST_TOGETHER_S = 1.0
# How long the end of fleetd waits for systemd's answers to starts that were asked for.
ANSWERS_S = 5.0


@dataclass(frozen=True, slots=True)
class Rest:
    """A unit's pause after failures: how many there were in a row, and when it ends."""

    failures: int
    until_s: float


def rest_after(previous: Rest | None, now_s: float) -> Rest:
    """The rest after one more failure, twice as long as the last one."""
    failures = previous.failures + 1 if previous else 1
    return Rest(failures, now_s + min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(failures - 1, 10)))


def stops_together_s(under_way: int) -> float:
    """How long to wait for so many stops, once one has ended, before they are dealt with."""
    return min(STOPS_TOGETHER_S + under_way * STOP_EACH_S, LONGEST_TOGETHER_S)


class Actor:
    """Does what plans say.

    `admit` is asked before a start, and says under which lease a fenced unit starts or raises
    Conflict. `changed` is told of units there is news of to report, `wake` is called when there may
    be more to plan.
    """

    def __init__(
        self,
        systemd: Systemd,
        local: LocalUnits,
        *,
        admit: Callable[[UnitName], Awaitable[str]],
        changed: Callable[[Iterable[UnitName]], None],
        wake: Callable[[], None],
    ) -> None:
        self._systemd = systemd
        self._local = local
        self._admit = admit
        self._changed = changed
        self._wake = wake
        self._starting: dict[UnitName, asyncio.Task[None]] = {}
        self._stopping: dict[UnitName, asyncio.Task[None]] = {}
        self._launching: set[asyncio.Task[Awaitable[str]]] = set()
        self._rests: dict[UnitName, Rest] = {}
        self._stop_ended = False
        self.troubles: dict[UnitName, Trouble] = {}

    @property
    def starting(self) -> frozenset[UnitName]:
        return frozenset(self._starting)

    @property
    def jobs(self) -> int:
        """How many starts and stops are under way."""
        return len(self._starting) + len(self._stopping)

    def is_starting(self, unit: UnitName) -> bool:
        return unit in self._starting

    @property
    def stopping(self) -> frozenset[UnitName]:
        return frozenset(self._stopping)

    def is_stopping(self, unit: UnitName) -> bool:
        return unit in self._stopping

    def resting(self, now_s: float) -> frozenset[UnitName]:
        """The units that failed a moment ago and are left alone for now."""
        return frozenset(unit for unit, rest in self._rests.items() if rest.until_s > now_s)

    def next_rest_end(self, now_s: float) -> float | None:
        """When the first rest ends."""
        return min((r.until_s for r in self._rests.values() if r.until_s > now_s), default=None)

    def forgive(self, unit: UnitName) -> None:
        """Forget the unit's failures: something else is asked of it now."""
        self._rests.pop(unit, None)
        self.troubles.pop(unit, None)

    async def gather_stops(self) -> None:
        """If a stop has ended, give the others that are under way a moment to end with it."""
        ended, self._stop_ended = self._stop_ended, False
        if ended and self._stopping:
            moment_s = stops_together_s(len(self._stopping))
            await asyncio.wait(self._stopping.values(), timeout=moment_s)

    async def close(self) -> None:
        """Let go of what is under way; systemd carries on with it.

        Starts that systemd was asked for are noted first: one that is not is made again by the next
        fleetd. (One that is killed in the milliseconds between leaves a start like that behind.)
        """
        tasks = [*self._starting.values(), *self._stopping.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWERS_S):
                await asyncio.gather(*self._launching, return_exceptions=True)

    async def carry_out(self, plan: Plan, files: Mapping[UnitName, UnitFile]) -> None:
        """Do the plan's tasks, with the contents of the units to write.

        Raises Unavailable if systemd stops answering, and SystemdError if it will not reload.
        """
        last = {task.unit: task.kind for task in plan.tasks}
        for task in plan.tasks:
            # One line a unit: what is written is linked, and started, for the same reason.
            _log.log(logging.INFO if task.kind is last[task.unit] else logging.DEBUG, "%s", task)
        for task in _of(plan, Kind.STOP):
            self._spawn(self._stopping, task, self._stop)
        gone = await self._unload([task.unit for task in _of(plan, Kind.UNLOAD) if task.unit])
        await self._load(plan, files, reload=bool(gone))
        failed = self.resting(asyncio.get_running_loop().time())
        for task in _of(plan, Kind.START):
            if task.unit not in failed:
                self._spawn(self._starting, task, self._start)

    # Files

    async def _unload(self, units: Sequence[UnitName]) -> frozenset[UnitName]:
        """Take the units' files away; returns those that systemd has to be told of."""
        forgotten = await self._each(Kind.UNLOAD, self._systemd.forget, {u: u for u in units})
        for unit in forgotten:
            self._local.remove(unit)
            self.forgive(unit)
        self._changed(units)
        return await self._systemd.loaded(forgotten)

    async def _load(self, plan: Plan, files: Mapping[UnitName, UnitFile], *, reload: bool) -> None:
        touched = [task.unit for task in _of(plan, Kind.LINK) if task.unit]
        reload = bool(await self._systemd.loaded(touched)) or reload
        failed = {unit for unit, file in files.items() if not self._write(unit, file)}
        linked = await self._link([unit for unit in touched if unit not in failed])
        enable = [unit for unit in linked if _wants_enabling(self._local.get(unit))]
        if enable:
            enabled = await self._each(
                Kind.LINK, self._systemd.enable, {u: self._local.path(u) for u in enable}
            )
            linked = [unit for unit in linked if unit not in enable or unit in enabled]
        if reload or enable:
            await self._systemd.reload()
        await self._conclude(linked, {task.unit for task in _of(plan, Kind.START) if task.unit})

    def _write(self, unit: UnitName, file: UnitFile) -> bool:
        try:
            self._local.write(unit, file)
        except Unavailable as error:
            self._fail(unit, Kind.WRITE, error)
            return False
        return True

    async def _link(self, units: Sequence[UnitName]) -> list[UnitName]:
        return await self._each(
            Kind.LINK, self._systemd.link, {unit: self._local.path(unit) for unit in units}
        )

    async def _conclude(self, units: Sequence[UnitName], started: Collection[UnitName]) -> None:
        """Note the units that systemd knows by now.

        Those that are about to be started are not looked at here: a unit that is not in use is read
        from its file each time somebody asks for it, and many signals tell of that.
        """
        asked = [unit for unit in units if unit not in started]
        states = await self._systemd.states(asked, fresh=True) if asked else {}
        for unit in units:
            here = self._local.get(unit)
            if here is None or (unit in states and states[unit].load == "not-found"):
                self._fail(unit, Kind.LINK, SystemdError("find", unit, "it was linked in vain"))
                continue
            if not here.is_loaded:
                self._local.note(unit, Note(hash=here.hash), passing=unit in started)
            self.forgive(unit)
        self._changed(asked)

    async def _each(
        self,
        kind: Kind,
        act: Callable[[Sequence[Any]], Awaitable[None]],
        units: Mapping[UnitName, Any],
    ) -> list[UnitName]:
        """Act on all units at once or, if that is refused, on each; returns those it worked for."""
        if not units:
            return []
        try:
            await act(list(units.values()))
        except SystemdError as error:
            if len(units) == 1:
                self._fail(next(iter(units)), kind, error)
                return []
            parts = [await self._each(kind, act, {u: value}) for u, value in units.items()]
            return [unit for part in parts for unit in part]
        return list(units)

    # Jobs

    def _spawn(
        self,
        running: dict[UnitName, asyncio.Task[None]],
        task: Task,
        act: Callable[[UnitName], Coroutine[Any, Any, None]],
    ) -> None:
        unit = task.unit
        if unit is None or unit in running:
            return

        async def run() -> None:
            try:
                await act(unit)
            except Unavailable as error:
                _log.info("%s %s: it is looked at again: %s", task.kind, unit, error)
            except FleetError as error:
                self._fail(unit, task.kind, error)
            finally:
                running.pop(unit, None)
                self._changed([unit])
                if running is self._stopping:
                    self._stop_ended = True
                    self._wake()

        running[unit] = asyncio.create_task(run(), name=f"{task.kind} {unit}")

    async def _stop(self, unit: UnitName) -> None:
        alone = _has_a_say(self._local.get(unit), "RefuseManualStop")
        result = await (await self._systemd.stop(unit, alone=alone))
        state = (await self._systemd.states([unit]))[unit]
        if state.is_live:
            cause = f"the stop ended as {result!r} and it is still {state.active}; its file is kept"
            raise SystemdError("stop", unit, cause)
        note = self._note_of(unit)
        if note is not None and note.launched:
            self._local.note(unit, replace(note, launched=False, job="", health=None))
        self.forgive(unit)

    async def _start(self, unit: UnitName) -> None:
        lease = await self._admit(unit)
        launching = asyncio.create_task(self._launch(unit, lease))
        self._launching.add(launching)
        launching.add_done_callback(self._launching.discard)
        job = await asyncio.shield(launching)
        self.forgive(unit)
        self._changed([unit])
        result = await job
        note = self._note_of(unit)
        if note is not None and note.launched:
            # One that is done need not be read again: what systemd says of the unit tells as much.
            self._local.note(unit, replace(note, job=result), passing=result == DONE)
        if result != DONE:
            _log.warning("%s: its start ended as %r", unit, result)
        if lease:
            self._wake()  # it may have ended, which has to be noted while the fence is up

    async def _launch(self, unit: UnitName, lease: str) -> Awaitable[str]:
        """Queue the start and note it, which nothing may come between; returns its job."""
        alone = _has_a_say(self._local.get(unit), "RefuseManualStart")
        job = await self._systemd.start(unit, alone=alone)
        note = self._note_of(unit)
        if note is not None:
            # Only now, since what is noted as launched is never started again.
            launched = replace(note, launched=True, job="", lease=lease, ended=False, health=None)
            self._local.note(unit, launched)
        return job

    def _note_of(self, unit: UnitName) -> Note | None:
        here = self._local.get(unit)
        return here.note if here else None

    def _fail(self, unit: UnitName, kind: Kind, error: FleetError) -> None:
        now_s = asyncio.get_running_loop().time()
        self._rests[unit] = rest = rest_after(self._rests.get(unit), now_s)
        refused = kind is Kind.WRITE or (kind is not Kind.STOP and isinstance(error, SystemdError))
        self.troubles[unit] = Trouble(reason=str(error), refused=refused)
        say = _log.warning if rest.failures == 1 else _log.info
        say("%s; it is tried again in %.0f s", error, rest.until_s - now_s)
        self._changed([unit])
        self._wake()


def _of(plan: Plan, kind: Kind) -> list[Task]:
    return [task for task in plan.tasks if task.kind is kind]


def _has_a_say(local: LocalUnit | None, option: str) -> bool:
    """Whether the unit's file says by whom it may be started, or stopped: systemd has to ask it."""
    return local is not None and local.file is not None and bool(local.file.values("Unit", option))


def _wants_enabling(local: LocalUnit | None) -> bool:
    return local is not None and local.file is not None and local.file.has_section("Install")
