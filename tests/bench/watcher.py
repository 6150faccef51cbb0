"""What the store says and when: a process on the sandbox's network that watches etcd.

Each change is told as a line of JSON with the moment at which it arrived, by the monotonic clock of
the host, which all machines share. `python -m tests.bench.watcher URL PREFIX` is that process.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.sandbox.layout import inside
from fleet.keys import Keys
from fleet.store.connect import EtcdSettings
from fleet.store.etcd import EtcdStore

_READY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One key that changed; `text` is its value, empty once it is gone."""

    at_s: float
    key: str
    text: str


class Watcher:
    """The process and what it has seen so far."""

    def __init__(self, hub: Path, url: str, prefix: str) -> None:
        argv = [sys.executable, "-P", "-m", "tests.bench.watcher", url, prefix]
        self._process = subprocess.Popen(inside(hub, argv), stdout=subprocess.PIPE, text=True)
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self.seen: list[Seen] = []

    def __enter__(self) -> Self:
        self._reader.start()
        if not self._ready.wait(_READY_S):
            raise RuntimeError("the watcher of the store does not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                document = json.loads(line)
                if document:
                    self.seen.append(Seen(**document))
                else:
                    self._ready.set()


class LeaseWatch:
    """Who leads, and when a machine's lease ends; without a URL nothing is known of that."""

    def __init__(self, hub: Path, url: str) -> None:
        self._keys = Keys()
        prefixes = (self._keys.machines, self._keys.engine)
        self._watchers = [Watcher(hub, url, prefix) for prefix in prefixes if url]

    def __enter__(self) -> Self:
        for watcher in self._watchers:
            watcher.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for watcher in self._watchers:
            watcher.__exit__(kind, error, trace)

    @property
    def leader(self) -> str:
        """The machine whose engine leads, "" if that is unknown."""
        for seen in self._seen():
            if seen.key == self._keys.engine and seen.text:
                return str(json.loads(seen.text)["machine"])
        return ""

    def ended_s(self, machine: str) -> float | None:
        """When the machine was no longer registered."""
        gone = [s.at_s for s in self._seen() if s.key.endswith(machine) and not s.text]
        return gone[-1] if gone else None

    def _seen(self) -> list[Seen]:
        return [seen for watcher in self._watchers for seen in watcher.seen]


async def watch(url: str, prefix: str) -> None:
    """Print what is there, an empty line of JSON, and every change that follows."""
    store = EtcdStore(EtcdSettings(servers=(url,)))
    snapshot = await store.read(prefix)
    for key, entry in snapshot.entries.items():
        _tell(key, entry.value)
    async for changes in store.watch(prefix, snapshot.revision):
        if not changes.events:
            sys.stdout.write("{}\n")
            sys.stdout.flush()
        for event in changes.events:
            _tell(event.key, event.entry.value if event.entry else b"")


def _tell(key: str, value: bytes) -> None:
    seen = {"at_s": time.monotonic(), "key": key, "text": value.decode(errors="replace")}
    sys.stdout.write(f"{json.dumps(seen)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(watch(sys.argv[1], sys.argv[2]))
