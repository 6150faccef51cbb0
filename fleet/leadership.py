"""Leadership: who has the leader key decides, and each of its writes is guarded by that key."""

from collections.abc import Sequence

from fleet.batch import Batch, Operation
from fleet.cluster import Leader, encode_leader
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.store.port import Guard, LeaseId, Put, Store


class Leadership:
    """The leader key of one store."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def acquire(self, machine: MachineId, lease: LeaseId) -> Leader | None:
        """Take the leader key under the lease; None if another engine has it."""
        guard = Guard(self._keys.engine, created=0)
        put = Put(self._keys.engine, encode_leader(machine), lease)
        commit = await self._store.commit([guard], [put])
        return Leader(machine=machine, created=commit.revision) if commit.succeeded else None

    async def commit(
        self, leader: Leader, decisions: Sequence[tuple[Sequence[Guard], Sequence[Operation]]]
    ) -> None:
        """Write the engine's decisions, each whole, in batches; raises Conflict if a guard failed.

        A guard fails when this engine was deposed or what it decided about has changed; it has
        to look again before it writes more.
        """
        fence = Guard(self._keys.engine, created=leader.created)
        batch = Batch(self._store, fence)
        for guards, operations in decisions:
            await batch.add(guards, operations)
        await batch.flush()
