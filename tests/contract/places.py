"""Where the stores of the contract suite live."""

import asyncio
import uuid
from typing import Protocol

from fleet.store.etcd import EtcdStore
from fleet.store.memory import MemoryStore
from fleet.store.port import Store
from fleet.store.sqlite import SqliteDatabase, SqliteStore
from fleet.testing.etcd import EtcdCluster


class Place(Protocol):
    prefix: str

    def connect(self) -> Store: ...

    async def compact(self, revision: int) -> None: ...


class MemoryPlace:
    prefix = "/t/"

    def __init__(self) -> None:
        self._store = MemoryStore()

    def connect(self) -> Store:
        return self._store.connect()

    async def compact(self, revision: int) -> None:
        self._store.compact(revision)


class SqlitePlace:
    prefix = "/t/"

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def connect(self) -> Store:
        return SqliteStore(self._database)

    async def compact(self, revision: int) -> None:
        self._database.compact(revision)


class EtcdPlace:
    def __init__(self, cluster: EtcdCluster) -> None:
        self._cluster = cluster
        self.prefix = f"/{uuid.uuid4()}/"

    def connect(self) -> Store:
        return EtcdStore(self._cluster.settings)

    async def compact(self, revision: int) -> None:
        order = {"revision": str(revision), "physical": True}
        await asyncio.to_thread(self._cluster.call, "/v3/kv/compaction", order)
