"""Whether a unit that came up does what it is for, as its HealthCommand says.

The command is asked after each start, again and again until it succeeds or HealthTimeout is over;
then its verdict stands for as long as the unit lives. It is no watch over a unit that runs: that is
`WatchdogSec=` and `Restart=`. What came of it is noted, so that the next fleetd does not ask again;
one that finds no verdict begins anew, with the whole of the time. Nothing is ever done to the unit.

systemd runs the command, as a service of its own and as the unit's user: a command that hangs is
ended by systemd, whoever lives by then, and its lines are in the journal.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.local import HealthNote, LocalUnit, LocalUnits
from agent.report import JOURNAL_LINES, MAX_LINE, exit_text
from agent.systemd import Command, Systemd, SystemdState
from fleet.errors import SystemdError, Unavailable
from fleet.names import UnitName
from fleet.options import expand
from fleet.states import Health, UnitState
from fleet.unit import UnitFile

_log = logging.getLogger(__name__)

PAUSE_S = 1.0
# The least time that an attempt has, however little is left.
LEAST_S = 1.0


@dataclass(slots=True, eq=False)
class _Check:
    """A unit that is being asked: since when it has been up, and how the last attempt ended."""

    since_s: float
    reason: str = ""
    cancel: Callable[[], object] = bool


class HealthChecks:
    """Asks units that came up; `changed` is called when there is news of one."""

    def __init__(
        self, systemd: Systemd, local: LocalUnits, *, changed: Callable[[UnitName], None]
    ) -> None:
        self._systemd = systemd
        self._local = local
        self._changed = changed
        self._checks: dict[UnitName, _Check] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, local: LocalUnit, told: UnitState) -> UnitState:
        """What is told of a unit with a HealthCommand, with its health, which is asked if need be.

        A unit that has ended keeps the health that it had, or is asked now.
        """
        unit = local.unit
        if not told.has_come_up or not local.is_loaded or local.note is None:
            self.drop(unit)
            return told
        noted = local.note.health
        if noted is not None and _is_about(noted.since_s, told):
            self.drop(unit)
            return with_verdict(told, noted)
        check = self._checks.get(unit)
        if check is None or not _is_about(check.since_s, told):
            self.drop(unit)
            check = self._begin(local, told.since_s)
        return replace(told, health=Health.CHECKING, health_reason=check.reason)

    def _begin(self, local: LocalUnit, since_s: float) -> _Check:
        check = self._checks[local.unit] = _Check(since_s)
        task = asyncio.create_task(self._ask(local, check), name=f"health of {local.unit}")
        check.cancel = task.cancel
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return check

    def drop(self, unit: UnitName) -> None:
        """Ask no more: the unit is down, or came up anew."""
        check = self._checks.pop(unit, None)
        if check is not None:
            check.cancel()

    async def close(self) -> None:
        """End all that is under way, without a verdict."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, local: LocalUnit, check: _Check) -> None:
        unit, limit_s = local.unit, local.requirements.health_timeout_s
        end_s = _now_s() + limit_s
        while (reason := await self._attempt(local, end_s - _now_s())) != "":
            if reason is None:
                end_s = _now_s() + limit_s  # nobody could ask: that says nothing of the unit
            elif _now_s() + PAUSE_S >= end_s:
                break
            elif reason != check.reason:
                check.reason = reason
                self._changed(unit)
            await asyncio.sleep(PAUSE_S)
        await self._conclude(unit, check, reason or "")

    async def _attempt(self, local: LocalUnit, left_s: float) -> str | None:
        """Run the command once; why it failed, "" if it did not, None if systemd was not there."""
        try:
            ended = await self._systemd.execute(health_command(local, max(LEAST_S, left_s)))
        except Unavailable:
            return None
        except SystemdError as error:
            return str(error)
        return failure_text(ended)

    async def _conclude(self, unit: UnitName, check: _Check, reason: str) -> None:
        lines: tuple[str, ...] = ()
        if reason:
            lines = await self._systemd.journal_tail(health_unit(unit), JOURNAL_LINES)
            _log.warning("%s: its HealthCommand failed: %s", unit, reason)
        here = self._local.get(unit)
        if self._checks.get(unit) is not check or here is None or here.note is None:
            return  # it is another's turn by now
        del self._checks[unit]
        lines = tuple(line[:MAX_LINE] for line in lines)
        note = replace(
            here.note, health=HealthNote(since_s=check.since_s, reason=reason, journal=lines)
        )
        try:
            self._local.note(unit, note)
        except Unavailable as error:
            _log.warning("%s: the next fleetd will ask for its health again: %s", unit, error)
            self._local.note(unit, note, passing=True)
        self._changed(unit)


def with_verdict(told: UnitState, noted: HealthNote) -> UnitState:
    """What is told of a unit whose health is known."""
    if not noted.reason:
        return replace(told, health=Health.OK)
    return replace(told, health=Health.FAILED, health_reason=noted.reason, journal=noted.journal)


def failure_text(ended: SystemdState) -> str:
    """Why the command failed, as systemctl says it; "" if it did not."""
    if ended.active != "failed":
        return ""
    status = exit_text(ended)
    result = ended.result or "failed"
    return f"{result} ({status})" if status else result


def health_command(local: LocalUnit, limit_s: float) -> Command:
    """The unit's HealthCommand, to be run once."""
    unit = local.unit
    return Command(
        unit=health_unit(unit),
        words=local.requirements.health_command,
        limit_s=limit_s,
        user=_service_word(local.file, "User", unit),
        group=_service_word(local.file, "Group", unit),
        description=f"Health of {unit}",
    )


def health_unit(unit: UnitName) -> UnitName:
    """The service that the unit's HealthCommand runs as: all of them share one slice."""
    return UnitName(f"fleet-health@{unit}.service")


def _service_word(file: UnitFile | None, name: str, unit: UnitName) -> str:
    values = file.values("Service", name) if file is not None else ()
    return expand(values[-1], unit) if values else ""


def _is_about(since_s: float, told: UnitState) -> bool:
    """Whether what was found of a unit that was up since then holds for the unit as it is."""
    return told.active == "inactive" or since_s == told.since_s


def _now_s() -> float:
    return asyncio.get_running_loop().time()
