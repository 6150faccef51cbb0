"""The store in etcd v3.

Reads go through the quorum, and what is more than a page is read on at the revision of the first
one. A watch moves on to another server by itself, from the last revision it delivered; a member
that is silent is asked every few seconds whether it can still reach its peers, because neither a
frozen machine nor a lost quorum closes a connection; not if another request of this process was
answered meanwhile. Only when no server is left is it Unavailable.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from fleet.errors import InvalidRequest, Unavailable
from fleet.store import etcd_messages as api
from fleet.store import etcd_wire as wire
from fleet.store.connect import EtcdSettings
from fleet.store.etcd_faults import EtcdFault, Fault
from fleet.store.etcd_link import EtcdLink
from fleet.store.etcd_pulse import Pulse
from fleet.store.etcd_wire import Span
from fleet.store.port import (
    MAX_TXN_OPS,
    Changes,
    Commit,
    Compacted,
    Delete,
    Entry,
    Guard,
    LeaseId,
    Put,
    Snapshot,
    check_transaction,
)

# Rows of fleet are a few hundred bytes: some hundred kilobytes, so that nobody waits for long.
PAGE_ENTRIES = 500
PROBE_S = 3.0
_PAUSE_S = 0.1
# The shortest sleep: a moment that a timer missed by a rounding error passes within it.
_TICK_S = 0.001
_READS = 3


class EtcdStore:
    """A store in an etcd cluster; used from one event loop, and sharing nothing with another."""

    def __init__(
        self, settings: EtcdSettings, *, probe_s: float = PROBE_S, pulse: Pulse | None = None
    ) -> None:
        """Connects at the first use; raises InvalidRequest for settings that cannot work.

        Stores that share a `pulse` spare each other questions whether a server is alive.
        """
        self._link = EtcdLink(settings, pulse)
        self._probe_s = probe_s
        self._waiting: set[asyncio.Task[bytes | None]] = set()

    async def read(self, *prefixes: str) -> Snapshot:
        spans = [wire.span_of(prefix) for prefix in dict.fromkeys(prefixes)]
        for _ in range(_READS):
            try:
                return await self._read(spans)
            except EtcdFault as fault:
                if fault.fault is not Fault.COMPACTED:
                    raise _translate(fault) from fault
        raise Unavailable("etcd compacts its history faster than it can be read")

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        check_transaction(guards, operations)
        document = wire.encode_commit(guards, operations)
        try:
            return wire.decode_commit(await self._link.call(api.TXN, document, may_repeat=False))
        except EtcdFault as fault:
            leases = {each.lease or "" for each in operations if isinstance(each, Put)} - {""}
            raise _translate(fault, " or ".join(sorted(leases))) from fault

    async def grant(self, ttl_s: float) -> LeaseId:
        try:
            return wire.decode_grant(await self._link.call(api.GRANT, wire.encode_grant(ttl_s)))
        except EtcdFault as fault:
            raise _translate(fault) from fault

    async def renew(self, lease: LeaseId) -> None:
        try:
            answer = await self._link.call(api.KEEPALIVE, wire.encode_lease(lease))
            wire.decode_renewal(answer, lease)
        except EtcdFault as fault:
            raise _translate(fault, lease) from fault

    async def remaining(self, lease: LeaseId) -> float:
        try:
            answer = await self._link.call(api.TIME_TO_LIVE, wire.encode_lease(lease))
            return wire.decode_time_to_live(answer)
        except EtcdFault as fault:
            if fault.fault is Fault.LEASE_LOST:
                return 0.0
            raise _translate(fault) from fault

    async def revoke(self, lease: LeaseId) -> None:
        try:
            await self._link.call(api.REVOKE, wire.encode_lease(lease))
        except EtcdFault as fault:
            if fault.fault is not Fault.LEASE_LOST:
                raise _translate(fault) from fault

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        failures: dict[str, str] = {}
        count = 0
        while not self._link.is_closed:
            server = self._link.order()[0]
            try:
                async with contextlib.aclosing(self._follow(server, prefix, after)) as found:
                    async for changes in found:
                        failures, count = {}, 0
                        after = max(after, changes.revision)
                        yield changes
            except EtcdFault as fault:
                if fault.fault not in (Fault.NOT_DONE, Fault.UNKNOWN, Fault.TOKEN):
                    raise _translate(fault) from fault
                failures[server] = str(fault)
                count += 1
                self._link.avoid(server)
                if count >= self._link.tries:
                    raise self._link.unavailable(failures) from fault
                await asyncio.sleep(_PAUSE_S)

    async def close(self) -> None:
        await self._link.close()
        for coming in self._waiting:
            coming.cancel()

    async def _read(self, spans: Sequence[Span]) -> Snapshot:
        """Everything in the spans at one revision; raises EtcdFault."""
        if not spans:
            # An empty transaction would be answered by a member that has lost its quorum.
            answer = await self._link.call(api.RANGE, wire.encode_probe(""))
            return Snapshot(wire.decode_header(answer).revision, {})
        entries: dict[str, Entry] = {}
        left = deque(spans)
        revision = 0
        while left:
            batch = [left.popleft() for _ in range(min(len(left), MAX_TXN_OPS))]
            document = wire.encode_read(batch, limit=PAGE_ENTRIES, revision=revision)
            answer = await self._link.call_whole(api.TXN, document)
            revision = revision or wire.decode_header(answer).revision
            for page in wire.decode_read(answer, batch):
                entries |= {entry.key: entry for entry in page.entries}
                left.extend([page.rest] if page.rest else [])
        return Snapshot(revision, dict(sorted(entries.items())))

    async def _follow(self, server: str, prefix: str, after: int) -> AsyncGenerator[Changes]:
        """The watch at one server, until that fails with EtcdFault or the store is closed."""
        reader = wire.WatchReader()
        async with self._link.stream(server, wire.encode_watch(prefix, after)) as messages:
            coming = self._next(messages)
            try:
                while True:
                    had_begun = reader.header is not None
                    wait_s = self._link.timeout_s
                    if had_begun:
                        wait_s = max(_TICK_S, self._probe_s - self._link.silence_s(server))
                    await asyncio.wait({coming}, timeout=wait_s)
                    if coming.cancelled():
                        return
                    if not coming.done():
                        if not had_begun:
                            limit_s = self._link.timeout_s
                            raise EtcdFault(Fault.UNKNOWN, f"timed out after {limit_s:g} s")
                        if self._link.silence_s(server) >= self._probe_s:
                            await self._probe(server, prefix)
                        continue
                    message = coming.result()
                    if message is None:
                        raise EtcdFault(Fault.UNKNOWN, "it ended the watch")
                    coming = self._next(messages, coming)
                    found = await self._decode(server, prefix, reader, message)
                    if not had_begun and reader.header is not None:
                        # A watch from the very revision that was compacted may lack the deletions
                        # in it (etcd issue 18089); one from a revision still to come would wait.
                        await self._probe(server, prefix, after)
                        yield Changes(after, ())
                    for changes in found:
                        yield changes
            finally:
                self._waiting.discard(coming)
                coming.cancel()
                await asyncio.wait({coming})

    async def _decode(
        self, server: str, prefix: str, reader: wire.WatchReader, message: bytes
    ) -> list[Changes]:
        try:
            return reader.read(message)
        except EtcdFault as fault:
            if fault.fault is not Fault.DENIED:
                raise
            # etcd 3.5 says this of a token that has expired, too. The probe logs in anew if that
            # is all there is to it, and fails with the true reason otherwise.
            await self._probe(server, prefix)
            raise EtcdFault(Fault.UNKNOWN, "the token of the watch had expired") from fault

    async def _probe(self, server: str, prefix: str, revision: int = 0) -> None:
        """Raise EtcdFault unless the server answers, with a quorum, and has the revision."""
        probe = wire.encode_probe(prefix, revision)
        await self._link.ask(server, api.RANGE, probe, for_watch=True)

    def _next(
        self, messages: AsyncIterator[bytes], done: "asyncio.Task[bytes | None] | None" = None
    ) -> "asyncio.Task[bytes | None]":
        """Begin to read a message; as a task, for a read that is cancelled loses its connection."""
        self._waiting.discard(done) if done else None
        task = asyncio.create_task(_message(messages))
        self._waiting.add(task)
        return task


async def _message(messages: AsyncIterator[bytes]) -> bytes | None:
    return await anext(messages, None)


def _translate(fault: EtcdFault, lease: str = "") -> Exception:
    """The port's error for what etcd answered."""
    if fault.fault is Fault.COMPACTED:
        return Compacted(f"etcd: {fault}")
    if fault.fault is Fault.LEASE_LOST:
        return wire.lost_lease(lease)
    if fault.fault is Fault.REFUSED:
        return InvalidRequest(f"etcd refuses the request: {fault}")
    return Unavailable(f"etcd cannot be used: {fault}")
