"""The store in one SQLite file, for one machine: durable, and nothing to install.

Theory of operation. The key space lives in memory and the file is its journal: a commit is decided
in memory, written and synced to the file by the database's one thread, and only then made visible,
so the event loop never waits for a disk and a reader never sees what could still be lost. Reads,
guards, watches and renewals need no disk at all.

One `SqliteDatabase` is shared by the stores of one process, from whichever thread or event loop.
The file is locked for as long as it is open: a second process is told so.

Leases are counted in monotonic time, so setting the clock ends none. The file keeps only which
leases there are: whoever opens it anew in the same boot gives each its full time again, as etcd's
new leader does, and after a reboot they have all ended. Time in which this process itself stood
still (stopped, or a paused virtual machine) is not counted: nobody could have renewed then.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fleet.errors import FleetError, Unavailable
from fleet.store.keyspace import Keyspace
from fleet.store.port import (
    Changes,
    Commit,
    Delete,
    Guard,
    LeaseId,
    Put,
    Snapshot,
    check_transaction,
)
from fleet.store.sqlite_file import StoreFile

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

HISTORY_REVISIONS = 2_000
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TICK_S = 1.0
# A thread that wakes this much too late has stood still, and not merely been kept waiting.
_STALL_S = 1.0


class SqliteDatabase:
    """An open store file; `SqliteStore` gives access to it, in any thread.

    Raises UnusableFile, and Unavailable if another process has the file open.
    """

    def __init__(
        self,
        path: Path,
        *,
        boot_id: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._clock = clock
        self._file = StoreFile(path)
        self._space = _load(self._file, boot_id or BOOT_ID.read_text().strip(), clock())
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._watches: set[_Watch] = set()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="fleet-store", daemon=True)
        self._thread.start()

    # At once, from any thread

    def read(self, prefixes: Sequence[str]) -> Snapshot:
        """What lies under the prefixes now."""
        with self._lock:
            self._check()
            return self._space.read(prefixes)

    def since(self, prefix: str, after: int) -> tuple[list[Changes], int]:
        """The changes under the prefix above `after`, and how far they go; raises Compacted."""
        with self._lock:
            self._check()
            return self._space.since(prefix, after), self._space.revision

    def renew(self, lease: LeaseId) -> None:
        """Begin the lease's time anew; raises LeaseLost."""
        with self._lock:
            self._check()
            self._space.renew(lease, self._clock())

    def remaining_s(self, lease: LeaseId) -> float:
        """How long the lease lasts unless it is renewed."""
        with self._lock:
            self._check()
            return self._space.remaining_s(lease, self._clock())

    def compact(self, revision: int) -> None:
        """Forget the changes up to and including the revision."""
        with self._lock:
            self._space.compact(revision)

    @contextlib.contextmanager
    def watched(self, news: asyncio.Event) -> Iterator[None]:
        """Within the block, set this event of the running loop after every commit."""
        watch = _Watch(asyncio.get_running_loop(), news)
        with self._lock:
            self._watches.add(watch)
        try:
            yield
        finally:
            with self._lock:
                self._watches.discard(watch)

    # Through the file, by the database's thread

    def commit(
        self, guards: Sequence[Guard], operations: Sequence[Put | Delete]
    ) -> "Future[Commit]":
        """Do all operations if all guards hold, else none."""
        return self._submit(lambda: self._commit(guards, operations))

    def grant(self, ttl_s: float) -> "Future[LeaseId]":
        """A new lease."""
        return self._submit(lambda: self._grant(ttl_s))

    def revoke(self, lease: LeaseId) -> "Future[None]":
        """End the lease now, deleting its keys."""
        return self._submit(lambda: self._end(lease))

    def close(self) -> None:
        """Finish what is under way and let go of the file. May be repeated."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._jobs.put(None)
        self._thread.join()
        self._file.close()
        self._announce()

    # Inside

    def _check(self) -> None:
        if self._is_closed:
            raise Unavailable(f"the store {self.path} is closed")

    def _submit(self, act: Callable[[], _T]) -> "Future[_T]":
        future: Future[_T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(act())
            except Exception as error:  # it reaches whoever waits for the future
                future.set_exception(error)

        with self._lock:
            self._check()
            self._jobs.put(job)
        return future

    def _work(self) -> None:
        """The thread: does jobs as they come, and ends leases as they are due."""
        while True:
            job = self._next_job()
            if job is _stop:
                return
            job()
            self._end_due()

    def _next_job(self) -> Callable[[], None]:
        """The next job, or nothing to do once a lease may be due."""
        with self._lock:
            deadline_s = self._space.next_deadline_s
        if deadline_s is None:
            return self._jobs.get() or _stop
        before_s = self._clock()
        wait_s = min(max(0.0, deadline_s - before_s), _TICK_S)
        try:
            return self._jobs.get(timeout=wait_s) or _stop
        except queue.Empty:
            self._forgive(self._clock() - before_s - wait_s)
            return _nothing

    def _forgive(self, late_s: float) -> None:
        if late_s >= _STALL_S:
            _log.warning("this process stood still for %.1f s; leases are lengthened", late_s)
            with self._lock:
                self._space.delay_ends(late_s)

    def _end_due(self) -> None:
        with self._lock:
            due = self._space.due(self._clock())
        for lease in due:
            try:
                self._end(lease)
            except FleetError as error:
                _log.warning("lease %s is over but cannot be ended: %s", lease, error)
                time.sleep(_TICK_S)

    def _commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        with self._lock:
            changes = self._space.decide(guards, operations)
            if changes is None:
                return Commit(False, self._space.revision)
        # Only this thread changes keys, so what was decided stays right while it is written.
        if changes.events:
            self._file.write(changes)
            with self._lock:
                self._space.apply(changes)
            self._announce()
        return Commit(True, changes.revision)

    def _grant(self, ttl_s: float) -> LeaseId:
        lease = self._file.add_lease(ttl_s)
        with self._lock:
            self._space.grant(lease, ttl_s, self._clock())
        return lease

    def _end(self, lease: LeaseId) -> None:
        with self._lock:
            changes = self._space.decide_end(lease)
        self._file.write(changes, ended=lease)
        with self._lock:
            self._space.end(lease, changes)
        self._announce()

    def _announce(self) -> None:
        with self._lock:
            watches = tuple(self._watches)
        for watch in watches:
            # A loop that was closed over an open watch has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                watch.loop.call_soon_threadsafe(watch.news.set)


class SqliteStore:
    """One user's access to an open database: a store for one event loop."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._news: set[asyncio.Event] = set()
        self._is_closed = False

    async def read(self, *prefixes: str) -> Snapshot:
        self._check()
        return self._database.read(prefixes)

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        self._check()
        check_transaction(guards, operations)
        return await asyncio.wrap_future(self._database.commit(guards, operations))

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        self._check()
        news = asyncio.Event()
        self._news.add(news)
        try:
            with self._database.watched(news):
                while not self._is_closed:
                    news.clear()
                    found, latest = self._database.since(prefix, after)
                    for changes in found:
                        yield changes
                    after = latest
                    await news.wait()
        finally:
            self._news.discard(news)

    async def grant(self, ttl_s: float) -> LeaseId:
        self._check()
        return await asyncio.wrap_future(self._database.grant(ttl_s))

    async def renew(self, lease: LeaseId) -> None:
        self._check()
        self._database.renew(lease)

    async def remaining(self, lease: LeaseId) -> float:
        self._check()
        return self._database.remaining_s(lease)

    async def revoke(self, lease: LeaseId) -> None:
        self._check()
        await asyncio.wrap_future(self._database.revoke(lease))

    async def close(self) -> None:
        self._is_closed = True
        for news in self._news:
            news.set()

    def _check(self) -> None:
        if self._is_closed:
            raise Unavailable(f"this connection to the store {self._database.path} is closed")


@dataclass(frozen=True, slots=True, eq=False)
class _Watch:
    loop: asyncio.AbstractEventLoop
    news: asyncio.Event


def _nothing() -> None:
    pass


def _stop() -> None:
    pass


def _load(file: StoreFile, boot_id: str, now_s: float) -> Keyspace:
    try:
        contents = file.load(boot_id)
    except BaseException:
        file.close()
        raise
    space = Keyspace(entries=contents.entries, revision=contents.revision, keep=HISTORY_REVISIONS)
    for lease, ttl_s in contents.leases.items():
        space.grant(lease, ttl_s, now_s)
    return space
