"""Out of one cluster, into another: export, apply, diff, on two real stores."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cli.carrying import Patience
from cli.folders.applying import Wish, apply, diff
from cli.folders.writing import write_export
from engine.foresee import foresee
from fleet.api.client import FleetClient
from fleet.api.server import ApiServer
from fleet.folder.export import export_files
from fleet.keys import Keys
from fleet.registry import Registry
from fleet.store.etcd import EtcdStore
from fleet.store.port import Store
from fleet.store.sqlite import SqliteDatabase, SqliteStore
from fleet.testing.etcd import DEBIAN_ETCD, EtcdCluster, start_etcd

pytestmark = pytest.mark.etcd

COUNT = 200
SETTINGS = """\
source = "shop"
[units."job@.service"]
instances = ["a", "b"]
target = "loaded"
[units."u7.service"]
target = "inactive"
"""


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with start_etcd(tmp_path_factory.mktemp("etcd"), binary=DEBIAN_ETCD) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def served(store: Store, socket: Path) -> AsyncIterator[FleetClient]:
    server = ApiServer(Registry(store, Keys()), version="x", hostname="here", foresee=foresee)
    await server.start(unix_path=socket)
    try:
        async with FleetClient(f"unix://{socket}") as client:
            yield client
    finally:
        await server.stop()
        await store.close()


def write_folder(folder: Path) -> None:
    folder.mkdir()
    for number in range(COUNT):
        text = f"# unit {number}\n[Service]\nExecStart=/bin/echo {number}\n"
        (folder / f"u{number}.service").write_text(text)
    (folder / "job@.service").write_text("[Service]\nExecStart=/bin/echo %i\n")
    (folder / "u3.service.d").mkdir()
    (folder / "u3.service.d" / "nice.conf").write_text("[Service]\nNice=3\n")
    (folder / "fleet.toml").write_text(SETTINGS)


async def test_export_of_one_cluster_applied_to_another_differs_in_nothing(
    etcd: EtcdCluster, tmp_path: Path
) -> None:
    write_folder(tmp_path / "units")
    units, out = str(tmp_path / "units"), str(tmp_path / "out")
    hurry = Patience(block=False)
    database = await asyncio.to_thread(SqliteDatabase, tmp_path / "store.db")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        async with (
            served(EtcdStore(etcd.settings), tmp_path / "one.sock") as one,
            served(SqliteStore(database), tmp_path / "two.sock") as two,
        ):
            assert await diff(one, Wish(paths=(units,))) == 1
            assert await apply(one, Wish(paths=(units,)), hurry) == 0
            assert await diff(one, Wish(paths=(units,))) == 0
            inventory = await one.inventory(texts=True)
            await asyncio.to_thread(write_export, Path(out), export_files(inventory))
            assert await diff(one, Wish(paths=(out,))) == 0
            assert await apply(two, Wish(paths=(out,)), hurry) == 0
            assert await diff(two, Wish(paths=(out,))) == 0
            assert await diff(two, Wish(paths=(units,))) == 0
            there = await two.inventory(texts=True)
            assert there.units == inventory.units
            assert len(there.units) == COUNT + 3
            assert await apply(two, Wish(paths=(out,)), hurry) == 0
            assert (await two.inventory()).revision == there.revision
    database.close()
    assert f"{COUNT + 3} unchanged" in said.getvalue()
