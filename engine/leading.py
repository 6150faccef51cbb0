"""One term of leading: copy the store, plan, write, and again at the next change.

Nothing is decided here; the planner decides on what the view sees. A copy of the store that is not
current is not acted upon. What another changes between a look and a write makes the write void,
and the leader looks again.
"""

import asyncio
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from engine.apply import TASKS_PER_COMMIT, decide
from engine.election import ElectionSettings, Term
from engine.losses import EngineMemory, Hold, asked_of, fading_of, has_fresh_loss
from engine.plan import Plan, Planner, PlanSettings
from engine.tally import Tally
from engine.tasks import Task, TaskKind
from engine.view import LeaderStore, View, prefixes_of
from fleet.errors import Conflict, Unavailable
from fleet.hold import Hold as StoredHold
from fleet.machine import MachineId
from fleet.registry import Registry
from fleet.store.mirror import RETRY_S, Mirror

_log = logging.getLogger(__name__)

# How soon to look again after what was planned on has changed before it was written.
_AGAIN_S = 0.05
# Changes that come in between pass; when so many plans in a row met one, it is something else.
_CONFLICTS = 20
# Leases looked up side by side.
_LOOKUPS = 16
# How long whoever made a change has to complete it, before the leader does.
_COMPLETION_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The engine's settings; durations in seconds.

    `gap_s` is the least time between two plans; a plan that takes long makes it longer, so that
    planning never takes more than a third of a processor.
    """

    plan: PlanSettings = field(default_factory=PlanSettings)
    election: ElectionSettings = field(default_factory=ElectionSettings)
    reconcile_interval_s: float = 60.0
    gap_s: float = 0.02
    events_kept: int = 1000


class Leading:
    """What a leader does and remembers during one term."""

    def __init__(
        self,
        registry: Registry,
        term: Term,
        settings: EngineSettings,
        *,
        unavailable_at_s: float | None,
        tally: Tally | None = None,
    ) -> None:
        """`unavailable_at_s` is when the store was last found unavailable, by the loop's clock."""
        self._tally = tally or Tally()
        self._registry = registry
        self._term = term
        self._settings = settings
        self._store = LeaderStore(registry.store, registry.keys)
        self._mirror = Mirror(
            self._store,
            *prefixes_of(registry.keys),
            watch=registry.keys.root,
            resync_s=settings.reconcile_interval_s,
        )
        self._view = View(registry.keys)
        self._planner = Planner(self._view.facts, settings.plan)
        self._memory = EngineMemory()
        self._unavailable_at_s = unavailable_at_s
        self._outages = 0
        self._is_out = False
        self._seen = -1
        self._is_moving = False
        self._hold_told = False
        self._write_fails = False
        self._conflicts = 0
        self._look_at_s: float | None = None
        self._full_at_s = 0.0
        self._pending_change = 0
        self._pending_since_s = 0.0
        self._problems: frozenset[str] = frozenset()
        self._grant_amnesty()

    async def run(self) -> None:
        """Lead until the term is over."""
        try:
            async with asyncio.TaskGroup() as tasks:
                parts = (self._mirror.run(), self._passes(), self._sweeps())
                work = [tasks.create_task(part) for part in parts]
                await self._term.ended.wait()
                for task in work:
                    task.cancel()
        finally:
            self._term.end("it stopped leading")

    async def _passes(self) -> None:
        while True:
            await self._mirror.wait(self._patience_s())
            if not self._is_current() or not self._is_due():
                continue
            busy_s = await self._look()
            await asyncio.sleep(max(self._settings.gap_s, 2 * busy_s))

    # When

    def _patience_s(self) -> float:
        times = [self._full_at_s]
        if self._look_at_s is not None:
            times.append(self._look_at_s)
        return max(0.0, min(times) - _now_s()) if self._mirror.is_current else 1.0

    def _is_current(self) -> bool:
        """Whether the copy is the truth; notes when it was not."""
        current = self._mirror.is_current
        outages = self._mirror.outages
        if outages != self._outages or self._is_out:
            self._note_outage()
        self._outages = outages
        self._is_out = outages > 0 and not current
        return current and self._mirror.revision >= self._term.leader.created

    def _note_outage(self) -> None:
        self._unavailable_at_s = _now_s()
        self._grant_amnesty()

    def _grant_amnesty(self) -> None:
        if self._unavailable_at_s is None:
            return
        until_s = self._unavailable_at_s + self._settings.plan.machine_ttl_s
        if until_s > _now_s():
            self._memory = self._memory.after_outage(until_s)

    def _is_due(self) -> bool:
        """Whether anything has happened that a plan could be about."""
        now_s = _now_s()
        is_time = self._look_at_s is not None and now_s >= self._look_at_s
        is_news = self._store.decisive != self._seen
        return is_news or self._is_moving or is_time or now_s >= self._full_at_s

    # What

    async def _look(self) -> float:
        """Plan once and carry it out; the seconds of computing that the plan took."""
        self._seen = self._store.decisive
        began_s = time.monotonic()
        now_s = _now_s()
        view = self._view
        view.update(self._mirror.entries, self._mirror.take_changes())
        leader = view.leader
        if leader is None or leader.created != self._term.leader.created:
            self._term.end("the leader key is not its own any more")
            return 0.0
        if view.pending_change:
            self._look_at_s = now_s + await self._complete(view.pending_change, now_s)
            return 0.0
        self._tally.began_pass()
        self._tell_problems()
        asked_s = time.monotonic()
        try:
            fading = await self._fading(now_s)
        except Unavailable:
            self._tally.failed_pass()
            self._note_outage()
            self._look_at_s = _now_s() + RETRY_S
            return 0.0
        answered_s = time.monotonic()
        made = self._planner.plan(
            self._recall(view.hold, now_s),
            now_s,
            departures=view.departures,
            unreadable_machines=view.unreadable_machines,
            fading=fading,
            knows_all_files=not (view.problems or view.uploads),
        )
        busy_s = time.monotonic() - began_s - (answered_s - asked_s)
        again_s = await self._carry_out(made, alive=view.facts.machines.keys())
        if again_s is not None:
            self._look_at_s = _now_s() + again_s
            return busy_s
        self._memory = made.memory
        self._look_at_s = made.wake_at_s
        self._is_moving = view.facts.leaving_rows > 0 or made.is_waiting
        self._full_at_s = now_s + self._settings.reconcile_interval_s
        return busy_s

    async def _complete(self, change: int, now_s: float) -> float:
        """See to it that a change of units is completed; in how many seconds to look again.

        What it is about is not planned on before: a unit's record would be another a moment later.
        """
        if change != self._pending_change:
            self._pending_change, self._pending_since_s = change, now_s
        left_s = self._pending_since_s + _COMPLETION_S - now_s
        if left_s > 0:
            return left_s
        try:
            await self._registry.transactions.settled()
        except Unavailable as error:
            _log.warning("a change of units cannot be completed now: %s", error)
            self._note_outage()
            return RETRY_S
        _log.info("completed a change of units, which whoever made it had not")
        return _AGAIN_S

    async def _fading(self, now_s: float) -> frozenset[MachineId]:
        """The machines that do not renew their leases, looked up when one has just vanished."""
        facts = self._view.facts
        is_needed = has_fresh_loss(
            self._memory,
            live=facts.machines.keys(),
            with_rows=facts.units_on.keys(),
            departed=self._view.departures,
            now_s=now_s,
            rules=self._settings.plan.loss_rules,
        )
        if not is_needed:
            return frozenset()
        asked = asked_of(facts.machines.keys())
        slots = asyncio.Semaphore(_LOOKUPS)

        async def is_fading(machine: MachineId) -> bool:
            entry = self._mirror.entries.get(self._registry.keys.machine(machine))
            if entry is None or entry.lease is None:
                return False
            async with slots:
                left_s = await self._store.remaining(entry.lease)
            return left_s < self._settings.plan.machine_ttl_s / 2

        answers = await asyncio.gather(*map(is_fading, asked))
        found = frozenset(machine for machine, fades in zip(asked, answers, strict=True) if fades)
        return fading_of(facts.machines.keys(), asked, found)

    def _recall(self, stored: StoredHold | None, now_s: float) -> EngineMemory:
        """The memory, with the hold as the store tells of it: an earlier leader's, or ended."""
        memory = self._memory
        if stored is not None and memory.is_new:
            left_s = stored.until_s - time.time()
            until_s = now_s + min(max(0.0, left_s), self._settings.plan.mass_loss_hold_s)
            memory = memory.with_hold(Hold(machines=stored.machines, until_s=until_s))
        elif stored is None and self._hold_told and memory.hold is not None:
            _log.info("the hold was ended by an operator")
            # Kept at once: this is told but once, and what is planned now may never be written.
            memory = self._memory = memory.released(now_s)
        self._hold_told = stored is not None
        return memory

    async def _carry_out(self, made: Plan, *, alive: Collection[MachineId]) -> float | None:
        """Write the tasks; if they have to be thought over, in how many seconds."""
        since = self._view.latest_rows
        try:
            for start in range(0, len(made.tasks), TASKS_PER_COMMIT):
                if not self._term.is_valid:
                    self._term.end("its lease could not be renewed in time")
                    return RETRY_S
                tasks = made.tasks[start : start + TASKS_PER_COMMIT]
                since = await self._write(tasks, since)
                self._tally.did(tasks, alive=alive)
                self._write_fails, self._conflicts = False, 0
        except Conflict:
            self._conflicts += 1
            level = logging.WARNING if self._conflicts == _CONFLICTS else logging.DEBUG
            _log.log(
                level,
                "the cluster changed while the engine planned, for the %d. time in a row, and it "
                "looks again; first among what it could not write: %s",
                self._conflicts,
                made.tasks[start],
            )
            return _AGAIN_S
        except Unavailable as error:
            level = logging.DEBUG if self._write_fails else logging.WARNING
            _log.log(level, "the engine cannot write, and tries again and again: %s", error)
            self._write_fails = True
            self._tally.failed_pass(made.tasks[start:])
            self._note_outage()
            return RETRY_S
        return None

    async def _write(self, tasks: tuple[Task, ...], since: int) -> int:
        leader = self._term.leader
        ahead_s = time.time() - _now_s()
        decisions = [
            decide(task, self._registry, leader, until_at_s=task.until_s + ahead_s)
            for task in tasks
        ]
        revision = await self._registry.leadership.commit(leader, decisions, since=since)
        for task in tasks:
            level = logging.WARNING if task.kind is TaskKind.HOLD else logging.INFO
            _log.log(level, "%s", task)
        return revision

    async def _sweeps(self) -> None:
        """Once in a while, forget old events; beside the passes, which it must not delay."""
        while True:
            await asyncio.sleep(self._settings.reconcile_interval_s)
            try:
                await self._registry.trim_events(self._settings.events_kept)
            except (Conflict, Unavailable) as error:
                _log.info("old events could not be removed: %s", error)

    def _tell_problems(self) -> None:
        problems = frozenset(self._view.problems.values())
        for problem in sorted(problems - self._problems):
            _log.warning("%s; it is passed over", problem)
        self._problems = problems


def _now_s() -> float:
    return asyncio.get_running_loop().time()
