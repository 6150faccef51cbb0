"""Which store a fleetd uses, and how each of its parts gets a connection of its own.

The heartbeat has its own thread and loop, and so its own connection: nothing that the rest of the
daemon does can delay it. Hence a factory, which is made once, and not a store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet.config import Config
from fleet.store.etcd_pulse import Pulse
from fleet.store.port import Store

# The original's default (`etcd_request_timeout`).
DEFAULT_REQUEST_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """How to reach an etcd cluster; the servers are URLs, tried in the order given.

    `request_timeout_s` is how long one server may take for one request before the next is asked.
    """

    servers: Sequence[str]
    username: str | None = None
    password: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    cafile: str | None = None
    request_timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S

    def __repr__(self) -> str:
        return f"EtcdSettings(servers={tuple(self.servers)!r}, username={self.username!r}, ...)"


def etcd_settings(config: Config) -> EtcdSettings | None:
    """How fleetd reaches its etcd; None if it has none."""
    if not config.etcd_servers:
        return None

    def path(value: Path | None) -> str | None:
        return str(value) if value else None

    return EtcdSettings(
        servers=config.etcd_servers,
        username=config.etcd_username or None,
        password=config.etcd_password or None,
        certfile=path(config.etcd_certfile),
        keyfile=path(config.etcd_keyfile),
        cafile=path(config.etcd_cafile),
        request_timeout_s=config.etcd_request_timeout_s,
    )


class StoreFactory(Protocol):
    """Gives connections to one store, each to be closed by whoever took it."""

    def connect(self) -> Store:
        """A connection for one event loop; raises FleetError if the settings cannot work.

        That nothing answers now is no error here but at the first use.
        """
        ...

    def close(self) -> None:
        """Let go of what the connections shared; they are all to be closed before."""
        ...


def store_factory(etcd: EtcdSettings | None, path: Path) -> StoreFactory:
    """The etcd cluster if it names servers, else the SQLite file at the path.

    Raises UnusableFile, and Unavailable if another process has the file open.
    """
    if etcd is not None and etcd.servers:
        return _EtcdFactory(etcd)
    return _SqliteFactory(path)


class _EtcdFactory:
    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._pulse = Pulse()

    def connect(self) -> Store:
        # Whoever has no etcd is spared its HTTP client's import.
        from fleet.store.etcd import EtcdStore

        return EtcdStore(self._settings, pulse=self._pulse)

    def close(self) -> None:
        pass


class _SqliteFactory:
    """Has the file open from the start, so that one that cannot be used is told of at once."""

    def __init__(self, path: Path) -> None:
        from fleet.store.sqlite import SqliteDatabase

        self._database = SqliteDatabase(path)

    def connect(self) -> Store:
        from fleet.store.sqlite import SqliteStore

        return SqliteStore(self._database)

    def close(self) -> None:
        self._database.close()
