"""Following units: whoever asks for some is told at once how they are, and then of every change.

Theory of operation. While anybody follows, one Mirror copies the parts of the store that make up a
unit's story, and `fleet.api.stories` finds out whose story a new copy changed, and tells it. Each
follower has the set of units that it has yet to be told of: a slow one misses steps, never the end,
and costs no more memory. What a follower is told first is never older than the store was when it
came: who has just changed a unit and follows it then is not told how it was before.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection

from fleet.api.reports import UnitReport
from fleet.api.stories import Stories
from fleet.errors import Unavailable
from fleet.names import UnitName
from fleet.pace import Pace
from fleet.registry import Registry
from fleet.store.mirror import Mirror

_log = logging.getLogger(__name__)

# How long a new follower waits for the copy to be as new as the store.
JOIN_S = 5.0
# How long the copy is kept when nobody follows any more: commands come one after the other.
LINGER_S = 10.0
# While changes keep coming, more and more are gathered before the next word: a storm of them is
# told in its outcome, not blow by blow.
_FIRST_REST_S = 0.005
_REST_PER_UNIT_S = 0.001
_LONGEST_REST_S = 0.25


class Follower:
    """Somebody who follows some units, or all of them; `Following.join` makes one."""

    def __init__(self, stories: Stories, units: frozenset[UnitName] | None) -> None:
        self._stories = stories
        self._units = units
        self._told: dict[UnitName, UnitReport] = {}
        self._untold: set[UnitName] = set()
        self._news = asyncio.Event()
        self._pace = Pace(first_s=_FIRST_REST_S, longest_s=_LONGEST_REST_S, each_s=_REST_PER_UNIT_S)
        self._failure: Unavailable | None = None

    async def changes(self, timeout_s: float) -> list[UnitReport]:
        """What is new since the last call, waiting for it that long; empty if nothing came.

        The first call tells of every unit. Raises Unavailable when there will be no more.
        """
        clock = asyncio.get_running_loop().time
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
                await self._pace.pause()
        if self._failure is not None:
            raise self._failure
        self._news.clear()
        untold, self._untold = sorted(self._untold), set()
        reports = [self._stories.tell(unit) for unit in untold]
        news = [told for told in reports if self._told.get(told.name) != told]
        self._told |= {told.name: told for told in news}
        self._pace.spoke(clock(), len(news))
        return news

    def touch(self, units: Collection[UnitName]) -> None:
        """Have these units told of by the next call, as far as they are followed."""
        wanted = units if self._units is None else self._units.intersection(units)
        self._untold.update(wanted)
        if wanted:
            self._pace.news(asyncio.get_running_loop().time())
            self._news.set()

    def fail(self, failure: Unavailable) -> None:
        """Have every further call raise this."""
        self._failure = failure
        self._news.set()


class Following:
    """All followers of one registry, and the one copy of the store that they share."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._followers: set[Follower] = set()
        self._copy: _Copy | None = None
        self._lingering: asyncio.Task[None] | None = None
        self._closed: Unavailable | None = None

    def __len__(self) -> int:
        return len(self._followers)

    @property
    def is_current(self) -> bool:
        """Whether the copy follows the store just now."""
        return self._copy is not None and self._copy.mirror.is_current

    @contextlib.asynccontextmanager
    async def join(self, units: frozenset[UnitName] | None) -> AsyncIterator[Follower]:
        """Follow these units, or all of them; raises Unavailable if the store cannot be read."""
        if self._closed is not None:
            raise self._closed
        if self._lingering is not None:
            self._lingering.cancel()
        if self._copy is None or self._copy.has_ended:
            self._copy = _Copy(self._registry, self._followers)
        copy = self._copy
        follower = Follower(copy.stories, units)
        self._followers.add(follower)
        try:
            await copy.catch_up(await self._registry.transactions.read_latest())
            follower.touch(copy.stories.units if units is None else units)
            yield follower
        finally:
            self._followers.discard(follower)
            if not self._followers and self._copy is not None:
                self._lingering = asyncio.create_task(self._linger(), name="api-following-end")

    async def _linger(self) -> None:
        await asyncio.sleep(LINGER_S)
        await self._drop_copy()

    async def close(self, failure: Unavailable) -> None:
        """Send everybody away with this reason, and whoever comes later too."""
        self._closed = failure
        for follower in self._followers:
            follower.fail(failure)
        if self._lingering is not None:
            self._lingering.cancel()
        await self._drop_copy()

    async def _drop_copy(self) -> None:
        copy, self._copy = self._copy, None
        if copy is not None:
            await copy.close()


class _Copy:
    """A copy of the store, kept from when it is made until it is closed."""

    def __init__(self, registry: Registry, followers: Collection[Follower]) -> None:
        self.stories = Stories(registry.keys)
        self.mirror = Mirror(registry.store, *self.stories.prefixes, watch=registry.keys.root)
        self._pending = registry.keys.pending_change
        self._followers = followers
        self._arrived = asyncio.Condition()
        self._keeper = asyncio.create_task(self._keep(), name="api-following")

    @property
    def has_ended(self) -> bool:
        """Whether it is kept no more, be it closed or because that failed."""
        return self._keeper.done()

    async def catch_up(self, change: int) -> None:
        """Wait until users' changes have arrived up to that revision; raises Unavailable."""
        try:
            async with asyncio.timeout(JOIN_S), self._arrived:
                await self._arrived.wait_for(lambda: self.stories.knows(change))
        except TimeoutError as error:
            raise Unavailable(
                f"the store's changes have not arrived here within {JOIN_S:g} s"
            ) from error

    async def close(self) -> None:
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)

    async def _keep(self) -> None:
        copying = asyncio.create_task(self.mirror.run(), name="api-following-mirror")
        copying.add_done_callback(lambda _: self.mirror.nudge())
        try:
            while not copying.done():
                await self.mirror.wait()
                # A change that is half-made is never told of: it is completed in a moment.
                if self.mirror.is_current and self._pending not in self.mirror.entries:
                    await self._take_in()
            copying.result()
        except Exception:
            _log.exception("following the store failed; clients that watch are sent away")
            for follower in self._followers:
                follower.fail(Unavailable("following the store failed; fleetd's log says how"))
        finally:
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)

    async def _take_in(self) -> None:
        changed = self.mirror.take_changes()
        touched = self.stories.take_in(self.mirror.entries, self.mirror.revision, changed)
        for follower in self._followers:
            follower.touch(touched)
        async with self._arrived:
            self._arrived.notify_all()
