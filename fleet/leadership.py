"""Leadership: who has the leader key decides, and each of its writes is guarded by that key.

Two write for a leader: its own engine, and whoever is asked to rebalance. Each of their
transactions writes one key, and is void if that is not as it was when they looked: so no two
decisions are made that did not know of each other.
"""

from collections.abc import Sequence

from fleet.batch import Batch, Decision
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

    async def commit(self, leader: Leader, decisions: Sequence[Decision], *, since: int) -> int:
        """Write the engine's decisions, each whole, in batches; raises Conflict if a guard failed.

        A guard fails when this engine was deposed, what it decided about has changed, or anything
        was decided `since` (`Cluster.latest_rows`); it has to look again before it writes more.
        Gives the revision since which nothing was decided, after all this.
        """
        fence = Guard(self._keys.engine, created=leader.created)
        mark = Guard(self._keys.latest_rows, modified=since)
        batch = Batch(self._store, self._keys, fence, mark)
        for decision in decisions:
            await batch.add(decision)
        await batch.flush()
        return batch.revision or since
