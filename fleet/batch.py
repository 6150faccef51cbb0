"""Decisions on their way into the store, in as few transactions as its limits allow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet.errors import Conflict
from fleet.events import Event
from fleet.history import event_puts, event_writes
from fleet.keys import Keys
from fleet.store.port import MAX_TXN_OPS, MAX_VALUE_BYTES, Delete, Guard, Put, Store

Operation = Put | Delete

# What an event takes beside its sentence: its author, its unit, its time.
_EVENT_BYTES = 400


@dataclass(frozen=True, slots=True)
class Decision:
    """Writes that are made together, the guards without which they are not, and what is told."""

    operations: Sequence[Operation]
    guards: Sequence[Guard] = ()
    events: Sequence[Event] = ()


class Batch:
    """Decisions on their way into as few transactions as the store's limit allows.

    `revision` is that of the last transaction, 0 before any.
    """

    def __init__(
        self, store: Store, keys: Keys, fence: Guard | None = None, mark: Guard | None = None
    ) -> None:
        """The `fence` guards every transaction. Each also writes the key of the `mark`, which is as
        it says before the first: so others who mark their writes do not come between them."""
        self._store = store
        self._keys = keys
        self._fence = fence
        self._mark = mark
        self._own = (fence is not None) + (mark is not None)
        self.revision = 0
        self._guards: dict[Guard, None] = {}
        self._operations: dict[str, Operation] = {}
        self._events: list[Event] = []
        self._size = 0

    async def add(self, decision: Decision) -> None:
        """Take one decision in, whole; a file put twice in a transaction is put once."""
        guards, events = decision.guards, decision.events
        added = {operation.key: operation for operation in decision.operations}
        fresh = [each for key, each in added.items() if self._operations.get(key) != each]
        told = sum(len(event.what) + _EVENT_BYTES for event in events)
        own = (self._mark is not None) + event_writes(len(self._events) + len(events))
        if (
            len(self._operations) + len(fresh) > MAX_TXN_OPS - own
            or len(self._guards) + len(guards) > MAX_TXN_OPS - self._own
            or self._size + _size(fresh) + told > MAX_VALUE_BYTES
        ):
            await self.flush()
            fresh = list(added.values())
        self._guards |= dict.fromkeys(guards)
        self._operations |= added
        self._events += events
        self._size += _size(fresh) + told

    async def flush(self) -> None:
        if not self._operations:
            return
        guards = [*filter(None, (self._fence, self._mark)), *self._guards]
        operations = [*self._operations.values(), *event_puts(self._keys, self._events)]
        if self._mark is not None:
            operations.append(Put(self._mark.key, b""))
        commit = await self._store.commit(guards, operations)
        if not commit.succeeded:
            raise Conflict("the cluster was changed by somebody else at the same moment; try again")
        self.revision = commit.revision
        if self._mark is not None:
            self._mark = Guard(self._mark.key, modified=commit.revision)
        self._guards, self._operations, self._events, self._size = {}, {}, [], 0


def _size(operations: Iterable[Operation]) -> int:
    return sum(len(each.value) for each in operations if isinstance(each, Put))
