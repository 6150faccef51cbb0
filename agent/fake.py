"""A systemd in memory, for tests of whatever uses the port: it passes the port's contract suite.

It reads real unit files and behaves as their few lines say: `sleep N` runs for N seconds on the
loop's clock, `false` fails, a program that is not there ends with status 203, `Type=oneshot` and
`RemainAfterExit=` are heeded, `ExecStop=sleep N` makes stopping slow. A command that it executes
may also be `test -e PATH`. What was asked of it is in `calls`.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from agent.fake_programs import EXITED, exit_status, run_command, sleep_s
from agent.jobs import ended_job
from agent.systemd import CANCELED, DONE, Changed, Command, SystemdState
from fleet.errors import InvalidUnit, SystemdError, Unavailable
from fleet.names import UnitName, split_name
from fleet.unit import UnitFile, parse_unit, read_unit


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A unit file as it was when systemd read it, and what a drop-in adds to it."""

    path: str
    file: UnitFile
    load: str
    added: UnitFile | None = None

    def values(self, section: str, name: str) -> tuple[str, ...]:
        added = self.added.values(section, name) if self.added else ()
        return (*self.file.values(section, name), *added)


class FakeSystemd:
    """Units that exist in memory only; `own` are units of the machine itself, by path.

    `drop_ins` is the folder of drop-ins. Of what those and files say, `PartOf=`, `Conflicts=` and
    `AssertPathExists=` of another unit's `RuntimeDirectory=` are heeded.
    """

    def __init__(
        self, own: Mapping[str, str] | None = None, *, drop_ins: Path | None = None
    ) -> None:
        self._drop_ins = drop_ins
        self.calls: list[tuple[str, ...]] = []
        self.journal: dict[str, tuple[str, ...]] = {}
        self.stop_results: dict[str, str] = {}
        """Units that stay up when stopped, with the result of the job."""
        self.refusals: dict[tuple[str, str], str] = {}
        """What is refused, by action and unit, with the reason."""
        self.answer_s = 0.0
        """How long the answer to a start takes; it is under way by then."""
        self.look_s = 0.0
        """How long it takes to look at states; the answer is of its end."""
        self.stopping = False
        self._own = dict(own or {})
        self._links: dict[UnitName, str] = {}
        self._memory: dict[UnitName, _Loaded] = {}
        self._states: dict[UnitName, SystemdState] = {}
        self._starts: dict[UnitName, asyncio.Future[str]] = {}
        self._stops: dict[UnitName, asyncio.Future[str]] = {}
        self._timers: dict[UnitName, asyncio.TimerHandle] = {}
        self._executed: dict[UnitName, asyncio.Event] = {}
        self._asked: set[UnitName] = set()
        self._failure: Unavailable | None = None
        self._told: list[Changed] = []

    # What tests do to it

    def fail_with(self, failure: Unavailable) -> None:
        """Do not answer until recover()."""
        self._failure = failure

    def recover(self) -> None:
        self._failure = None
        self._changed(None)

    def set_state(self, unit: UnitName, **changes: Any) -> None:
        """Have the unit be in this state, as a crash or somebody's systemctl would."""
        if (timer := self._timers.pop(unit, None)) is not None:
            timer.cancel()
        old = self._states.get(unit, SystemdState(unit=unit, load="loaded"))
        moved = "active" in changes and changes["active"] != old.active
        since_s = time.time() if moved else old.since_s
        state = replace(old, **({"since_s": since_s} | changes))
        self._states[unit] = state
        if state.active == "inactive":
            self._memory.pop(unit, None)
        if unit in self._asked:
            self._changed(frozenset({unit}))

    @property
    def live(self) -> frozenset[UnitName]:
        return frozenset(unit for unit, state in self._states.items() if state.is_live)

    # The port

    async def run(self, changed: Changed) -> None:
        self._told.append(changed)
        changed(None)
        try:
            await asyncio.Event().wait()
        finally:
            self._told.remove(changed)

    def _changed(self, units: frozenset[UnitName] | None) -> None:
        for changed in self._told:
            changed(units)

    async def link(self, paths: Sequence[str]) -> None:
        self._enter("link", *paths)
        for path in paths:
            if not _exists(path):
                raise SystemdError("link", os.path.basename(path), f"File {path} does not exist.")
        self._links |= {UnitName(os.path.basename(path)): path for path in paths}

    async def enable(self, paths: Sequence[str]) -> None:
        self._enter("enable", *paths)
        self._links |= {UnitName(os.path.basename(path)): path for path in paths}

    async def reload(self) -> None:
        self._enter("reload")
        for unit in list(self._memory):
            del self._memory[unit]
            self._load(unit)
        self._changed(None)

    async def loaded(self, units: Iterable[UnitName]) -> frozenset[UnitName]:
        self._enter()
        return frozenset(units) & self._memory.keys()

    async def start(self, unit: UnitName, *, alone: bool = False) -> Awaitable[str]:
        self._enter("start", unit)
        loaded = self._load(unit)
        if loaded is None:
            raise SystemdError("start", unit, f"Unit {unit} not found.")
        if loaded.load != "loaded":
            raise SystemdError("start", unit, f"Unit {unit} has a bad unit file setting.")
        self._refuse_manual(loaded, "start", alone=alone)
        self._stop_others(loaded)
        job = self._starts.get(unit)
        if job is None:
            if not self._asserts_hold(loaded):
                return ended_job("assert")
            job = self._starts[unit] = asyncio.get_running_loop().create_future()
            if self._state(unit).is_live:
                self._finish(self._starts, unit, DONE)
            else:
                self._memory[unit] = loaded
                self._begin(unit, loaded.file)
        await asyncio.sleep(self.answer_s)
        return asyncio.shield(job)

    async def stop(self, unit: UnitName, *, alone: bool = False) -> Awaitable[str]:
        self._enter("stop", unit)
        if (loaded := self._memory.get(unit)) is not None:
            self._refuse_manual(loaded, "stop", alone=alone)
        if unit.endswith(".timer"):
            self._states.pop(unit, None)
            if (timer := self._timers.pop(unit, None)) is not None:
                timer.cancel()
            return ended_job(DONE)
        return self._stop_now(unit)

    def _stop_now(self, unit: UnitName) -> Awaitable[str]:
        self._finish(self._starts, unit, CANCELED)
        state = self._state(unit)
        if unit in self.stop_results:
            return ended_job(self.stop_results[unit])
        if not state.is_live:
            return ended_job(DONE)
        if unit not in self._stops:
            self._stop_parts_of(unit)
            self._stops[unit] = asyncio.get_running_loop().create_future()
            loaded = self._memory.get(unit)
            seconds = sleep_s(loaded.file if loaded else None, "ExecStop") or 0.0
            self.set_state(unit, active="deactivating", sub="stop-sigterm")
            self._after(seconds, unit, lambda: self._stopped(unit))
        return asyncio.shield(self._stops[unit])

    async def start_at(self, unit: UnitName, at_s: float) -> None:
        self._enter("start_at", unit)
        loop = asyncio.get_running_loop()
        timer = UnitName(f"{unit.removesuffix('.service')}.timer")
        if timer in self._states:
            raise SystemdError("start", timer, f"Unit {timer} already exists.")
        self._states[timer] = SystemdState(unit=timer, load="loaded", active="active")
        self._timers[timer] = loop.call_at(max(at_s, loop.time()), self._elapsed, timer, unit)

    def _elapsed(self, timer: UnitName, unit: UnitName) -> None:
        del self._states[timer]
        loaded = self._load(unit)
        if loaded is not None:
            self._memory[unit] = loaded
            self._stop_others(loaded)
            self._begin(unit, loaded.file)

    async def execute(self, command: Command) -> SystemdState:
        unit = command.unit
        self._enter("execute", unit, *command.words)
        if unit in self._executed:
            self._executed[unit].set()
            raise SystemdError("start", unit, f"Unit {unit} was already loaded.")
        stopped = self._executed[unit] = asyncio.Event()
        try:
            return await run_command(command, stopped)
        finally:
            del self._executed[unit]

    async def matching(self, pattern: str) -> frozenset[UnitName]:
        self._enter()
        known = (*self._states, *self._executed)
        return frozenset(unit for unit in known if fnmatch(unit, pattern))

    async def active_since(self, unit: UnitName) -> float:
        self._enter()
        state = self._state(unit)
        return state.since_s if state.active == "active" else 0.0

    async def forget(self, units: Sequence[UnitName]) -> None:
        self._enter("forget", *units)
        for unit in units:
            self._links.pop(unit, None)
            self._asked.discard(unit)
            if not self._state(unit).is_live:
                self._states.pop(unit, None)
                self._memory.pop(unit, None)

    async def states(
        self, units: Iterable[UnitName], *, fresh: bool = False
    ) -> dict[UnitName, SystemdState]:
        self._enter()
        names = list(units)
        self._asked.update(names)
        await asyncio.sleep(self.look_s)
        return {unit: self._state(unit) for unit in names}

    async def fragments(self, units: Iterable[UnitName]) -> dict[UnitName, str]:
        self._enter()
        loaded = {unit: self._load(unit) for unit in units}
        return {unit: found.path if found else "" for unit, found in loaded.items()}

    async def is_stopping(self) -> bool:
        self._enter()
        return self.stopping

    async def journal_tail(self, unit: UnitName, lines: int) -> tuple[str, ...]:
        return self.journal.get(unit, (f"{unit}: Failed.",))[-lines:]

    # How units bear on each other

    def _asserts_hold(self, loaded: _Loaded) -> bool:
        folders = {
            f"%t/{name}"
            for unit in self.live
            if (other := self._memory.get(unit)) is not None
            for name in other.values("Service", "RuntimeDirectory")
        }
        return folders.issuperset(loaded.values("Unit", "AssertPathExists"))

    def _refuse_manual(self, loaded: _Loaded, action: str, *, alone: bool) -> None:
        """What is asked for alone is asked for by hand, which a unit may refuse."""
        if alone and "yes" in loaded.values("Unit", f"RefuseManual{action.capitalize()}"):
            unit = os.path.basename(loaded.path)
            raise SystemdError(action, unit, "it may be requested by dependency only")

    def _stop_others(self, loaded: _Loaded) -> None:
        for other in loaded.values("Unit", "Conflicts"):
            self._stop_now(UnitName(other))

    def _stop_parts_of(self, unit: UnitName) -> None:
        for other, loaded in list(self._memory.items()):
            if unit in loaded.values("Unit", "PartOf"):
                self._stop_now(other)

    # How units behave

    def _enter(self, *call: str) -> None:
        if self._failure is not None:
            raise self._failure
        if call:
            self.calls.append(call)
        for unit in call[1:]:
            reason = self.refusals.get((call[0], os.path.basename(unit)))
            if reason is not None:
                raise SystemdError(call[0], os.path.basename(unit), reason)

    def _state(self, unit: UnitName) -> SystemdState:
        loaded = self._load(unit)
        known = self._states.get(unit, SystemdState(unit=unit))
        return replace(known, load=loaded.load if loaded else "not-found")

    def _load(self, unit: UnitName) -> _Loaded | None:
        """What systemd has in memory of the unit, or finds on disk."""
        if unit in self._memory:
            return self._memory[unit]
        path = self._links.get(unit) or self._links.get(split_name(unit).template or unit)
        if path is None:
            if unit not in self._own:
                return None
            return _Loaded(self._own[unit], parse_unit("[Service]\nExecStart=/bin/sh\n"), "loaded")
        try:
            with open(path, "rb") as stream:
                file = read_unit(stream.read())
        except (OSError, InvalidUnit):
            return None
        if split_name(unit).is_template:
            return _Loaded(path, file, "error")
        added = self._added(unit)
        broken = unit.endswith(".service") and not file.values("Service", "ExecStart")
        return _Loaded(path, file, "bad-setting" if broken else "loaded", added)

    def _added(self, unit: UnitName) -> UnitFile | None:
        if self._drop_ins is None:
            return None
        texts = [path.read_text() for path in sorted((self._drop_ins / f"{unit}.d").glob("*.conf"))]
        return parse_unit("".join(texts)) if texts else None

    def _begin(self, unit: UnitName, file: UnitFile) -> None:
        if not unit.endswith(".service"):
            self.set_state(unit, active="active", sub="running", result="success")
            self._finish(self._starts, unit, DONE)
            return
        status = exit_status(file)
        seconds = sleep_s(file, "ExecStart")
        if file.values("Service", "Type")[-1:] == ("oneshot",):
            self.set_state(unit, active="activating", sub="start", result="success")
            self._after(seconds or 0.0, unit, lambda: self._ran(unit, file, status))
            return
        self.set_state(unit, active="active", sub="running", result="success")
        self._finish(self._starts, unit, DONE)
        if seconds is None or status:
            self._after(0.001, unit, lambda: self._ended(unit, status))
        else:
            self._after(seconds, unit, lambda: self._ended(unit, 0))

    def _ran(self, unit: UnitName, file: UnitFile, status: int) -> None:
        if status:
            self._ended(unit, status)
            self._finish(self._starts, unit, "failed")
            return
        if file.values("Service", "RemainAfterExit")[-1:] == ("yes",):
            self.set_state(unit, active="active", sub="exited")
        else:
            self._ended(unit, 0)
        self._finish(self._starts, unit, DONE)

    def _ended(self, unit: UnitName, status: int) -> None:
        self.set_state(
            unit,
            active="failed" if status else "inactive",
            sub="failed" if status else "dead",
            result="exit-code" if status else "success",
            exit_code=EXITED,
            exit_status=status,
        )

    def _stopped(self, unit: UnitName) -> None:
        self.set_state(unit, active="inactive", sub="dead")
        self._finish(self._stops, unit, DONE)

    def _finish(
        self, jobs: dict[UnitName, asyncio.Future[str]], unit: UnitName, result: str
    ) -> None:
        job = jobs.pop(unit, None)
        if job is not None and not job.done():
            job.set_result(result)

    def _after(self, seconds: float, unit: UnitName, then: Callable[[], None]) -> None:
        self._timers[unit] = asyncio.get_running_loop().call_later(seconds, then)


def _exists(path: str) -> bool:
    return os.path.exists(path)
