"""Decisions on their way into the store, in as few transactions as its limits allow."""

from collections.abc import Iterable, Sequence

from fleet.errors import Conflict
from fleet.store.port import MAX_TXN_OPS, MAX_VALUE_BYTES, Delete, Guard, Put, Store

Operation = Put | Delete


class Batch:
    """Decisions on their way into as few transactions as the store's limit allows."""

    def __init__(self, store: Store, fence: Guard | None = None) -> None:
        self._store = store
        self._fence = [fence] if fence else []
        self._guards: dict[Guard, None] = {}
        self._operations: dict[str, Operation] = {}
        self._size = 0

    async def add(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> None:
        """Take one decision in, whole; a file put twice in a transaction is put once."""
        added = {operation.key: operation for operation in operations}
        fresh = [each for key, each in added.items() if self._operations.get(key) != each]
        if (
            len(self._operations) + len(fresh) > MAX_TXN_OPS
            or len(self._guards) + len(guards) > MAX_TXN_OPS - len(self._fence)
            or self._size + _size(fresh) > MAX_VALUE_BYTES
        ):
            await self.flush()
            fresh = list(added.values())
        self._guards |= dict.fromkeys(guards)
        self._operations |= added
        self._size += _size(fresh)

    async def flush(self) -> None:
        if not self._operations:
            return
        guards = [*self._fence, *self._guards]
        commit = await self._store.commit(guards, list(self._operations.values()))
        if not commit.succeeded:
            raise Conflict("the cluster was changed by somebody else at the same moment; try again")
        self._guards, self._operations, self._size = {}, {}, 0


def _size(operations: Iterable[Operation]) -> int:
    return sum(len(each.value) for each in operations if isinstance(each, Put))
