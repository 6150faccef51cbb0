"""What fleet asks of the local systemd, and what systemd says of a unit.

The port is small on purpose: files are linked and enabled, units started, stopped and forgotten,
and states read. Two things pass the one suite, tests/contract/test_systemd.py: `DbusSystemd`
(agent/dbus.py) and `FakeSystemd` (agent/fake.py).
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fleet.names import UnitName

Changed = Callable[[frozenset[UnitName] | None], None]
"""Told the names of units that changed, or None when any unit may have."""

DONE = "done"
"""The result of a job that did what was asked; the others are systemd's words for why not."""

CANCELED = "canceled"
"""The result of a job that another one took the place of."""


def gone_wrong(active: str, sub: str) -> bool:
    """Whether a unit with these states failed, or did and is about to be started again."""
    return active == "failed" or sub == "auto-restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemdState:
    """What systemd says of one unit, in its own words.

    `since_s` is when `active` last changed (seconds since the epoch, 0 if it never did),
    `exit_code` how the main process ended (CLD_EXITED, CLD_KILLED, CLD_DUMPED; 0: it has not) and
    `exit_status` its exit status or signal.
    """

    unit: UnitName
    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    since_s: float = 0.0
    result: str = ""
    exit_code: int = 0
    exit_status: int = 0
    invocation: str = ""

    @property
    def is_live(self) -> bool:
        """Whether anything of the unit runs, starts or stops."""
        return self.active not in ("inactive", "failed", "")

    @property
    def is_in_use(self) -> bool:
        """Whether systemd keeps the unit in memory: it is live, or its failure is on record."""
        return self.is_live or self.active == "failed"

    @property
    def has_gone_wrong(self) -> bool:
        """Whether the unit failed, or did and is about to be started again."""
        return gone_wrong(self.active, self.sub)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that is run as a service of its own, by the name of `unit`.

    `user` and `group` are "" for systemd's own; after `limit_s` systemd ends it.
    """

    unit: UnitName
    words: tuple[str, ...]
    limit_s: float
    user: str = ""
    group: str = ""
    description: str = ""


class Systemd(Protocol):
    """The service manager of this machine.

    Every method raises Unavailable while systemd does not answer, which says nothing of any unit,
    and SystemdError when it refuses.
    """

    async def run(self, changed: Changed) -> None:
        """Keep the connection for ever and tell of changed units.

        `changed(None)` comes when the connection is made or made anew, and after a reload.
        Only units whose state was asked for before are told of.
        """
        ...

    async def link(self, paths: Sequence[str]) -> None:
        """Make unit files outside systemd's folders known to it, until the next boot."""
        ...

    async def enable(self, paths: Sequence[str]) -> None:
        """Follow the [Install] sections of unit files, until the next boot."""
        ...

    async def reload(self) -> None:
        """Have systemd read all its unit files anew; returns when it has."""
        ...

    async def loaded(self, units: Iterable[UnitName]) -> frozenset[UnitName]:
        """Those of the units whose files systemd has read: it sees a change after a reload only."""
        ...

    async def start(self, unit: UnitName, *, alone: bool = False) -> Awaitable[str]:
        """Queue a start; what is returned is awaited for the job's result.

        How long that takes is up to the unit; systemd's own time limits end it. Starts of one
        moment may reach systemd together, by a unit that wants them all, and after others that wait
        for their turn; one that is asked for `alone` reaches it by itself, at once.
        """
        ...

    async def stop(self, unit: UnitName, *, alone: bool = False) -> Awaitable[str]:
        """Queue a stop, as `start` does; a unit that is unknown has stopped."""
        ...

    async def start_at(self, unit: UnitName, at_s: float) -> None:
        """Have systemd itself start the service at that moment of the monotonic clock.

        It does so whoever lives by then, at once if the moment has passed. Stopping the timer of
        the same name takes it back.
        """
        ...

    async def execute(self, command: Command) -> SystemdState:
        """Run the command to its end; how it ended, of which systemd keeps nothing but the journal.

        One of the same name that runs is stopped, and this one refused. So is this one if the
        caller is cancelled: a command runs no longer than somebody waits for it, or its limit.
        """
        ...

    async def matching(self, pattern: str) -> frozenset[UnitName]:
        """The units in systemd's memory whose names match the glob."""
        ...

    async def active_since(self, unit: UnitName) -> float:
        """When the unit became active, 0 if it is not: looked at anew.

        It is in seconds by the monotonic clock, and so tells one activation from another.
        """
        ...

    async def forget(self, units: Sequence[UnitName]) -> None:
        """Take back what link and enable did, and any failure on record. Unknown units pass."""
        ...

    async def states(
        self, units: Iterable[UnitName], *, fresh: bool = False
    ) -> dict[UnitName, SystemdState]:
        """The state of each unit, as known from systemd's signals or, if `fresh`, looked at anew.

        A unit that is known and not in use has its file read again only when it is linked or
        started, or its start is refused. A name that systemd does not take has load state "error".
        """
        ...

    async def fragments(self, units: Iterable[UnitName]) -> dict[UnitName, str]:
        """The path of the file each unit was read from, "" for none."""
        ...

    async def is_stopping(self) -> bool:
        """Whether the whole machine is shutting down."""
        ...

    async def journal_tail(self, unit: UnitName, lines: int) -> tuple[str, ...]:
        """The unit's last lines in the journal, oldest first; empty if they cannot be had."""
        ...
