"""The SQLite file that the one-machine store keeps: opening, checking, loading and writing it.

Blocking, and for one thread at a time. What is written is synced when the call returns.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError, Unavailable
from fleet.store.port import Changes, Entry, LeaseId

_SCHEMA_VERSION = 1
# Marks the file as fleet's (`PRAGMA application_id`): "flt1".
_APPLICATION_ID = 0x666C7431
_LOCK_WAIT_S = 1.0
_SCHEMA = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE leases (id INTEGER PRIMARY KEY AUTOINCREMENT, ttl_s REAL NOT NULL)",
    "CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL,"
    " created INTEGER NOT NULL, modified INTEGER NOT NULL, lease TEXT)",
    "INSERT INTO about VALUES ('revision', '1'), ('boot', '')",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)


class UnusableFile(FleetError):
    """The file is damaged, of a newer fleet, or no store at all: fleetd cannot start with it."""

    def __init__(self, path: Path, problem: str, *, advice: str = "") -> None:
        advice = advice or (
            "move it away to begin with an empty one (the units that run keep running), "
            "or name another file in the configuration"
        )
        super().__init__(f"the store {path} {problem}; {advice}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the file holds; `leases` are those of this boot, with their seconds."""

    revision: int
    entries: tuple[Entry, ...]
    leases: dict[LeaseId, float]


class StoreFile:
    """An open and locked store file.

    Raises UnusableFile, and Unavailable if another process has the file open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _create(path)
            self._db = sqlite3.connect(
                path, timeout=_LOCK_WAIT_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            problem = f"cannot be opened: {_words(error)}"
            raise UnusableFile(path, problem, advice="check the path and its rights") from error
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def load(self, boot_id: str) -> Contents:
        """Everything in the file, after ending the leases of an earlier boot."""
        try:
            with self._transaction():
                about = dict(self._db.execute("SELECT name, value FROM about"))
                revision = int(about["revision"])
                if about["boot"] != boot_id:
                    revision = self._end_all_leases(revision, boot_id)
            return Contents(
                revision=revision,
                entries=tuple(self._entries()),
                leases={
                    LeaseId(str(lease)): float(ttl_s)
                    for lease, ttl_s in self._db.execute("SELECT id, ttl_s FROM leases")
                },
            )
        except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
            raise UnusableFile(self.path, f"is damaged: {_words(error)}") from error

    def add_lease(self, ttl_s: float) -> LeaseId:
        """Write down a new lease, with a number that was never used before."""
        with self._writing():
            cursor = self._db.execute("INSERT INTO leases (ttl_s) VALUES (?)", (ttl_s,))
        return LeaseId(str(cursor.lastrowid))

    def write(self, changes: Changes, *, ended: LeaseId | None = None) -> None:
        """Write down a commit, and with it the end of a lease; raises Unavailable."""
        with self._writing():
            for event in changes.events:
                key = _raw(event.key)
                if event.entry is None:
                    self._db.execute("DELETE FROM entries WHERE key = ?", (key,))
                else:
                    entry = event.entry
                    self._db.execute(
                        "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)",
                        (key, entry.value, entry.created, entry.modified, entry.lease),
                    )
            if ended is not None:
                self._db.execute("DELETE FROM leases WHERE id = ?", (ended,))
            self._set("revision", str(changes.revision))

    def close(self) -> None:
        self._db.close()

    # Inside

    def _prepare(self) -> None:
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            # Before anything else: another program's database is to be left just as it is.
            with self._transaction():
                self._check_schema()
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA cache_size = -512")
            self._db.execute("PRAGMA journal_size_limit = 4194304")
            damage = self._pragma("quick_check(1)")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise Unavailable(
                    f"the store {self.path} is in use by another process: does fleetd run "
                    "already? It serves one machine; several share an etcd (etcd_servers)"
                ) from error
            raise UnusableFile(self.path, f"cannot be used: {_words(error)}") from error
        except sqlite3.DatabaseError as error:
            raise UnusableFile(self.path, f"is damaged: {_words(error)}") from error
        if damage != "ok":
            raise UnusableFile(self.path, f"is damaged: {damage}")

    def _check_schema(self) -> None:
        version = self._pragma("user_version")
        if self._pragma("application_id") != _APPLICATION_ID:
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                raise UnusableFile(self.path, "is a database of another program")
            for statement in _SCHEMA:
                self._db.execute(statement)
        elif version != _SCHEMA_VERSION:
            raise UnusableFile(
                self.path,
                f"was written by another version of fleet (its schema is {version}, "
                f"this fleet knows {_SCHEMA_VERSION})",
            )

    def _end_all_leases(self, revision: int, boot_id: str) -> int:
        gone = self._db.execute("DELETE FROM entries WHERE lease IS NOT NULL").rowcount
        self._db.execute("DELETE FROM leases")
        self._set("boot", boot_id)
        if gone:
            revision += 1
            self._set("revision", str(revision))
        return revision

    def _entries(self) -> Iterator[Entry]:
        for key, value, created, modified, lease in self._db.execute("SELECT * FROM entries"):
            yield Entry(
                key=key.decode("utf-8", "surrogateescape"),
                value=bytes(value),
                created=created,
                modified=modified,
                lease=None if lease is None else LeaseId(lease),
            )

    def _pragma(self, name: str) -> object:
        return self._db.execute(f"PRAGMA {name}").fetchone()[0]

    def _set(self, name: str, value: str) -> None:
        self._db.execute("UPDATE about SET value = ? WHERE name = ?", (value, name))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._transaction():
                yield
        except sqlite3.Error as error:
            raise Unavailable(
                f"the store {self.path} cannot be written: {_words(error)}"
            ) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _create(path: Path) -> None:
    """Make the file, for its owner only: unit files hold secrets more often than they should."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # Never opened if it exists: closing it again would drop the locks this process has on it.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _raw(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
