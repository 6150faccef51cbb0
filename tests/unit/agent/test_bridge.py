"""The lease of the fleetd before: noted for one start of one boot, and renewed meanwhile."""

import asyncio
import time
from pathlib import Path

import pytest

from agent.bridge import RETRY_S, Bridge, LeaseNote, renew_once
from fleet.errors import Unavailable
from fleet.store.memory import MemoryStore
from fleet.store.port import LeaseId
from fleet.store.sqlite import SqliteDatabase, SqliteStore

LEASE = LeaseId("7587862094")
TTL_S = 6.0


def note(folder: Path, boot_id: str = "boot-1") -> LeaseNote:
    return LeaseNote(folder / "fleet" / "lease", boot_id=boot_id)


def test_noted_lease_is_taken_once(tmp_path: Path) -> None:
    note(tmp_path).write(LEASE)

    assert note(tmp_path).take() == LEASE
    assert note(tmp_path).take() is None


def test_lease_of_another_boot_is_not_taken_and_forgotten(tmp_path: Path) -> None:
    note(tmp_path).write(LEASE)

    assert note(tmp_path, "boot-2").take() is None
    assert note(tmp_path).take() is None


def test_lease_that_is_lost_is_noted_no_more(tmp_path: Path) -> None:
    note(tmp_path).write(LEASE)
    note(tmp_path).write(None)
    note(tmp_path).write(None)

    assert note(tmp_path).take() is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"lease": 7}', "null", "\xff"])
def test_malformed_note_is_none(tmp_path: Path, text: str) -> None:
    note(tmp_path).write(LEASE)
    (tmp_path / "fleet" / "lease").write_bytes(text.encode("latin-1"))

    assert note(tmp_path).take() is None
    assert list((tmp_path / "fleet").iterdir()) == []


def test_note_that_cannot_be_written_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "fleet").write_text("no folder")
    note(tmp_path).write(LEASE)

    assert "cannot note the machine's lease" in caplog.text


async def test_lease_lasts_anew_from_a_renewal() -> None:
    store = MemoryStore()
    lease = await store.grant(TTL_S)
    await asyncio.sleep(TTL_S - 1)

    assert await renew_once(store, lease, ttl_s=TTL_S) == TTL_S / 3
    await asyncio.sleep(TTL_S - 1)
    assert await store.remaining(lease) > 0


async def test_lease_that_has_ended_is_not_asked_for_again() -> None:
    assert await renew_once(MemoryStore(), LEASE, ttl_s=TTL_S) is None


async def test_store_that_is_away_is_asked_again_soon() -> None:
    store = MemoryStore()
    store.fail_with(Unavailable("the store is away"))

    assert await renew_once(store, LEASE, ttl_s=TTL_S) == RETRY_S


@pytest.mark.realtime
async def test_bridge_renews_until_it_ends_though_the_main_thread_is_busy(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "fleet.db")
    store = SqliteStore(database)
    lease = await store.grant(1.0)
    bridge = Bridge(SqliteStore(database), lease, ttl_s=1.0)
    bridge.start()
    time.sleep(3.0)  # noqa: ASYNC251  importing
    assert await store.remaining(lease) > 0

    bridge.end()
    bridge.join(10)
    await asyncio.sleep(1.5)
    assert await store.remaining(lease) == 0
    await store.close()
    database.close()
