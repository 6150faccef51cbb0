"""A live copy of one prefix of a store: read once, then kept by a watch.

The copy is always a true revision of the store, though perhaps an old one: while the store cannot
be reached it stays as it was and `is_current` is false. Whoever acts on it checks that, so that a
store that cannot be read never looks like an empty one. Now and then all is read again, in case a
watch left something out, as etcd's have been known to.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import cast

from fleet.errors import Unavailable
from fleet.store.port import Changes, Compacted, Entry, Snapshot, Store

_log = logging.getLogger(__name__)

RETRY_S = 0.5
RESYNC_S = 300.0
# Enough to keep a store that compacts at every turn from being asked without pause.
_COMPACTED_PAUSE_S = 0.05


class Mirror:
    """The copy: `run()` keeps it, `entries` and `revision` show it, `wait()` tells of news."""

    def __init__(
        self, store: Store, *prefixes: str, watch: str | None = None, resync_s: float = RESYNC_S
    ) -> None:
        """Copy the prefixes, following `watch`, which has to be a leading text of all of them.

        Everything is read again every `resync_s` seconds.
        """
        self._store = store
        self._prefixes = prefixes
        self._watch = prefixes[0] if watch is None else watch
        self._resync_s = resync_s
        self._entries: dict[str, Entry] = {}
        self._news = asyncio.Event()
        self._changed: set[str] | None = None
        self.revision = 0
        self.is_current = False
        self.outages = 0
        """How many times the store was lost since the start: a change tells of an outage."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        return self._entries

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for news since the last call; False if none came within the time."""
        if not self._news.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                return False
        self._news.clear()
        return True

    def take_changes(self) -> frozenset[str] | None:
        """The keys that changed since the last call; None if it may be any, as at first."""
        changed, self._changed = self._changed, set()
        return None if changed is None else frozenset(changed)

    def nudge(self) -> None:
        """Make the next wait() return at once."""
        self._news.set()

    async def run(self) -> None:
        """Keep the copy for ever; the store's troubles are logged and waited out."""
        while True:
            try:
                await self._read()
                await self._follow()
            except Compacted:
                _log.info(
                    "%s: the store compacted what was to be watched; reading anew", self._watch
                )
                await asyncio.sleep(_COMPACTED_PAUSE_S)
            except Unavailable as error:
                self._lost(error)
                await asyncio.sleep(RETRY_S)

    async def _read(self) -> None:
        snapshot = await self._store.read(*self._prefixes)
        if self.is_current:
            self._compare(snapshot)
        elif self.outages:
            _log.info("%s: the store answers again", self._watch)
        if not self.is_current or snapshot.entries != self._entries:
            self._news.set()
        self._entries = dict(snapshot.entries)
        self._changed = None
        self.revision = snapshot.revision
        self.is_current = True

    def _compare(self, snapshot: Snapshot) -> None:
        """Say so if the watch had left out something that it should have delivered by now."""
        missed = [
            key
            for key, entry in snapshot.entries.items()
            if entry.modified <= self.revision and self._entries.get(key) != entry
        ]
        if missed:
            _log.warning("%s: the watch had left out %s", self._watch, ", ".join(missed[:5]))

    async def _follow(self) -> None:
        """Apply changes as they come, until it is time to read everything again."""
        watch = cast("AsyncGenerator[Changes]", self._store.watch(self._watch, self.revision))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._resync_s), contextlib.aclosing(watch):
                async for changes in watch:
                    self._apply(changes)

    def _apply(self, changes: Changes) -> None:
        for event in changes.events:
            if not event.key.startswith(self._prefixes):
                continue
            if event.entry is None:
                self._entries.pop(event.key, None)
            else:
                self._entries[event.key] = event.entry
            if self._changed is not None:  # so nothing piles up where nobody takes it
                self._changed.add(event.key)
            self._news.set()
        self.revision = max(self.revision, changes.revision)

    def _lost(self, error: Unavailable) -> None:
        if self.is_current or not self.outages:
            _log.warning("%s: the store cannot be read, nothing is changed: %s", self._watch, error)
            self.outages += 1
        self.is_current = False
        self._news.set()
