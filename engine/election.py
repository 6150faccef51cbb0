"""Who leads: one engine of the cluster, for as long as its lease lives.

Theory of operation. The leader key lies in the store under a lease; whoever creates it leads. The
leader renews the lease, and stops acting a margin before the lease can have ended by its own
monotonic clock, which it reads *before* each request it counts from. That alone would not be safe:
a leader that was frozen between two lines may wake when another leads. So every write of a leader
carries a compare on the creation revision of its key (`Registry.commit_as`), and the store refuses
those of one that was deposed.

The others watch nothing but the leader key and try as soon as it goes.
Why a lease is not a lock: https://jepsen.io/analyses/etcd-3.4.3
"""

import asyncio
import logging
from dataclasses import dataclass, field

from fleet.cluster import Leader
from fleet.errors import FleetError, Unavailable
from fleet.machine import MachineId
from fleet.registry import Registry
from fleet.store.mirror import RETRY_S, Mirror
from fleet.store.port import Delete, Entry, Guard, LeaseId, LeaseLost

_log = logging.getLogger(__name__)

_RESIGN_S = 1.0
_LEAST_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectionSettings:
    """The lease's length, how often it is renewed, and how long before its end it is not used."""

    ttl_s: float = 4.0
    renew_s: float = 1.3
    margin_s: float = 1.0


@dataclass(slots=True, kw_only=True)
class Term:
    """One time of leading: valid up to `valid_until_s` of the loop's clock, which renewals move."""

    leader: Leader
    lease: LeaseId
    valid_until_s: float
    over: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_valid(self) -> bool:
        """Whether the engine may act now."""
        return not self.over and _now_s() < self.valid_until_s

    def end(self, why: str) -> None:
        """It is over; the first reason given stands."""
        self.over = self.over or why
        self.ended.set()


class Election:
    """One machine's part in it."""

    def __init__(
        self, registry: Registry, *, machine: MachineId, settings: ElectionSettings
    ) -> None:
        self._registry = registry
        self._machine = machine
        self._settings = settings
        self.unavailable_at_s: float | None = None
        """When the store was last found unavailable, by the loop's clock."""
        self._try_fails = False

    async def win(self) -> Term:
        """Wait for as long as it takes until this engine leads."""
        mirror = Mirror(self._registry.store, self._registry.keys.engine)
        term: Term | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                copying = tasks.create_task(mirror.run())
                term = await self._campaign(mirror)
                copying.cancel()
        except BaseException:
            if term is not None:  # nobody would know of it, nor lead until its lease has ended
                await self.resign(term)
            raise
        return term

    async def _campaign(self, mirror: Mirror) -> Term:
        while True:
            await mirror.wait(RETRY_S if not mirror.is_current else self._settings.ttl_s)
            if not mirror.is_current:
                if mirror.outages:
                    self._note_outage()
            elif _is_vacant(entry := mirror.entries.get(self._registry.keys.engine)):
                try:
                    term = await self._try(over=entry)
                except Unavailable as error:
                    level = logging.DEBUG if self._try_fails else logging.WARNING
                    _log.log(level, "the engine cannot stand for election: %s", error)
                    self._try_fails = True
                    self._note_outage()
                    await asyncio.sleep(RETRY_S)
                    mirror.nudge()
                    continue
                self._try_fails = False
                if term is not None:
                    return term

    def _note_outage(self) -> None:
        self.unavailable_at_s = _now_s()

    async def _try(self, *, over: Entry | None) -> Term | None:
        """Take the leader key if it is free, or still what no engine has written."""
        asked_at_s = _now_s()
        store = self._registry.store
        lease = await store.grant(self._settings.ttl_s)
        leader = None
        try:
            if over is not None:
                _log.warning("the leader key holds what no engine has written: it is removed")
                guard = Guard(over.key, modified=over.modified)
                await store.commit([guard], [Delete(over.key)])
            leader = await self._registry.leadership.acquire(self._machine, lease)
        except LeaseLost:
            return None
        finally:
            if leader is None:
                await self._drop(lease)
        if leader is None:
            return None
        return Term(leader=leader, lease=lease, valid_until_s=self._valid_until_s(asked_at_s))

    async def keep(self, term: Term) -> None:
        """Renew the term's lease until the term is over."""
        pause_s = self._settings.renew_s
        while not await self._has_ended(term, pause_s):
            asked_at_s = _now_s()
            left_s = term.valid_until_s - asked_at_s
            if left_s <= 0:
                term.end("its lease could not be renewed in time")
                return
            try:
                async with asyncio.timeout(left_s):
                    await self._registry.store.renew(term.lease)
            except LeaseLost:
                term.end("its lease has ended in the store")
            except (Unavailable, TimeoutError):
                self._note_outage()
                pause_s = min(RETRY_S, max(_LEAST_PAUSE_S, term.valid_until_s - _now_s()))
            else:
                term.valid_until_s = self._valid_until_s(asked_at_s)
                pause_s = self._settings.renew_s

    async def resign(self, term: Term) -> None:
        """Give the leader key back, so that another engine takes over at once."""
        term.end("it resigned")
        await self._drop(term.lease)

    async def _drop(self, lease: LeaseId) -> None:
        """End a lease that is not needed; if that fails it ends by itself."""
        try:
            async with asyncio.timeout(_RESIGN_S):
                await self._registry.store.revoke(lease)
        except (FleetError, TimeoutError) as error:
            _log.info("the engine's lease is left to end by itself: %s", error)

    async def _has_ended(self, term: Term, pause_s: float) -> bool:
        try:
            await asyncio.wait_for(term.ended.wait(), pause_s)
        except TimeoutError:
            return False
        return True

    def _valid_until_s(self, asked_at_s: float) -> float:
        return asked_at_s + self._settings.ttl_s - self._settings.margin_s


def _is_vacant(entry: Entry | None) -> bool:
    """Whether nobody leads: a leader's key has a lease, and what has none would stay for ever."""
    return entry is None or entry.lease is None


def _now_s() -> float:
    return asyncio.get_running_loop().time()
