"""The agent: keeps one machine's systemd as its schedule says, and the store told of it.

It watches nothing but its own schedule. Each pass observes (rows, files, notes, systemd's states),
plans, acts and reports; what changes something wakes the next pass, and a full one now and then is
the safety net. It acts only on a mirror that is current and while the machine is registered: as
long as the store cannot be read, or another machine has the same id, nothing here changes. Being
cancelled is how it ends, and that touches no unit; `depart` takes them all away first.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.act import Actor
from agent.doubt import doubt
from agent.fence import Fence
from agent.fencing import FencedUnits
from agent.local import LocalUnit, LocalUnits
from agent.plan import NOT_SCHEDULED, Here, Kind, Plan, missing_files, plan
from agent.publisher import Publisher
from agent.report import Trouble
from agent.reporter import Look, Reporter
from agent.systemd import Systemd, SystemdState
from fleet.claims import Claims
from fleet.cluster import Assignment
from fleet.errors import FleetError, Unavailable
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.snapshot import decode_schedule
from fleet.store.mirror import Mirror
from fleet.store.port import LeaseId
from fleet.unit import UnitFile

_log = logging.getLogger(__name__)

FULL_PASS_S = 60.0
RETRY_S = 1.0
# How often it is looked whether what keeps a unit from being loaded is gone.
REFUSED_S = 5.0
# Where more rows than this change at once, more are on their way: they share a pass. It begins when
# none has come for a moment, or after so long.
FEW_ROWS = 8
ROWS_QUIET_S = 0.02
ROWS_TOGETHER_S = 0.25
DOUBT_S = 10.0
# The shortest sleep: a moment that a timer missed by a rounding error passes within it.
TICK_S = 0.001
DEPARTING = "fleetd leaves the cluster (on_stop = leave)"
GOING_DOWN = "the machine goes down, and a fenced unit has to be seen to stop"


class Agent:
    """One machine's agent. `use_lease` tells it under which lease to publish; `run()` runs it."""

    def __init__(
        self,
        *,
        registry: Registry,
        systemd: Systemd,
        units: LocalUnits,
        machine: MachineId,
        fence: Fence | None = None,
    ) -> None:
        self._registry = registry
        self._systemd = systemd
        self._local = units
        self._machine = machine
        self._mirror = Mirror(registry.store, registry.keys.schedule_of(machine))
        self._publisher = Publisher(registry, machine)
        self._reporter = Reporter(systemd, self._publisher, machine, local=units, look=self._look)
        self._fenced = FencedUnits(
            fence, Claims(registry.store, registry.keys, machine), local=units
        )
        self._actor = Actor(
            systemd,
            units,
            admit=self._admit,
            changed=self._reporter.touch,
            wake=self._mirror.nudge,
        )
        self._rows: Mapping[UnitName, Assignment] = {}
        self._held: Mapping[UnitName, Trouble] = {}
        self._files: dict[str, UnitFile] = {}
        self._problems: frozenset[str] = frozenset()
        self._reached = False
        self._registered = False
        self._departing = False
        self._fenced_only = False
        self._departed = asyncio.Event()
        self._last_row = 0
        self._next_full_s = 0.0
        self._retry_s: float | None = None
        self.problem = ""
        """Why nothing is done here now, empty when all is well."""

    def use_lease(self, lease: LeaseId | None) -> None:
        """Act, and publish under this lease, from now on; with None do neither."""
        self._publisher.use_lease(lease)
        self._fenced.doubt()
        self._registered = lease is not None
        self._mirror.nudge()

    @property
    def has_fenced(self) -> bool:
        """Whether fenced units may run here."""
        return bool(self._fenced.claimed)

    def nudge(self) -> None:
        """Look again now: the fence is up, or has come down."""
        self._mirror.nudge()

    async def depart(self, timeout_s: float, *, fenced_only: bool = False) -> tuple[UnitName, ...]:
        """Stop and unload every unit here, whatever the schedule says, while run() goes on.

        Returns when none is left, or those that are when the time is over. With `fenced_only`
        the others are left alone.
        """
        self._departing, self._fenced_only = True, fenced_only
        self._mirror.nudge()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._departed.wait()
        return tuple(sorted(self._to_depart()))

    def _to_depart(self) -> frozenset[UnitName]:
        local = self._local.read()
        return frozenset(u for u in local if not self._fenced_only or self._fenced.is_fenced(u))

    def describe(self) -> dict[str, dict[str, str]]:
        """What is asked of each unit here, and how it is; for whoever debugs fleetd."""
        told: dict[str, dict[str, str]] = {}
        for unit, row in sorted(self._rows.items()):
            state = self._publisher.state(unit)
            told[unit] = {"target": row.target.value} | (
                {"load": state.load, "active": state.active, "sub": state.sub} if state else {}
            )
        return told

    @property
    def _may_act(self) -> bool:
        if self._departing:
            return self._reached  # the store has no say in it
        return self._reached and self._registered and self._mirror.is_current

    async def run(self) -> None:
        """Run for ever; cancel it to end it, which leaves every unit as it is."""
        async with asyncio.TaskGroup() as connection:
            connected = connection.create_task(self._systemd.run(self._systemd_changed))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._mirror.run())
                    group.create_task(self._publisher.run())
                    group.create_task(self._reporter.run())
                    group.create_task(self._work())
            finally:
                await self._actor.close()
                connected.cancel()

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._mirror.wait(self._wait_s(clock()))
            await self._gather_rows()
            await self._actor.gather_stops()
            if not self._may_act:
                continue
            self._retry_s = None
            try:
                await self._pass(full=clock() >= self._next_full_s)
            except FleetError as error:
                self._say(str(error))
                self._retry_s = clock() + RETRY_S

    async def _gather_rows(self) -> None:
        changed = self._mirror.take_changes()
        if changed is not None and len(changed) <= FEW_ROWS:
            return
        clock = asyncio.get_running_loop().time
        end_s = clock() + ROWS_TOGETHER_S
        while clock() < end_s and await self._mirror.wait(ROWS_QUIET_S):
            pass
        self._mirror.take_changes()

    def _wait_s(self, now_s: float) -> float | None:
        """Until when the loop may sleep; while it could not act anyway, until it is woken."""
        if not self._may_act:
            return None
        if self._retry_s is not None:
            return max(TICK_S, self._retry_s - now_s)
        rest_end_s = self._actor.next_rest_end(now_s)
        moment_s = self._next_full_s if rest_end_s is None else min(self._next_full_s, rest_end_s)
        return max(TICK_S, moment_s - now_s)

    async def _pass(self, *, full: bool) -> None:
        await self._recall(full=full)  # first: what is read after it has to be of one moment
        rows = self._wanted_rows()
        own = self._own()
        if own.local and not (rows or self._departing or await self._believes_emptiness(own.local)):
            return
        self._take_in(rows)
        names = rows.keys() | own.local.keys() | self._fenced.claimed
        here = await self._observe(own, await self._systemd.states(names, fresh=full))
        await self._fetch(rows, here)
        made = plan(
            rows,
            here,
            files=self._files,
            machine=Machine(id=self._machine),
            unwanted=self._unwanted(),
        )
        if not self._may_act:
            return  # that was lost while we looked: hands off
        self._hold(made, here)
        await self._actor.carry_out(made, self._contents(made))
        if not here.lease:
            self._fenced.want(self._actor.starting)  # the first fenced unit may just have come
        await self._release(here)
        self._reporter.touch(names if full else ())
        self._say("")
        if made.refused:
            self._retry_s = asyncio.get_running_loop().time() + REFUSED_S
        if full:
            self._next_full_s = asyncio.get_running_loop().time() + FULL_PASS_S
        if self._departing and not self._to_depart():
            self._departed.set()

    async def _recall(self, *, full: bool) -> None:
        if full and not self._departing:
            self._fenced.doubt()
        with contextlib.suppress(*((Unavailable,) if self._departing else ())):
            await self._fenced.recall()

    async def _release(self, here: Here) -> None:
        """Give claims back; who leaves without a store leaves them, and they are waited out."""
        with contextlib.suppress(*((Unavailable,) if self._departing else ())):
            await self._fenced.release(here, self._actor.starting)

    async def _admit(self, unit: UnitName) -> str:
        row = self._rows.get(unit)
        return await self._fenced.admit(unit, row.revision if row else 0)

    # Observing

    def _wanted_rows(self) -> dict[UnitName, Assignment]:
        """The rows to act on: none for units that leave with fleetd."""
        if self._departing and not self._fenced_only:
            return {}
        rows = self._read_rows()
        if not self._departing:
            return rows
        kept = self._local.read().keys() - self._to_depart()
        return {unit: row for unit, row in rows.items() if unit in kept}

    def _read_rows(self) -> dict[UnitName, Assignment]:
        """The rows of the schedule; one that makes no sense is reported and passed over."""
        entries = self._mirror.entries.values()
        rows, problems = decode_schedule(self._registry.keys, self._machine, entries)
        for problem in frozenset(problems) - self._problems:
            _log.warning("%s", problem)
        self._problems = frozenset(problems)
        if entries:
            self._last_row = self._mirror.revision
        return {row.unit: row for row in rows}

    def _unreadable(self) -> frozenset[UnitName]:
        """The units of which there is a row that cannot be read."""
        prefix = self._registry.keys.schedule_of(self._machine)
        named = {UnitName(key.removeprefix(prefix)) for key in self._mirror.entries}
        return frozenset(named - self._rows.keys())

    async def _believes_emptiness(self, local: Iterable[UnitName]) -> bool:
        if self._mirror.entries:
            return True  # there are rows, though none that can be read
        reason = await doubt(
            self._registry.store, self._registry.keys, self._machine, local, self._last_row
        )
        if reason:
            self._say(reason)
            self._retry_s = asyncio.get_running_loop().time() + DOUBT_S
        return not reason

    def _take_in(self, rows: Mapping[UnitName, Assignment]) -> None:
        """What is asked anew is tried at once, whatever failed before."""
        for unit in rows.keys() | self._rows.keys():
            old, new = self._rows.get(unit), rows.get(unit)
            if old is None or new is None or (old.hash, old.target) != (new.hash, new.target):
                self._actor.forgive(unit)
        gone = self._rows.keys() - rows.keys()
        leaving = {unit for unit, row in rows.items() if row.leaving}
        self._rows = rows
        self._reporter.touch(gone | leaving)  # no task may follow that would do so

    def _unwanted(self) -> str:
        if not self._departing:
            return NOT_SCHEDULED
        return GOING_DOWN if self._fenced_only else DEPARTING

    def _own(self) -> Here:
        """What fleet itself knows, all of one moment: a start that ends after it is under way."""
        return Here(
            local=self._local.read(),
            starting=self._actor.starting,
            stopping=self._actor.stopping,
        )

    async def _observe(self, own: Here, states: Mapping[UnitName, SystemdState]) -> Here:
        here = replace(
            own,
            states=states,
            foreign=await self._foreign(own.local, states),
            resting=self._actor.resting(asyncio.get_running_loop().time()),
            unreadable=frozenset() if self._departing else self._unreadable(),
        )
        return self._fenced.observe(here)

    async def _foreign(
        self, local: Mapping[UnitName, LocalUnit], states: Mapping[UnitName, SystemdState]
    ) -> dict[UnitName, str]:
        """Units that systemd knows though fleet did not load them, with their files."""
        asked = [
            unit
            for unit, state in states.items()
            if state.load not in ("not-found", "error")
            and not (unit in local and local[unit].is_loaded)
        ]
        fragments = await self._systemd.fragments(asked) if asked else {}
        return {unit: path for unit, path in fragments.items() if not self._local.owns(unit, path)}

    async def _fetch(self, rows: Mapping[UnitName, Assignment], here: Here) -> None:
        """Have the contents of every file that may have to be written."""
        wanted = missing_files(rows, here)
        lacking = sorted(wanted - self._files.keys())
        known = self._files | await self._registry.files(lacking)
        self._files = {digest: known[digest] for digest in wanted if digest in known}

    # Acting and reporting

    def _contents(self, made: Plan) -> dict[UnitName, UnitFile]:
        return {
            task.unit: self._files[self._rows[task.unit].file]
            for task in made.tasks
            if task.kind is Kind.WRITE and task.unit is not None
        }

    def _hold(self, made: Plan, here: Here) -> None:
        """Report units that nothing is done to, and those that were among them."""
        held = {
            unit: Trouble(reason=reason, refused=unit in made.refused)
            for unit, reason in made.held.items()
        }
        held |= {u: t for u, t in self._held.items() if u in here.resting and u in self._rows}
        for unit, trouble in held.items():
            if self._held.get(unit) != trouble:
                _log.warning("%s: %s", unit, trouble.reason)
        changed = {u for u in held.keys() | self._held.keys() if held.get(u) != self._held.get(u)}
        self._held = held
        self._reporter.touch(changed)

    def _look(self, unit: UnitName) -> Look | None:
        local, row = self._local.get(unit), self._rows.get(unit)
        trouble = self._actor.troubles.get(unit) or self._held.get(unit)
        leaving = row is not None and row.leaving
        if local is None and not leaving and (row is None or trouble is None):
            return None
        return Look(
            local=local or LocalUnit(unit=unit),
            wanted_hash=row.hash if row else "",
            starting=self._actor.is_starting(unit),
            stopping=self._actor.is_stopping(unit),
            jobs=self._actor.jobs,
            trouble=trouble,
            leaving=leaving,
        )

    def _systemd_changed(self, units: frozenset[UnitName] | None) -> None:
        if units is None:
            self._reached = True
            self._next_full_s = 0.0
            self._mirror.nudge()
            return
        self._reporter.touch(units)
        if self._held or any(u not in self._rows or self._fenced.is_fenced(u) for u in units):
            self._mirror.nudge()

    def _say(self, problem: str) -> None:
        """Log a problem once, and the end of it."""
        if problem and problem != self.problem:
            _log.warning("nothing is changed here: %s", problem)
        elif self.problem and not problem:
            _log.info("the agent acts again")
        self.problem = problem
