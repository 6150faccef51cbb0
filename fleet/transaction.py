"""Any number of writes as one, over a store that takes 128 at a time.

Theory of operation. What users change of units is all there or not there at all, whatever crashes
in between. What fits into one transaction is one. What does not goes in three steps:

1. The contents of files are written ahead. Nothing names them yet, so they change nothing, and the
   mark of the writer, which lasts as long as its lease, keeps the engine from removing them.
2. One transaction writes the whole list of writes under `changes/pending`. It is void if anything
   about units has changed since they were looked at (every change also writes `changes/latest`, so
   one guard says that of all units), or if the mark is gone. Now the change is made.
3. It is rolled forward, batch by batch, `changes/done` counting the batches; the last one removes
   the list. Each is void without the list and the count it began from, so that any number of
   processes may do this side by side, and each batch is written once.

Nobody sees a change half-made: whoever reads units and finds a pending change (`settled`) first
completes it and reads again, and nobody writes units while one is pending. The leader completes
one whose writer has crashed. docs/decisions/0010-one-change-one-write.md has the refused ways.
"""

import asyncio
import json
import logging
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fleet.errors import MALFORMED, InvalidRequest, Unavailable
from fleet.keys import Keys
from fleet.store.port import (
    MAX_TXN_OPS,
    MAX_VALUE_BYTES,
    Commit,
    Delete,
    Entry,
    Guard,
    LeaseId,
    LeaseLost,
    Put,
    Snapshot,
    Store,
)

_log = logging.getLogger(__name__)

Operation = Put | Delete

# How long contents that nothing names yet are spared, and how often that is renewed.
UPLOAD_TTL_S = 30.0
_RENEW_S = UPLOAD_TTL_S / 6
# Transactions of contents under way at a time: while the store has some, others are put together.
_WRITERS = 3
# What a transaction takes beside the change itself, guards and operations each.
_OWN = 2
_BATCH = MAX_TXN_OPS - _OWN
# How often a reader meets one pending change after another before it gives up.
_LOOKS = 20
# Far above what a list can be that was written: its compressed text fits into one value.
_MAX_LIST_BYTES = 256 * 1024 * 1024


class Transactions:
    """Users' writes of one cluster. Methods raise Unavailable with the store."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def settled(self, *prefixes: str) -> Snapshot:
        """What lies under the prefixes when no change is half-made, and under `changes/`."""
        for _ in range(_LOOKS):
            snapshot = await self._store.read(*prefixes, self._keys.changes)
            pending = snapshot.entries.get(self._keys.pending_change)
            if pending is None:
                return snapshot
            await self.complete(pending)
        raise Unavailable("units change faster than they can be read; try again")

    def latest(self, snapshot: Snapshot) -> int:
        """The revision of the last change of any unit, in what `settled` gave; 0 before any."""
        entry = snapshot.entries.get(self._keys.latest_change)
        return entry.modified if entry else 0

    async def read_latest(self) -> int:
        """The revision of the last change of any unit, made or not yet completed."""
        return self.latest(await self._store.read(self._keys.latest_change))

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> Commit:
        """Make a change that `fits`, unless a guard fails or another change is pending."""
        guards = [Guard(self._keys.pending_change, created=0), *guards]
        return await self._store.commit(guards, [*operations, self._mark()])

    async def commit_large(
        self,
        latest: int,
        operations: Sequence[Operation],
        upload: "Upload",
        more: Sequence[Guard] = (),
    ) -> bool:
        """Make a change of any size, unless units changed since `latest` or `more` guards fail.

        The contents that it needs have to be in the `upload`. True once the change is made, though
        it may be for others to complete it. Raises InvalidRequest for one that is too large.
        """
        keys = self._keys
        guards = [
            Guard(keys.pending_change, created=0),
            Guard(keys.latest_change, modified=latest),
            *upload.guards,
            *(guard for guard in more if guard.key != keys.latest_change),
        ]
        pending = Put(keys.pending_change, encode_list(operations, keys))
        commit = await self._store.commit(guards, [pending, self._mark(), *upload.removal])
        if not commit.succeeded:
            return False
        entry = Entry(
            key=pending.key, value=pending.value, created=commit.revision, modified=commit.revision
        )
        try:
            await self.complete(entry, is_new=True)
        except Unavailable as error:
            _log.warning("a change is made, and completed when the store answers: %s", error)
        return True

    async def complete(self, pending: Entry, *, is_new: bool = False) -> None:
        """Roll the pending change forward to its end; nothing if others have done so.

        Of one that `is_new` it is taken for granted, until that fails, that nothing is done yet.
        """
        try:
            batches = list(_batches(decode_list(pending.value, self._keys)))
        except MALFORMED as error:
            await self._drop(pending, error)
            return
        done = (0, 0) if is_new else await self._done(pending, len(batches))
        while done is not None:
            count, revision = done
            for number, batch in enumerate(batches[count:], start=count + 1):
                is_last = number == len(batches)
                commit = await self._roll(pending, revision, batch, number, is_last=is_last)
                if not commit.succeeded:
                    break  # another does the same just now, or has come to the end
                revision = commit.revision
            else:
                return
            done = await self._done(pending, len(batches))

    async def _done(self, pending: Entry, of: int) -> tuple[int, int] | None:
        """How many batches of the change are written, with the revision of that count.

        None once all are. A count that cannot be is as good as none: writing again does no harm.
        """
        keys = self._keys
        entries = (await self._store.read(keys.changes)).entries
        current = entries.get(keys.pending_change)
        if current is None or current.created != pending.created:
            return None
        entry = entries.get(keys.change_progress)
        return (_count(entry, of), entry.modified) if entry else (0, 0)

    async def _roll(
        self,
        pending: Entry,
        revision: int,
        batch: Sequence[Operation],
        number: int,
        *,
        is_last: bool,
    ) -> Commit:
        keys = self._keys
        guards = [
            Guard(keys.pending_change, created=pending.created),
            Guard(keys.change_progress, modified=revision),
        ]
        progress: list[Operation] = [Put(keys.change_progress, str(number).encode())]
        if is_last:
            progress = [Delete(keys.pending_change), Delete(keys.change_progress)]
        return await self._store.commit(guards, [*batch, *progress])

    async def _drop(self, pending: Entry, error: BaseException) -> None:
        """Remove a list that cannot be read: it would keep all units from changing for ever."""
        _log.error("%s is malformed, and is dropped: %s", pending.key, type(error).__name__)
        guard = Guard(pending.key, created=pending.created)
        await self._store.commit([guard], [Delete(pending.key), Delete(self._keys.change_progress)])

    def _mark(self) -> Put:
        return Put(self._keys.latest_change, b"")


class Upload:
    """Contents on their way into the store, ahead of the change that names them."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._mark = keys.upload(secrets.token_hex(8))
        self._created = 0
        self._lease: LeaseId | None = None
        self._renew_at_s = 0.0
        self._written: set[str] = set()

    @property
    def guards(self) -> list[Guard]:
        """That the contents are still spared."""
        return [Guard(self._mark, created=self._created)] if self._created else []

    @property
    def removal(self) -> list[Operation]:
        return [Delete(self._mark)] if self._created else []

    def lasts(self, snapshot: Snapshot) -> bool:
        """Whether what was written is still spared, by a snapshot that `settled` gave."""
        return not self._created or self._mark in snapshot.entries

    async def add(self, contents: Mapping[str, bytes]) -> bool:
        """Write those of the contents, by key, that are not written yet; whether there were any."""
        new = {key: value for key, value in contents.items() if key not in self._written}
        if not new:
            return False
        batches = _batches([Put(key, value) for key, value in new.items()])
        if self._lease is None:
            await self._begin(next(batches))
        writers = [asyncio.create_task(self._write_each(batches)) for _ in range(_WRITERS)]
        try:
            await asyncio.gather(*writers)
        finally:
            for writer in writers:
                writer.cancel()
        return True

    async def _begin(self, batch: Sequence[Operation]) -> None:
        """Write the mark, and the first contents with it."""
        self._lease = await self._store.grant(UPLOAD_TTL_S)
        self._renew_at_s = _now_s() + _RENEW_S
        mark = Put(self._mark, b"", self._lease)
        self._created = (await self._store.commit([], [*batch, mark])).revision
        self._written.update(operation.key for operation in batch)

    async def _write_each(self, batches: Iterator[Sequence[Operation]]) -> None:
        for batch in batches:
            await self._keep()
            await self._store.commit([], batch)
            self._written.update(operation.key for operation in batch)

    async def _keep(self) -> None:
        """Have the mark last, if that is due."""
        if self._lease is None or _now_s() < self._renew_at_s:
            return
        self._renew_at_s = _now_s() + _RENEW_S
        try:
            await self._store.renew(self._lease)
        except LeaseLost as error:
            raise Unavailable(
                f"the store is too slow for a change of this size: {error}"
            ) from error


def fits(guards: int, operations: Sequence[Operation]) -> bool:
    """Whether a change can be one transaction of the store."""
    size = sum(len(each.value) for each in operations if isinstance(each, Put))
    return max(guards, len(operations)) <= MAX_TXN_OPS - _OWN and size <= MAX_VALUE_BYTES


def encode_list(operations: Iterable[Operation], keys: Keys) -> bytes:
    """The operations as one value; raises InvalidRequest if they are too many for that."""
    pairs = [
        [each.key.removeprefix(keys.root), each.value.decode() if isinstance(each, Put) else None]
        for each in operations
    ]
    value = zlib.compress(json.dumps(pairs, separators=(",", ":")).encode())
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidRequest(
            f"a change of this size cannot be one write: {len(value)} bytes of {MAX_VALUE_BYTES}; "
            "make it in parts"
        )
    return value


def decode_list(value: bytes, keys: Keys) -> list[Operation]:
    """The operations of a list; raises MALFORMED (fleet/errors.py) if it cannot be read."""
    try:
        text = zlib.decompressobj().decompress(value, _MAX_LIST_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    operations: list[Operation] = []
    for key, written in json.loads(text):
        whole = f"{keys.root}{key}"
        operations.append(Delete(whole) if written is None else Put(whole, written.encode()))
    if not operations:
        raise ValueError("it is empty")
    return operations


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _count(entry: Entry, of: int) -> int:
    text = entry.value.decode(errors="replace")
    count = int(text) if text.isascii() and text.isdigit() else 0
    return count if count < of else 0


def _batches(operations: Iterable[Operation]) -> Iterator[list[Operation]]:
    """The operations in as few transactions as the store's limits allow, in order."""
    batch: list[Operation] = []
    size = 0
    for operation in operations:
        own = len(operation.value) if isinstance(operation, Put) else 0
        if batch and (len(batch) == _BATCH or size + own > MAX_VALUE_BYTES - 64):
            yield batch
            batch, size = [], 0
        batch.append(operation)
        size += own
    if batch:
        yield batch
