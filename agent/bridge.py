"""The bridge over a restart: the lease of the fleetd before is renewed while this one starts.

To start takes most of a second of processor time, nearly all of it for imports, and on a host that
is overloaded longer than a machine's lease lasts. So fleetd notes its lease beside its units, and
the next one renews that lease before it imports what it serves with. The heartbeat then registers
anew, as ever, under a lease of its own, and the earlier one lapses.

A note serves one start: it is taken away as it is read, and written when this machine has been
registered. So a fleetd that fails whenever it starts keeps no units on a machine where nobody runs
them. Nor does a renewal here put the fence off, which systemd brings down as it was told to last.
"""

import asyncio
import json
import logging
import threading
from pathlib import Path

from fleet.errors import MALFORMED, FleetError, Unavailable
from fleet.store.port import LeaseId, Store

_log = logging.getLogger(__name__)

RETRY_S = 0.2


class LeaseNote:
    """The lease of the fleetd that runs, noted for the one after it; good for one boot."""

    def __init__(self, path: Path, *, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id

    def take(self) -> LeaseId | None:
        """The lease that was noted in this boot, which is noted no more; None if there is none."""
        try:
            text = self._path.read_bytes()
            self._path.unlink()
            document = json.loads(text)
            return LeaseId(str(document["lease"])) if document["boot"] == self._boot_id else None
        except (OSError, *MALFORMED):
            return None

    def write(self, lease: LeaseId | None) -> None:
        """Note the lease, or that there is none; a disk that fails only costs the next start."""
        try:
            if lease is None:
                self._path.unlink(missing_ok=True)
                return
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            new = self._path.with_name(f"{self._path.name}.new")
            new.write_text(json.dumps({"lease": lease, "boot": self._boot_id}))
            new.replace(self._path)
        except OSError as error:
            _log.warning("cannot note the machine's lease in %s: %s", self._path, error.strerror)


async def renew_once(store: Store, lease: LeaseId, *, ttl_s: float) -> float | None:
    """Renew, and say after how many seconds to do it again: never if the lease has ended."""
    try:
        async with asyncio.timeout(ttl_s / 3):
            await store.renew(lease)
    except (Unavailable, TimeoutError):
        return RETRY_S
    except FleetError as error:
        _log.info("the lease of the fleetd before is not renewed: %s", error)
        return None
    return ttl_s / 3


class Bridge:
    """Renews a lease in a thread from start() to end(), and once more then; takes the store."""

    def __init__(self, store: Store, lease: LeaseId, *, ttl_s: float) -> None:
        self._store = store
        self._lease = lease
        self._ttl_s = ttl_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def end(self) -> None:
        """Renew a last time and let go of the store; returns at once."""
        self._over.set()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            is_last = False
            while (pause_s := runner.run(self._renew())) is not None and not is_last:
                is_last = self._over.wait(pause_s)
            runner.run(self._store.close())

    async def _renew(self) -> float | None:
        return await renew_once(self._store, self._lease, ttl_s=self._ttl_s)
