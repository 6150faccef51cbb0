"""systemd over D-Bus: what is asked of it, and what is made of its signals.

Theory of operation. One connection, kept by `run()`. Units whose state was asked for
are remembered; from then on systemd's PropertiesChanged signals keep what is remembered, so asking
again costs nothing. Only the signals of units as such are listened to: those of their types come
just as often, are larger, and tell nothing but how a run went wrong, which is asked for then. A
lost connection forgets everything, a reload makes all of it doubtful. A unit that is not in use is
read from its file whenever it is asked about, and many signals tell of that: so it is rarely done.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from typing import Any

from dbus_fast.constants import MessageType
from dbus_fast.message import Message

from agent.binding import runtime_directory
from agent.bulk import STARTS, STOPS, Bulk
from agent.bus import (
    DAEMON,
    DAEMON_PATH,
    MANAGER,
    MANAGER_PATH,
    MATCHES,
    PROPERTIES,
    SYSTEMD,
    Bus,
    Refused,
)
from agent.calls import CALL_S, LOST, Calls
from agent.jobs import Jobs, ended_job
from agent.journal import journal_tail
from agent.known import Known
from agent.links import take_links_back
from agent.systemd import DONE, Changed, Command, SystemdState
from agent.wire import (
    SUCCESS,
    UNIT_INTERFACE,
    apply_properties,
    listed_state,
    transient_properties,
    unit_of_path,
    wanted_properties,
)
from fleet.errors import SystemdError, Unavailable
from fleet.names import UnitName

_log = logging.getLogger(__name__)

# systemd's own limit for a reload.
RELOAD_S = 90.0
RECONNECT_S = 0.5
TIDY_S = 2.0
# systemd matches every unit with every pattern: beyond this it is cheaper to list them all.
MAX_PATTERNS = 16

_REMEDY = "systemd cannot be reached over D-Bus (does `systemctl start dbus.socket` help?) and"
_NO_SUCH_UNIT = f"{SYSTEMD}.NoSuchUnit"
_UNIT_EXISTS = f"{SYSTEMD}.UnitExists"


Listed = tuple[SystemdState, int]
"""A state as it was listed, and when that answer arrived."""


class DbusSystemd:
    """The `Systemd` port on the system bus, or on the user's own with `user=True`."""

    def __init__(self, *, user: bool = False, follow: bool = True) -> None:
        """With `follow` false it is not told of changed units, and costs nothing when they do."""
        self._user = user
        self._matches = MATCHES if follow else MATCHES[1:]
        self._calls = Calls()
        self._known = Known()
        self._jobs = Jobs()
        self._starts = Bulk(STARTS, self._calls, self._jobs, self._start_alone)
        self._stops = Bulk(STOPS, self._calls, self._jobs, self._stop_alone)
        self._began_us: int | None = None
        self._changed: Changed = lambda _: None

    async def run(self, changed: Changed) -> None:
        self._changed = changed
        told = ""
        while True:
            try:
                await self._session()
                told = ""
            except (Unavailable, Refused, *LOST) as error:
                if repr(error) != told:
                    told = repr(error)
                    _log.warning("%s is tried again until it answers: %s", _REMEDY, told)
            await asyncio.sleep(RECONNECT_S)

    async def _session(self) -> None:
        """Connect, tell so, and return or raise when the connection has ended."""
        bus = Bus.of_user() if self._user else Bus.of_system()
        try:
            await asyncio.wait_for(bus.connect(), CALL_S)
            bus.add_message_handler(self._received)
            self._calls.use(bus)
            for rule in self._matches:
                await self._calls.call(
                    DAEMON_PATH, DAEMON, "AddMatch", "s", rule, destination=DAEMON
                )
            await self._subscribe()
            self._changed(None)
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        finally:
            self._lose(bus)

    def _lose(self, bus: Bus) -> None:
        self._calls.use(None)
        self._began_us = None
        self._known.clear()
        self._jobs.lose()
        bus.close()

    async def _subscribe(self) -> None:
        with contextlib.suppress(Refused):  # already subscribed: as wanted
            await self._calls.manager("Subscribe")

    # What is asked of systemd

    async def link(self, paths: Sequence[str]) -> None:
        await self._files("LinkUnitFiles", paths, "link")

    async def enable(self, paths: Sequence[str]) -> None:
        await self._files("EnableUnitFiles", paths, "enable")

    async def _files(self, member: str, paths: Sequence[str], action: str) -> None:
        units = [UnitName(os.path.basename(path)) for path in paths]
        try:
            await self._calls.manager(member, "asbb", list(paths), True, True)
        except Refused as error:
            raise SystemdError(action, ", ".join(units), str(error)) from error
        self._known.distrust(units)

    async def reload(self) -> None:
        try:
            await self._calls.manager("Reload", timeout_s=RELOAD_S)
        except Refused as error:
            raise SystemdError("reload", "its unit files", str(error)) from error

    async def loaded(self, units: Iterable[UnitName]) -> frozenset[UnitName]:
        found = await self._in_memory(list(units))
        return frozenset(unit for unit, (state, _) in found.items() if state.load != "not-found")

    async def _in_memory(self, units: Sequence[UnitName]) -> dict[UnitName, Listed]:
        """The entries of those units that systemd has in memory: asking makes it read no file."""
        if not units:
            return {}
        patterns = list(units) if len(units) <= MAX_PATTERNS else []
        try:
            body = await self._calls.manager("ListUnitsByPatterns", "asas", [], patterns)
        except Refused as error:
            raise SystemdError("list", ", ".join(units), str(error)) from error
        states = {UnitName(entry[0]): listed_state(UnitName(entry[0]), entry) for entry in body[0]}
        return {unit: (states[unit], body.arrived) for unit in units if unit in states}

    async def start(self, unit: UnitName, *, alone: bool = False) -> Awaitable[str]:
        self._stops.withdraw(unit)
        job = await (self._start_alone(unit) if alone else self._starts.queue(unit))
        self._known.started(unit)
        return job

    async def _start_alone(self, unit: UnitName) -> Awaitable[str]:
        try:
            return await self._queue(self._calls.job("StartUnit", unit))
        except Refused as error:
            self._known.distrust([unit])
            raise SystemdError("start", unit, str(error)) from error

    async def stop(self, unit: UnitName, *, alone: bool = False) -> Awaitable[str]:
        self._starts.withdraw(unit)
        return await (self._stop_alone(unit) if alone else self._stops.queue(unit))

    async def _stop_alone(self, unit: UnitName) -> Awaitable[str]:
        try:
            return await self._queue(self._calls.job("StopUnit", unit))
        except Refused as error:
            if error.name != _NO_SUCH_UNIT:
                raise SystemdError("stop", unit, str(error)) from error
            return ended_job(DONE)

    async def _queue(self, asked: Coroutine[Any, Any, str]) -> Awaitable[str]:
        """The job whose path is the answer to what is asked."""
        with self._jobs.queueing():
            return self._jobs.job(await asked)

    async def start_at(self, unit: UnitName, at_s: float) -> None:
        name = f"{unit.removesuffix('.service')}.timer"
        properties = [
            # Counted from when this systemd began: `OnBootSec=` means that only in containers.
            ("TimersMonotonic", "a(st)", [["OnStartupSec", await self._since_start(at_s)]]),
            ("AccuracyUSec", "t", 1000),
            ("RemainAfterElapse", "b", False),
        ]
        try:
            await self._calls.transient(name, properties)
        except Refused as error:
            raise SystemdError("start", name, str(error)) from error

    async def execute(self, command: Command) -> SystemdState:
        unit = command.unit
        properties = transient_properties(command, by_user=self._user)
        try:
            job = await self._queue(self._calls.transient(unit, properties))
            return await self._ended(unit, await job)
        except Refused as error:
            if error.name == _UNIT_EXISTS:
                await self._stop_alone(unit)
            raise SystemdError("start", unit, str(error)) from error
        except asyncio.CancelledError:
            await self._tidy(self._stop_alone(unit))
            raise
        finally:
            await self._tidy(self._calls.manager("UnrefUnit", "s", unit))

    async def _ended(self, unit: UnitName, result: str) -> SystemdState:
        """How a transient service ended that is still referred to, so that it is still there."""
        if result == DONE:
            return SystemdState(unit=unit, load="loaded", result=SUCCESS)
        failed = SystemdState(unit=unit, load="loaded", active="failed", sub="failed")
        wanted = [pair for pair in wanted_properties(failed) if pair[0] != UNIT_INTERFACE]
        values = await asyncio.gather(*(self._calls.get(unit, *pair) for pair in wanted))
        found = {pair[1]: v for pair, v in zip(wanted, values, strict=True) if v is not None}
        return apply_properties(failed, found)

    async def _tidy(self, last: Coroutine[Any, Any, Any]) -> None:
        """Do that if systemd lets us; if not, the connection's end does as much."""
        with contextlib.suppress(Refused, SystemdError, Unavailable, TimeoutError):
            async with asyncio.timeout(TIDY_S):  # who ends does not wait for a busy systemd
                await last

    async def _since_start(self, at_s: float) -> int:
        """The microseconds from systemd's start to the moment; systemd.timer(5), OnStartupSec=."""
        if self._began_us is None:
            name = "UserspaceTimestampMonotonic"
            body = await self._calls.call(MANAGER_PATH, PROPERTIES, "Get", "ss", MANAGER, name)
            self._began_us = int(body[0].value)
        return max(1, int(at_s * 1e6) - self._began_us)

    async def matching(self, pattern: str) -> frozenset[UnitName]:
        try:
            body = await self._calls.manager("ListUnitsByPatterns", "asas", [], [pattern])
        except Refused as error:
            raise SystemdError("list", pattern, str(error)) from error
        return frozenset(UnitName(entry[0]) for entry in body[0])

    async def active_since(self, unit: UnitName) -> float:
        if await self._calls.get(unit, UNIT_INTERFACE, "ActiveState") != "active":
            return 0.0
        since_us = await self._calls.get(unit, UNIT_INTERFACE, "ActiveEnterTimestampMonotonic")
        return float(since_us or 0) / 1e6

    async def forget(self, units: Sequence[UnitName]) -> None:
        enabled = take_links_back(runtime_directory(user=self._user), units)
        if enabled:
            await self._disable(sorted(enabled))
        for unit in units:
            if self._known.forget(unit).active == "failed":
                with contextlib.suppress(Refused):  # not loaded: nothing is on record
                    await self._calls.manager("ResetFailedUnit", "s", unit)

    async def _disable(self, units: Sequence[UnitName]) -> None:
        """One call for all; an unknown unit spoils it, so then each by itself."""
        try:
            await self._calls.manager("DisableUnitFiles", "asb", list(units), True)
        except Refused as error:
            if error.name != _NO_SUCH_UNIT:
                raise SystemdError("disable", ", ".join(units), str(error)) from error
            if len(units) > 1:
                await asyncio.gather(*(self._disable([unit]) for unit in units))

    async def states(
        self, units: Iterable[UnitName], *, fresh: bool = False
    ) -> dict[UnitName, SystemdState]:
        names = list(units)
        unknown = self._known.unknown(names)
        dated = set(names if fresh else self._known.dated(names)).difference(unknown)
        await self._refresh(sorted(dated), unknown)
        lacking = self._known.take_lacking(names)
        await asyncio.gather(*(self._complete(self._known.state(unit)) for unit in lacking))
        return {name: self._known.state(name) for name in names}

    async def _refresh(self, dated: Sequence[UnitName], unknown: Sequence[UnitName]) -> None:
        """Look at dated units without having systemd read their files, at unknown ones with."""
        self._known.asking([*dated, *unknown])
        found = await self._in_memory(dated)
        lost = [unit for unit in dated if unit not in found and self._known.state(unit).is_in_use]
        listed = [*found.values(), *await self._list([*unknown, *lost])]
        news = {state.unit for state, arrived in listed if self._known.learn(state, arrived)}
        if news:
            self._changed(frozenset(news))  # others may have been told what was known till now

    async def _list(self, units: Sequence[UnitName]) -> list[Listed]:
        """The entries of the units, and when they arrived.

        One that systemd does not take spoils only its own.
        """
        if not units:
            return []
        try:
            body = await self._calls.manager("ListUnitsByNames", "as", list(units))
        except Refused:
            if len(units) == 1:
                return [(SystemdState(unit=units[0], load="error"), self._calls.arrived)]
            parts = await asyncio.gather(*(self._list([unit]) for unit in units))
            return [state for part in parts for state in part]
        entries = zip(units, body[0], strict=True)  # the answer keeps the order of the question
        return [(listed_state(unit, entry), body.arrived) for unit, entry in entries]

    async def _complete(self, state: SystemdState) -> None:
        """Ask for the details of the state that a unit came to."""
        wanted = wanted_properties(state)
        values = await asyncio.gather(*(self._calls.get(state.unit, *pair) for pair in wanted))
        found = {pair[1]: v for pair, v in zip(wanted, values, strict=True) if v is not None}
        self._known.complete(state, found)

    async def fragments(self, units: Iterable[UnitName]) -> dict[UnitName, str]:
        names = list(units)
        paths = await asyncio.gather(
            *(self._calls.get(name, UNIT_INTERFACE, "FragmentPath") for name in names)
        )
        return {name: str(path or "") for name, path in zip(names, paths, strict=True)}

    async def is_stopping(self) -> bool:
        try:
            body = await self._calls.call(
                MANAGER_PATH, PROPERTIES, "Get", "ss", MANAGER, "SystemState"
            )
        except Refused as error:
            raise SystemdError("tell the state of", "the machine", str(error)) from error
        return bool(body[0].value == "stopping")

    async def journal_tail(self, unit: UnitName, lines: int) -> tuple[str, ...]:
        return await journal_tail(unit, lines, user=self._user)

    # Signals

    def _received(self, message: Message) -> None:
        self._calls.count(message)
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.member == "PropertiesChanged":
            self._properties_changed(message)
        elif message.member == "JobRemoved":
            _, path, unit, result = message.body
            self._jobs.end(path, UnitName(unit), result)
        elif message.member == "Reloading" and not message.body[0]:
            self._everything_changed()
        elif message.member == "NameOwnerChanged" and message.body[0] == SYSTEMD:
            self._owner_changed(str(message.body[2]))

    def _properties_changed(self, message: Message) -> None:
        unit = unit_of_path(message.path)
        if unit is not None and unit in self._known:
            values = {name: variant.value for name, variant in message.body[1].items()}
            if self._known.signal(unit, values, self._calls.arrived):
                self._changed(frozenset({unit}))

    def _everything_changed(self) -> None:
        self._known.date()
        self._changed(None)

    def _owner_changed(self, owner: str) -> None:
        """systemd left the bus or came back to it, as it does when it re-executes itself."""
        if owner:
            self._calls.hang_up()  # a new session subscribes and reads anew
