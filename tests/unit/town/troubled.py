"""One client's connection to a store in memory, with everything that may befall a real one."""

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import Enum, auto
from typing import TypeVar

from fleet.errors import FleetError, Unavailable
from fleet.store.memory import MemoryStore
from fleet.store.port import Changes, Commit, Delete, Guard, LeaseId, Put, Snapshot

_T = TypeVar("_T")

# How long a client waits for an answer, or for a sign of life of a watch.
ANSWER_S = 3.0
SLOW_S = 0.7
HELD_S = 1.5


class Mood(Enum):
    """How a connection is, until it is told otherwise."""

    WELL = auto()
    AWAY = auto()
    """Whatever is asked is refused at once."""
    SILENT = auto()
    """Nothing is answered: requests arrive when it is well again, if they are waited for."""
    SLOW = auto()
    """Requests, answers and news take their time."""


class Fate(Enum):
    """What becomes of one request."""

    WELL = auto()
    LOST = auto()
    """It never arrives."""
    UNANSWERED = auto()
    """It is carried out, and the answer is lost."""
    LATE = auto()
    """It arrives after others that were asked later."""
    HELD = auto()
    """It is carried out, and the answer comes after others."""
    GHOST = auto()
    """It is given up, and arrives nevertheless, later."""


class TroubledStore:
    """The connection. It is a store; what tests do to it stands first."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._watches: list[MemoryStore] = []
        self._changed = asyncio.Event()
        self._ghosts: set[asyncio.Task[None]] = set()
        self.mood = Mood.WELL
        self.mood_since_s = 0.0
        self.fates: deque[Fate] = deque()
        self.trouble_s = 0.0
        """When something last went wrong."""

    def be(self, mood: Mood) -> None:
        if mood is self.mood:
            return
        now_s = asyncio.get_running_loop().time()
        self.mood, self.mood_since_s, self.trouble_s = mood, now_s, now_s
        self._changed.set()
        self._changed = asyncio.Event()
        if mood is Mood.AWAY:
            self.end_watches()

    @property
    def gone_since_s(self) -> float | None:
        """Since when nothing can be learned from the store, None if something can."""
        return self.mood_since_s if self.mood in (Mood.AWAY, Mood.SILENT) else None

    def end_watches(self) -> None:
        self.trouble_s = asyncio.get_running_loop().time()
        for watch in self._watches:
            watch.fail_with(Unavailable("the watch has ended"))

    # The port

    async def read(self, *prefixes: str) -> Snapshot:
        return await self._ask(lambda: self._store.read(*prefixes))

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        return await self._ask(lambda: self._store.commit(guards, operations))

    async def grant(self, ttl_s: float) -> LeaseId:
        return await self._ask(lambda: self._store.grant(ttl_s))

    async def renew(self, lease: LeaseId) -> None:
        await self._ask(lambda: self._store.renew(lease))

    async def remaining(self, lease: LeaseId) -> float:
        return await self._ask(lambda: self._store.remaining(lease))

    async def revoke(self, lease: LeaseId) -> None:
        await self._ask(lambda: self._store.revoke(lease))

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        await self._pass()
        connection = self._store.connect()
        self._watches.append(connection)
        try:
            async for changes in connection.watch(prefix, after):
                await self._pass()
                yield changes
        finally:
            self._watches.remove(connection)

    async def close(self) -> None:
        self.end_watches()

    # Inside

    async def _ask(self, act: Callable[[], Awaitable[_T]]) -> _T:
        fate = self.fates.popleft() if self.fates else Fate.WELL
        if fate is not Fate.WELL:
            self.trouble_s = asyncio.get_running_loop().time()
        await self._pass()
        if fate is Fate.LOST:
            raise Unavailable("the request was lost")
        if fate is Fate.GHOST:
            self._haunt(act)
            raise Unavailable("the request was given up")
        if fate is Fate.LATE:
            await asyncio.sleep(HELD_S)
        answer = await act()
        if fate is Fate.UNANSWERED:
            raise Unavailable("the answer was lost")
        if fate is Fate.HELD:
            await asyncio.sleep(HELD_S)
        await self._pass()
        return answer

    def _haunt(self, act: Callable[[], Awaitable[object]]) -> None:
        async def arrive() -> None:
            await asyncio.sleep(HELD_S)
            with contextlib.suppress(FleetError):
                await act()

        task = asyncio.get_running_loop().create_task(arrive(), context=contextvars.Context())
        self._ghosts.add(task)
        task.add_done_callback(self._ghosts.discard)

    async def _pass(self) -> None:
        """Get through to the other side, or raise Unavailable."""
        if self.mood is Mood.SLOW:
            await asyncio.sleep(SLOW_S)
        try:
            async with asyncio.timeout(ANSWER_S):
                while self.mood is Mood.SILENT:
                    await self._changed.wait()
        except TimeoutError:
            self.end_watches()
            raise Unavailable(f"no answer within {ANSWER_S:g} s") from None
        if self.mood is Mood.AWAY:
            raise Unavailable("the store is away")
