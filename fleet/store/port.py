"""The store port: what fleet asks of a key/value store, whichever one it is.

Theory of operation. Every commit gets a revision, one higher than the last. Keys carry the
revision that created them and the one that last changed them, and optionally a lease: when the
lease ends, its keys are deleted, as a commit of their own. A read of several prefixes answers from
one revision. A watch from a revision delivers every later change of its prefix, once, in order, a
commit at a time. Adapters say Unavailable when they cannot know; they never answer "nothing".

What stands here holds for every adapter because one suite, tests/contract/, is run on all of them.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from fleet.errors import FleetError

LeaseId = NewType("LeaseId", str)

# etcd refuses a transaction beyond this (`--max-txn-ops`); the other adapters hold to it too.
MAX_TXN_OPS = 128
# etcd refuses a request beyond 1.5 MiB (`--max-request-bytes`); this leaves room for its keys.
# It holds for the values of one transaction together.
MAX_VALUE_BYTES = 1024 * 1024


class LeaseLost(FleetError):
    """The lease has ended or never was: its keys are gone."""


class Compacted(FleetError):
    """The store no longer keeps the revision asked for: read again and watch from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key with its value; `lease` is None for a key that stays."""

    key: str
    value: bytes
    created: int
    modified: int
    lease: LeaseId | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What some prefixes held at one revision, by key in ascending order."""

    revision: int
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a key: its new entry, or None where it was deleted."""

    key: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Changes:
    """All events of a prefix up to and including a revision, in order of that revision."""

    revision: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Guard:
    """What has to hold for a transaction to go ahead.

    `created` and `modified` compare the key's revisions, 0 meaning that the key does not exist.
    Exactly one of them is given.
    """

    key: str
    created: int | None = None
    modified: int | None = None

    def __post_init__(self) -> None:
        if (self.created is None) == (self.modified is None):
            raise ValueError("a guard compares either the created or the modified revision")


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key; without a lease it stays, and loses the lease it had."""

    key: str
    value: bytes
    lease: LeaseId | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; that it does not exist is no error."""

    key: str


@dataclass(frozen=True, slots=True)
class Commit:
    """The answer to a transaction: whether its guards held, and the store's revision after it."""

    succeeded: bool
    revision: int


def check_transaction(guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> None:
    """Raise ValueError for a transaction that no store would take."""
    if len(guards) > MAX_TXN_OPS or len(operations) > MAX_TXN_OPS:
        raise ValueError(
            f"a transaction takes at most {MAX_TXN_OPS} guards and as many operations; "
            f"this one has {len(guards)} and {len(operations)}"
        )
    size = sum(len(operation.value) for operation in operations if isinstance(operation, Put))
    if size > MAX_VALUE_BYTES:
        raise ValueError(
            f"the values of a transaction may have {MAX_VALUE_BYTES} bytes together, not {size}"
        )
    seen: set[str] = set()
    for operation in operations:
        if operation.key in seen:
            raise ValueError(f"{operation.key!r} is in two operations of one transaction")
        seen.add(operation.key)


class Store(Protocol):
    """A key/value store. Every method may raise Unavailable, after a bounded wait."""

    async def read(self, *prefixes: str) -> Snapshot:
        """Everything under the prefixes, all at one revision. A prefix is any leading text.

        Without prefixes it tells only the revision.
        """
        ...

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        """Do all operations if all guards hold, else none.

        At most MAX_TXN_OPS of guards and of operations each, MAX_VALUE_BYTES of values together,
        and no key in two operations; ValueError otherwise. If the guards hold, raises
        LeaseLost for a put that names a lease that has ended. After Unavailable it is unknown
        whether the transaction happened.
        """
        ...

    def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        """Every change under the prefix with a revision above `after`.

        Raises Compacted when those are no longer kept, or `after` is still to come, so that the
        store has lost what it once held; and Unavailable when the connection is lost or silent
        for too long; then watch again from the last revision that was delivered.
        An empty Changes may come at any time, to say how far the store is.
        """
        ...

    async def grant(self, ttl_s: float) -> LeaseId:
        """A new lease that ends ttl_s seconds after its last renewal; the store may lengthen it."""
        ...

    async def renew(self, lease: LeaseId) -> None:
        """Begin the lease's time anew; raises LeaseLost if it has ended."""
        ...

    async def remaining(self, lease: LeaseId) -> float:
        """Seconds until the lease ends if it is not renewed, 0 if it has ended.

        A store may know no parts of seconds, and leave them out.
        """
        ...

    async def revoke(self, lease: LeaseId) -> None:
        """End the lease now, deleting its keys; that it has ended already is no error."""
        ...

    async def close(self) -> None:
        """Let go of connections and files; watches end."""
        ...
