"""A store in memory, for tests of whatever uses the port: all of its semantics, none of the I/O.

It passes the same contract suite as the real ones, which is why a test may trust it. It belongs to
one event loop and keeps time by that loop's clock, so that on a virtual clock leases end virtually.
`connect()` gives further stores over the same data, as each fleetd has its own connection; each can
be cut off by itself.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence

from fleet.errors import Unavailable
from fleet.store.keyspace import Keyspace
from fleet.store.port import Changes, Commit, Delete, Guard, LeaseId, Put, Snapshot

HISTORY_REVISIONS = 100_000


class MemoryStore:
    """A store over data of its own; `clock` gives seconds, by default the running loop's time."""

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        self._data = _Data(clock)
        self._failure: Unavailable | None = None
        self._closed = False
        self._news: set[asyncio.Event] = set()

    def connect(self) -> "MemoryStore":
        """Another store over the same data, which fails and closes by itself."""
        other = MemoryStore()
        other._data = self._data
        return other

    # What tests do to it

    def fail_with(self, failure: Unavailable) -> None:
        """Raise this from every method and every open watch, until recover(). Leases run on."""
        self._failure = failure
        self._wake()

    def recover(self) -> None:
        """Answer again."""
        self._failure = None

    def compact(self, revision: int | None = None) -> None:
        """Forget the changes up to and including the revision, by default all of them."""
        self._data.space.compact(self._data.space.revision if revision is None else revision)
        self._data.announce()

    @property
    def watchers(self) -> int:
        """How many watches of this store are open and waiting."""
        return len(self._news)

    # The port

    async def read(self, *prefixes: str) -> Snapshot:
        await self._enter()
        return self._data.space.read(prefixes)

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        await self._enter()
        return self._data.commit(guards, operations)

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        news = asyncio.Event()
        self._news.add(news)
        self._data.news.add(news)
        try:
            await self._enter()
            while not self._closed:
                news.clear()
                self._check()
                latest = self._data.space.revision
                for changes in self._data.space.since(prefix, after):
                    yield changes
                    self._check()
                after = latest
                await news.wait()
        finally:
            self._news.discard(news)
            self._data.news.discard(news)

    async def grant(self, ttl_s: float) -> LeaseId:
        await self._enter()
        return self._data.grant(ttl_s)

    async def renew(self, lease: LeaseId) -> None:
        await self._enter()
        self._data.renew(lease)

    async def remaining(self, lease: LeaseId) -> float:
        await self._enter()
        return self._data.remaining_s(lease)

    async def revoke(self, lease: LeaseId) -> None:
        await self._enter()
        self._data.end(lease)

    async def close(self) -> None:
        self._closed = True
        self._wake()

    # Inside

    async def _enter(self) -> None:
        # A real store always gives others a turn; a fake that did not would hide their races.
        await asyncio.sleep(0)
        self._check()
        self._data.end_due()

    def _check(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed")
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        for news in self._news:
            news.set()


class _Data:
    """The key space that several stores share, with its clock and the watches that wait."""

    def __init__(self, clock: Callable[[], float] | None) -> None:
        self.space = Keyspace(keep=HISTORY_REVISIONS)
        self.news: set[asyncio.Event] = set()
        self._clock = clock
        self._ids = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None

    def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        changes = self.space.decide(guards, operations)
        if changes is None:
            return Commit(False, self.space.revision)
        self.space.apply(changes)
        self.announce()
        return Commit(True, changes.revision)

    def grant(self, ttl_s: float) -> LeaseId:
        lease = LeaseId(str(next(self._ids)))
        self.space.grant(lease, ttl_s, self._now_s())
        self._set_timer()
        return lease

    def renew(self, lease: LeaseId) -> None:
        self.space.renew(lease, self._now_s())
        self._set_timer()

    def remaining_s(self, lease: LeaseId) -> float:
        return self.space.remaining_s(lease, self._now_s())

    def end(self, lease: LeaseId) -> None:
        self.space.end(lease, self.space.decide_end(lease))
        self.announce()
        self._set_timer()

    def end_due(self) -> None:
        """End the leases whose time is over."""
        for lease in self.space.due(self._now_s()):
            self.end(lease)

    def announce(self) -> None:
        for news in self.news:
            news.set()

    def _now_s(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_s = self.space.next_deadline_s
        if deadline_s is not None:
            wait_s = max(0.0, deadline_s - self._now_s())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self.end_due()
        self._set_timer()
