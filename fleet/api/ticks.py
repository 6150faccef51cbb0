"""Telling that something changed, and what kind of thing: who lists things then lists them anew.

Unlike reports (`follow`), which say how units are, a tick says only where to look: `units`,
`states`, `machines`, `events`, ... are the first parts of the keys that changed. How a large change
is written (`changes/`) is nobody's list. Changes that come close together are one tick.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from fleet.errors import FleetError, Unavailable
from fleet.keys import Keys
from fleet.registry import Registry
from fleet.store.port import Event

# Changes come in flocks: a unit that starts is a schedule, a state and an event or two.
GATHER_S = 0.1


class Ticks:
    """The changes of one registry's store from `revision` on; `watching` makes one."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self._kinds: set[str] = set()
        self._news = asyncio.Event()
        self._failure: FleetError | None = None

    async def next(self, timeout_s: float) -> frozenset[str]:
        """The kinds of things that changed since the last call; empty if none did for that time.

        Raises Unavailable when there will be no more.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        if self._failure is not None:
            raise Unavailable(str(self._failure)) from self._failure
        if self._kinds:
            await asyncio.sleep(GATHER_S)
        self._news.clear()
        kinds, self._kinds = frozenset(self._kinds), set()
        return kinds

    def take(self, revision: int, kinds: Iterable[str]) -> None:
        self.revision = max(revision, self.revision)
        self._kinds.update(kinds)
        if self._kinds:
            self._news.set()

    def fail(self, failure: FleetError) -> None:
        self._failure = failure
        self._news.set()


@contextlib.asynccontextmanager
async def watching(registry: Registry) -> AsyncIterator[Ticks]:
    """Ticks from now on; raises Unavailable if the store cannot be read."""
    ticks = Ticks((await registry.store.read()).revision)
    watcher = asyncio.create_task(_watch(registry, ticks), name="api-ticks")
    try:
        yield ticks
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def _watch(registry: Registry, ticks: Ticks) -> None:
    keys = registry.keys
    try:
        async for changes in registry.store.watch(keys.root, ticks.revision):
            shown = (e for e in changes.events if not e.key.startswith(keys.changes))
            ticks.take(changes.revision, (kind_of(event, keys) for event in shown))
    except FleetError as error:
        ticks.fail(error)
    else:
        ticks.fail(Unavailable("the store's changes have ended"))


def kind_of(event: Event, keys: Keys) -> str:
    """The first part of the key below the root."""
    return event.key.removeprefix(keys.root).partition("/")[0]
