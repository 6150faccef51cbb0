"""A fleetd that starts renews the lease of the one before, ahead of all else, and once."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.store.etcd import EtcdStore
from fleet.store.port import LeaseId
from fleet.testing.etcd import DEBIAN_ETCD, EtcdCluster, start_etcd

pytestmark = pytest.mark.etcd

TTL_S = 6
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fleetd runs that nobody else minds."""

    folder: Path
    etcd: EtcdCluster

    @property
    def note(self) -> Path:
        return self.folder / "run" / "lease"

    def lease(self) -> LeaseId | None:
        return LeaseId(json.loads(self.note.read_text())["lease"]) if self.note.exists() else None

    @contextmanager
    def fleetd(self, socket: str = "") -> Iterator["subprocess.Popen[bytes]"]:
        config = self.folder / "fleet.conf"
        lines = [
            f'etcd_servers="{self.etcd.urls[0]}"',
            f"agent_ttl={TTL_S}s",
            f"units_directory={self.folder}/run/units",
            f"data_directory={self.folder}/data",
            f"socket={socket or self.folder / 'fleet.sock'}",
        ]
        config.write_text("\n".join(lines))
        with (self.folder / "log").open("ab") as log:
            argv = [sys.executable, "-c", "from cli.fleetd import main; main()"]
            process = subprocess.Popen([*argv, f"--config={config}"], stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with start_etcd(tmp_path / "etcd", binary=DEBIAN_ETCD) as etcd:
        yield Place(tmp_path, etcd)


@asynccontextmanager
async def connected(place: Place) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(place.etcd.settings)
    try:
        yield store
    finally:
        await store.close()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.05)


async def until_left(store: EtcdStore, lease: LeaseId, holds: Callable[[float], bool]) -> None:
    """Return when that holds of the seconds that are left of the lease."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if holds(await store.remaining(lease)):
                return
            await asyncio.sleep(0.02)


async def left_behind(place: Place, store: EtcdStore) -> LeaseId:
    """The lease of a fleetd that was killed, when half of it is over."""
    with place.fleetd():
        await eventually(lambda: place.lease() is not None)
        lease = place.lease()
    assert lease is not None
    await until_left(store, lease, lambda left_s: left_s <= TTL_S / 2)
    return lease


async def test_lease_of_a_killed_fleetd_is_renewed_by_the_next(place: Place) -> None:
    async with connected(place) as store:
        old = await left_behind(place, store)

        with place.fleetd():
            await until_left(store, old, lambda left_s: left_s > TTL_S / 2)
            await eventually(lambda: place.lease() not in (None, old))


async def test_fleetd_that_cannot_serve_keeps_no_lease_for_the_next(place: Place) -> None:
    async with connected(place) as store:
        old = await left_behind(place, store)

        with place.fleetd("/proc/nowhere/fleet.sock") as process:
            assert await asyncio.to_thread(process.wait, DEADLINE_S) == 1
        assert not place.note.exists()
        assert await store.remaining(old) > 0
