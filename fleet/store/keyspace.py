"""A key space in memory: what a commit, a lease and a watch mean, without I/O and without a clock.

The stores that live in this process are shells around it. A commit is decided first and applied
afterwards, so that one which has to reach a disk in between is never seen before it is there.
Revisions follow each other without gaps, and so does the history: one `Changes` for each.
"""

import bisect
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fleet.store.port import (
    Changes,
    Compacted,
    Delete,
    Entry,
    Event,
    Guard,
    LeaseId,
    LeaseLost,
    Put,
    Snapshot,
    check_transaction,
)


@dataclass(slots=True)
class _Lease:
    ttl_s: float
    deadline_s: float
    keys: set[str] = field(default_factory=set)


class Keyspace:
    """Keys, leases and the history of one store; `keep` is how many revisions can be watched."""

    def __init__(self, *, entries: Iterable[Entry] = (), revision: int = 1, keep: int) -> None:
        self._entries = {entry.key: entry for entry in entries}
        self._sorted = sorted(self._entries)
        self._leases: dict[LeaseId, _Lease] = {}
        self._history: deque[Changes] = deque()
        self._keep = keep
        self.revision = revision
        self.compacted = revision
        """Changes up to and including this revision are no longer kept."""

    # Keys

    def read(self, prefixes: Sequence[str]) -> Snapshot:
        """What lies under the prefixes now."""
        keys = sorted({key for prefix in prefixes for key in self._under(prefix)})
        return Snapshot(self.revision, {key: self._entries[key] for key in keys})

    def decide(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Changes | None:
        """What the transaction would change, or None if a guard fails.

        Its revision is the present one if nothing would change. Raises LeaseLost and ValueError.
        """
        check_transaction(guards, operations)
        if not all(self._holds(guard) for guard in guards):
            return None
        for operation in operations:
            if isinstance(operation, Put) and operation.lease is not None:
                self._living(operation.lease)
        revision = self.revision + 1
        events = tuple(
            self._event(operation, revision)
            for operation in operations
            if isinstance(operation, Put) or operation.key in self._entries
        )
        return Changes(revision if events else self.revision, events)

    def apply(self, changes: Changes) -> None:
        """Make a decided commit true; nothing else may have been applied since it was decided."""
        if not changes.events:
            return
        if changes.revision != self.revision + 1:
            raise ValueError(f"revision {changes.revision} does not follow {self.revision}")
        for event in changes.events:
            self._set(event.key, event.entry)
        self.revision = changes.revision
        self._history.append(changes)
        if len(self._history) > self._keep:
            self.compact(self.revision - self._keep)

    # Watches

    def since(self, prefix: str, after: int) -> list[Changes]:
        """The kept changes under the prefix above `after`; raises Compacted."""
        if after < self.compacted or after > self.revision:
            raise Compacted(
                f"the store keeps its changes from revision {self.compacted} to {self.revision}, "
                f"and {after} was asked for"
            )
        found = []
        for index in range(after - self.compacted, len(self._history)):
            changes = self._history[index]
            events = tuple(event for event in changes.events if event.key.startswith(prefix))
            if events:
                found.append(Changes(changes.revision, events))
        return found

    def compact(self, revision: int) -> None:
        """Forget the changes up to and including the revision."""
        while self.compacted < min(revision, self.revision):
            self._history.popleft()
            self.compacted += 1

    # Leases

    @property
    def next_deadline_s(self) -> float | None:
        """When the next lease ends if it is not renewed; None without leases."""
        return min((lease.deadline_s for lease in self._leases.values()), default=None)

    def grant(self, lease: LeaseId, ttl_s: float, now_s: float) -> None:
        """Begin a lease; the keys that already name it are its keys."""
        keys = {key for key, entry in self._entries.items() if entry.lease == lease}
        self._leases[lease] = _Lease(ttl_s, now_s + ttl_s, keys)

    def renew(self, lease: LeaseId, now_s: float) -> None:
        """Begin the lease's time anew; raises LeaseLost only once it was ended, not when due."""
        living = self._living(lease)
        living.deadline_s = now_s + living.ttl_s

    def remaining_s(self, lease: LeaseId, now_s: float) -> float:
        """How long the lease lasts unless it is renewed; 0 if it is due or was ended."""
        living = self._leases.get(lease)
        return max(0.0, living.deadline_s - now_s) if living else 0.0

    def delay_ends(self, seconds: float) -> None:
        """Let every lease last that much longer: time in which nobody could have renewed it."""
        for lease in self._leases.values():
            lease.deadline_s += seconds

    def due(self, now_s: float) -> list[LeaseId]:
        """The leases whose time is over, the oldest deadline first."""
        over = [(own.deadline_s, lease) for lease, own in self._leases.items()]
        return [lease for deadline_s, lease in sorted(over) if deadline_s <= now_s]

    def decide_end(self, lease: LeaseId) -> Changes:
        """What the end of the lease would delete; nothing for one that has ended."""
        keys = sorted(self._leases[lease].keys) if lease in self._leases else []
        events = tuple(Event(key, None) for key in keys)
        return Changes(self.revision + 1 if events else self.revision, events)

    def end(self, lease: LeaseId, changes: Changes) -> None:
        """Make the decided end of the lease true."""
        self.apply(changes)
        self._leases.pop(lease, None)

    # Inside

    def _under(self, prefix: str) -> Iterable[str]:
        for index in range(bisect.bisect_left(self._sorted, prefix), len(self._sorted)):
            if not self._sorted[index].startswith(prefix):
                return
            yield self._sorted[index]

    def _holds(self, guard: Guard) -> bool:
        entry = self._entries.get(guard.key)
        if guard.created is not None:
            return guard.created == (entry.created if entry else 0)
        return guard.modified == (entry.modified if entry else 0)

    def _living(self, lease: LeaseId) -> _Lease:
        if lease not in self._leases:
            raise _lost(lease)
        return self._leases[lease]

    def _event(self, operation: Put | Delete, revision: int) -> Event:
        if isinstance(operation, Delete):
            return Event(operation.key, None)
        old = self._entries.get(operation.key)
        entry = Entry(
            key=operation.key,
            value=operation.value,
            created=old.created if old else revision,
            modified=revision,
            lease=operation.lease,
        )
        return Event(operation.key, entry)

    def _set(self, key: str, entry: Entry | None) -> None:
        old = self._entries.get(key)
        if old is not None and old.lease in self._leases:
            self._leases[old.lease].keys.discard(key)
        if entry is None:
            if old is not None:
                del self._entries[key]
                del self._sorted[bisect.bisect_left(self._sorted, key)]
            return
        if old is None:
            bisect.insort(self._sorted, key)
        self._entries[key] = entry
        if entry.lease in self._leases:
            self._leases[entry.lease].keys.add(key)


def _lost(lease: LeaseId) -> LeaseLost:
    return LeaseLost(f"lease {lease} has ended, and its keys are gone with it")
