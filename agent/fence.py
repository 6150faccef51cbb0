"""The fence: a dead man's switch in PID 1 that stops fenced units before the lease can have ended.

Theory of operation. Every fenced unit is bound to `fleet-lease.service` by a drop-in beside its
link: it is a part of it, so that it stops when that stops, and it asserts a folder that is there
only while that is active, so that nobody, not even `Restart=`, starts it meanwhile. A timer of
systemd's own starts `fleet-fence@N.service`, which conflicts with the lease, at an absolute moment
of the monotonic clock: when the lease was last renewed (the moment before the request was sent),
plus its time to live, less a margin. With every renewal a later timer is armed first, then the
earlier one is stopped.

So a fleetd that is killed or frozen, a bus that is gone, a network that is cut and a clock that is
set all end the same way: nobody arms a later timer, and PID 1 stops the units. And a fleetd that
wakes up in the middle cannot do harm: the moment it asks for is as long past as its renewal.

Once the fence has come down it is not raised again before the agent says so, which it does while it
starts no fenced unit: a start that was under way then finds another generation of the lease.

The heartbeat's thread runs this, with a connection of its own, so that a busy agent is no dead one.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.binding import LEASE
from agent.plan import ordered_after
from agent.systemd import Systemd
from fleet.errors import FleetError, Unavailable
from fleet.fencing import stop_limit_s
from fleet.names import UnitName
from fleet.unit import UnitFile

_log = logging.getLogger(__name__)

RETRY_S = 0.2
# So long before it comes down the fence counts as down: what is seen later may be its doing.
EARLY_S = 0.05
# The part of a lease by which the fence comes down before its end.
MARGIN_PART = 6
TIMERS = "fleet-fence@*.timer"

_FILES = {
    "fleet-lease.service": """\
[Unit]
Description=This machine's lease in the fleet cluster is good
Documentation=man:fleet.unit(5)

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
RuntimeDirectory=fleet-lease
""",
    "fleet-fence@.service": """\
[Unit]
Description=Stop fenced units: fleetd has not renewed this machine's lease in time
Documentation=man:fleet.unit(5)
Conflicts=fleet-lease.service

[Service]
Type=oneshot
ExecStart=/bin/true
""",
}


def stop_times(files: Mapping[UnitName, UnitFile]) -> dict[UnitName, float]:
    """After how many seconds each unit has stopped: those that come after it stop before it does.

    Units that wait for each other in a circle are counted once.
    """
    later: dict[str, set[UnitName]] = {}
    for unit, file in files.items():
        for other in ordered_after(file):
            later.setdefault(other, set()).add(unit)
        for line in file.values("Unit", "Before"):
            later.setdefault(unit, set()).update(UnitName(o) for o in line.split() if o in files)

    def time_s(unit: UnitName, seen: frozenset[UnitName]) -> float:
        others = later.get(unit, set()) - seen
        waits = (time_s(other, seen | others) for other in others)
        return stop_limit_s(files[unit]) + max(waits, default=0.0)

    return {unit: time_s(unit, frozenset({unit})) for unit in files}


@dataclass(frozen=True, slots=True)
class Armed:
    """The fence stands until that moment, for the lease unit that has been active since then."""

    generation: str
    until_s: float


class Fence:
    """One machine's fence.

    `want` and `generation` are for the agent, `renewed` and `run` for the heartbeat's thread.
    `changed` is called in the latter when the fence is raised or found to have come down.
    """

    def __init__(
        self,
        systemd: Systemd,
        folder: Path,
        *,
        ttl_s: float,
        margin_s: float = 0.0,
        changed: Callable[[], None],
    ) -> None:
        """`margin_s` is how long before the lease's end it comes down; a sixth of it if 0."""
        self._systemd = systemd
        self._folder = folder
        self._holds_s = ttl_s - (margin_s or ttl_s / MARGIN_PART)
        self._changed = changed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._moved = asyncio.Event()
        self._wanted = False
        self._may_raise = False
        self._renewed_s: float | None = None
        self._timers: frozenset[UnitName] | None = None
        self._number = 0
        self._is_connected = False
        self._armed: Armed | None = None

    # For the agent

    def generation(self, now_s: float) -> str:
        """Which lease fenced units may be started under now, "" for none."""
        armed = self._armed
        is_up = armed is not None and now_s < armed.until_s - EARLY_S
        return armed.generation if armed is not None and is_up else ""

    def want(self, wanted: bool, *, may_raise: bool) -> None:
        """Say whether there are fenced units here, and whether none is being started."""
        if (wanted, may_raise) != (self._wanted, self._may_raise):
            self._wanted, self._may_raise = wanted, may_raise
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._news.set)

    # For the heartbeat

    def renewed(self, at_s: float) -> None:
        """The lease was renewed by a request that was sent after `at_s` (monotonic)."""
        self._renewed_s = at_s
        self._news.set()

    async def catch_up(self, timeout_s: float) -> None:
        """Return when the fence stands as long as the last renewal allows, or the time is over.

        So a fleetd that is stopped leaves the one after it all the time there is.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._is_behind:
                    self._moved.clear()
                    await self._moved.wait()

    @property
    def _is_behind(self) -> bool:
        return self._wanted and self._armed is not None and self._armed.until_s < self._end_s

    @property
    def _end_s(self) -> float:
        """How long the fence may stand."""
        return -math.inf if self._renewed_s is None else self._renewed_s + self._holds_s

    async def run(self) -> None:
        """Keep the fence up for ever, while it is wanted and the lease is renewed."""
        self._loop = asyncio.get_running_loop()
        self._news.set()
        while not self._wanted:
            await self._next()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._systemd.run(lambda _: self._connected()))
            group.create_task(self._keep())

    async def _next(self) -> None:
        await self._news.wait()
        self._news.clear()

    async def _keep(self) -> None:
        troubled = False
        while True:
            try:
                if self._wanted and self._is_connected:
                    await self._raise()
                troubled = False
            except FleetError as error:
                if not troubled:
                    _log.warning("the fence is not moved, which is tried again: %s", error)
                troubled = True
                await asyncio.sleep(RETRY_S)
                self._news.set()
            await self._next()

    def _connected(self) -> None:
        self._is_connected = True
        self._news.set()

    async def _raise(self) -> None:
        """Have the fence come down as late as the last renewal allows."""
        until_s = self._end_s
        if asyncio.get_running_loop().time() >= until_s or (
            self._armed is not None and self._armed.until_s >= until_s
        ):
            return
        await self._arm(until_s)
        since_s = await self._systemd.active_since(LEASE)
        if not since_s and self._may_raise:
            since_s = await self._begin(until_s)
        self._take(Armed(repr(since_s), until_s) if since_s else None)

    async def _arm(self, until_s: float) -> None:
        """Arm the later timer, then disarm the earlier ones."""
        if self._timers is None:
            paths = _written(self._folder)
            await self._systemd.link(paths)
            self._timers = await self._systemd.matching(TIMERS)
        # Never the name of an earlier one, which may be there though the answer was lost.
        self._number = max(self._number + 1, int(asyncio.get_running_loop().time() * 1e6))
        number = self._number
        timer = UnitName(f"fleet-fence@{number}.timer")
        earlier = self._timers - {timer}
        self._timers |= {timer}
        await self._systemd.start_at(UnitName(f"fleet-fence@{number}.service"), until_s)
        for old in sorted(earlier):
            await self._systemd.stop(old, alone=True)
        self._timers = frozenset({timer})

    async def _begin(self, until_s: float) -> float:
        """Have the lease unit active; since when it is, 0 if the fence came down meanwhile."""
        await (await self._systemd.start(LEASE, alone=True))
        since_s = await self._systemd.active_since(LEASE)
        if asyncio.get_running_loop().time() < until_s:
            return since_s
        await (await self._systemd.stop(LEASE, alone=True))
        return 0.0

    def _take(self, armed: Armed | None) -> None:
        old, self._armed = self._armed, armed
        self._moved.set()
        if (old and old.generation) == (armed and armed.generation):
            return
        if armed is not None:
            _log.info("the fence is up: fenced units may run here")
        elif old is not None:
            _log.warning("the fence came down: this machine's lease was not renewed in time")
        self._changed()


def _written(folder: Path) -> list[str]:
    """The files of the fence's own units, written where they have to be; their paths."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name, text in _FILES.items():
            (folder / name).write_text(text)
    except OSError as error:
        raise Unavailable(f"cannot write below {folder}: {error.strerror or error}") from error
    return [str(folder / name) for name in _FILES]
