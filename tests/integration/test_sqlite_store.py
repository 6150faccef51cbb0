"""What the SQLite store promises beyond the port: restarts, reboots, locks, damage, threads."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fleet.errors import Unavailable
from fleet.store.port import Changes, Compacted, Guard, LeaseLost, Put
from fleet.store.sqlite import HISTORY_REVISIONS, SqliteDatabase, SqliteStore
from fleet.store.sqlite_file import UnusableFile

pytestmark = pytest.mark.realtime

WAIT_S = 10


@contextmanager
def opened(path: Path, boot_id: str = "boot1") -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(path, boot_id=boot_id)
    try:
        yield database
    finally:
        database.close()


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never came to that"
        time.sleep(0.01)


def put(database: SqliteDatabase, key: str, value: bytes = b"x", lease: str | None = None) -> int:
    operation = Put(key, value, lease)  # type: ignore[arg-type]
    return database.commit([], [operation]).result(WAIT_S).revision


# Restarts


def test_what_was_committed_is_there_after_a_restart_at_the_same_revisions(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with opened(path) as database:
        for key, value in (("/a", bytes(range(256))), ("/b", b""), ("/\udcff", b"odd")):
            put(database, key, value)
        put(database, "/a", b"again")
        before = database.read([""])
    with opened(path) as database:
        assert database.read([""]) == before
        assert put(database, "/c") == before.revision + 1


def test_what_was_committed_survives_the_death_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    program = (
        "import os, pathlib, sys\n"
        "from fleet.store.port import Put\n"
        "from fleet.store.sqlite import SqliteDatabase\n"
        "database = SqliteDatabase(pathlib.Path(sys.argv[1]))\n"
        "for number in range(200):\n"
        "    database.commit([], [Put(f'/{number:03}', b'x')]).result()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    dead = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert dead.returncode == -signal.SIGKILL
    with opened(path) as database:
        assert len(database.read([""]).entries) == 200


def test_history_is_not_kept_over_a_restart_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with opened(path) as database:
        first = put(database, "/a")
        last = put(database, "/a")
    with opened(path) as database:
        with pytest.raises(Compacted):
            database.since("/", first)
        assert database.since("/", last) == ([], last)


def test_history_is_bounded(tmp_path: Path) -> None:
    with opened(tmp_path / "store.db") as database:
        revisions = [put(database, "/a") for _ in range(HISTORY_REVISIONS + 5)]
        with pytest.raises(Compacted):
            database.since("/", revisions[3])
        found, latest = database.since("/", revisions[4])
        assert [changes.revision for changes in found] == revisions[5:]
        assert latest == revisions[-1]


# Leases


def test_lease_lives_on_over_a_restart_in_the_same_boot(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with opened(path) as database:
        lease = database.grant(30).result(WAIT_S)
        put(database, "/a", lease=lease)
    with opened(path) as database:
        assert "/a" in database.read([""]).entries
        database.renew(lease)
        assert database.grant(30).result(WAIT_S) != lease
        database.revoke(lease).result(WAIT_S)
        assert "/a" not in database.read([""]).entries


def test_lease_nobody_takes_up_after_a_restart_ends(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with opened(path) as database:
        put(database, "/a", lease=database.grant(0.2).result(WAIT_S))
    with opened(path) as database:
        until(lambda: "/a" not in database.read([""]).entries)


def test_reboot_ends_every_lease(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with opened(path, "boot1") as database:
        lease = database.grant(3600).result(WAIT_S)
        put(database, "/a", lease=lease)
        before = put(database, "/b")
    with opened(path, "boot2") as database:
        snapshot = database.read([""])
        assert list(snapshot.entries) == ["/b"]
        assert snapshot.revision == before + 1
        with pytest.raises(LeaseLost):
            database.renew(lease)
        assert database.grant(3600).result(WAIT_S) != lease
    with opened(path, "boot2") as database:
        assert database.read([""]).revision == before + 1


def test_ended_lease_stays_ended_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with opened(path) as database:
        lease = database.grant(0.1).result(WAIT_S)
        put(database, "/a", lease=lease)
        until(lambda: "/a" not in database.read([""]).entries)
    with opened(path) as database:
        assert "/a" not in database.read([""]).entries
        with pytest.raises(LeaseLost):
            database.renew(lease)


def test_time_in_which_the_process_stood_still_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jump = [0.0]
    database = SqliteDatabase(tmp_path / "store.db", clock=lambda: time.monotonic() + jump[0])
    with closing(database):
        lease = database.grant(3).result(WAIT_S)
        put(database, "/a", lease=lease)
        time.sleep(0.2)
        jump[0] = 3600
        until(lambda: "stood still" in caplog.text)
        assert "/a" in database.read([""]).entries
        database.renew(lease)


def test_stopped_process_keeps_its_leases_when_it_goes_on(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from fleet.store.sqlite import SqliteDatabase\n"
        "database = SqliteDatabase(pathlib.Path(sys.argv[1]))\n"
        "lease = database.grant(1.5).result()\n"
        "print('granted', flush=True)\n"
        "until = time.monotonic() + 4\n"
        "while time.monotonic() < until:\n"
        "    time.sleep(0.3)\n"
        "    database.renew(lease)\n"
        "print('kept', flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "store.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "granted\n"
        time.sleep(0.4)
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "kept\n"


# Files that cannot be used


def test_second_process_is_told_that_the_file_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    program = (
        "import pathlib, sys\n"
        "from fleet.store.sqlite import SqliteDatabase\n"
        "from fleet.errors import Unavailable\n"
        "try:\n"
        "    SqliteDatabase(pathlib.Path(sys.argv[1]))\n"
        "except Unavailable as error:\n"
        "    print(error)\n"
    )
    with opened(path) as database:
        put(database, "/a")
        command = [sys.executable, "-c", program, str(path)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert "is in use by another process" in told
        assert "several share an etcd (etcd_servers)" in told
        with pytest.raises(Unavailable, match="in use"):
            SqliteDatabase(path)
        put(database, "/b")
    with opened(path) as database:
        assert list(database.read([""]).entries) == ["/a", "/b"]


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE photos (name TEXT)")


def _text(path: Path) -> None:
    path.write_bytes(b"this was never a database" * 100)


def _torn(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + os.urandom(len(data) - 4096))


def _emptied(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM about")
        db.commit()


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(_newer, "schema is 99", id="written by a newer fleet"),
        pytest.param(_foreign, "another program", id="of another program"),
        pytest.param(_text, "is damaged", id="no database at all"),
        pytest.param(_torn, "is damaged", id="overwritten in the middle"),
        pytest.param(_emptied, "is damaged", id="without its revision"),
        pytest.param(_directory, "cannot be opened", id="a directory"),
    ],
)
def test_file_that_cannot_be_used_is_a_clear_error(
    tmp_path: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    path = tmp_path / "store.db"
    with opened(path) as database:
        for number in range(200):
            put(database, f"/{number}", b"v" * 200)
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(UnusableFile, match=problem) as caught:
        SqliteDatabase(path)
    assert str(path) in str(caught.value)
    assert "move it away" in str(caught.value) or "check the path" in str(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_file_is_made_with_its_folder_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "var" / "lib" / "fleet" / "store.db"
    with opened(path) as database:
        put(database, "/a")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_full_disk_is_unavailable_and_changes_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk; it would end the process by a signal."""
    program = (
        "import pathlib, resource, signal, sys\n"
        "from fleet.errors import Unavailable\n"
        "from fleet.store.port import Put\n"
        "from fleet.store.sqlite import SqliteDatabase\n"
        "database = SqliteDatabase(pathlib.Path(sys.argv[1]))\n"
        "database.commit([], [Put('/a', b'before')]).result()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    database.commit([], [Put('/a', b'x' * 900_000)]).result()\n"
        "except Unavailable as error:\n"
        "    print(error)\n"
        "print(database.read(['/a']).entries['/a'].value)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "print(database.commit([], [Put('/b', b'')]).result().revision)\n"
        "database.close()\n"
    )
    path = tmp_path / "store.db"
    command = [sys.executable, "-c", program, str(path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    first, *rest = told.splitlines()
    assert f"the store {path} cannot be written" in first
    assert rest == ["b'before'", "3"]
    with opened(path) as database:
        assert list(database.read([""]).entries) == ["/a", "/b"]


# Threads


async def test_commit_of_one_thread_is_soon_seen_by_a_watch_in_another(tmp_path: Path) -> None:
    with opened(tmp_path / "store.db") as database:
        store = SqliteStore(database)
        watch = store.watch("/", 1)
        delays = []

        async def in_another_loop() -> float:
            other = SqliteStore(database)
            lease = await other.grant(60)
            await other.renew(lease)
            await other.commit([], [Put("/a", b"x", lease)])
            done_s = time.monotonic()
            await other.close()
            return done_s

        for _ in range(20):
            thread = asyncio.to_thread(asyncio.run, in_another_loop())
            done_s, changes = await asyncio.gather(thread, _next(watch))
            delays.append(time.monotonic() - done_s)
            assert changes.events[0].key == "/a"
        assert sorted(delays)[10] < 0.1
        await store.close()


async def _next(watch: object) -> Changes:
    async with asyncio.timeout(WAIT_S):
        return await anext(watch)  # type: ignore[call-overload, no-any-return]


def test_threads_that_race_for_a_key_give_it_to_one(tmp_path: Path) -> None:
    with opened(tmp_path / "store.db") as database:
        won: list[int] = []

        def race(number: int) -> None:
            for turn in range(20):
                guard = Guard(f"/{turn}", created=0)
                if database.commit([guard], [Put(f"/{turn}", b"")]).result(WAIT_S).succeeded:
                    won.append(turn)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == list(range(20))


async def test_commits_do_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    with opened(tmp_path / "store.db") as database:
        store = SqliteStore(database)
        gaps = [0.0]

        async def tick() -> None:
            while True:
                before_s = time.monotonic()
                await asyncio.sleep(0.001)
                gaps.append(time.monotonic() - before_s)

        ticking = asyncio.create_task(tick())
        puts = ([Put(f"/{n}/{m}", b"v" * 300) for m in range(100)] for n in range(30))
        await asyncio.gather(*(store.commit([], operations) for operations in puts))
        ticking.cancel()
        assert sorted(gaps)[len(gaps) * 9 // 10] < 0.1
        assert len((await store.read("")).entries) == 3000
        await store.close()


async def test_cancelled_commit_leaves_the_store_usable(tmp_path: Path) -> None:
    with opened(tmp_path / "store.db") as database:
        store = SqliteStore(database)
        for number in range(50):
            task = asyncio.create_task(store.commit([], [Put(f"/{number}", b"")]))
            await asyncio.sleep(0)
            task.cancel()
        commit = await store.commit([], [Put("/last", b"")])
        snapshot = await store.read("")
        assert commit.revision == snapshot.revision == len(snapshot.entries) + 1
        await store.close()


async def test_database_that_is_closed_ends_watches_with_unavailable(tmp_path: Path) -> None:
    with opened(tmp_path / "store.db") as database:
        store = SqliteStore(database)
        waiting = asyncio.ensure_future(_next(store.watch("/", 1)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(database.close)
        with pytest.raises(Unavailable, match="closed"):
            await waiting
        with pytest.raises(Unavailable, match="closed"):
            await store.read("")


def test_path_that_cannot_be_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UnusableFile, match=r"cannot be opened: .* check the path"):
        SqliteDatabase(file / "store.db")
