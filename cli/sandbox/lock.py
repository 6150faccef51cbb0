"""One command at a time on one sandbox, held by a file lock that dies with its process."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from cli.sandbox.layout import Place
from cli.sandbox.processes import held_signals
from fleet.errors import Unavailable

DEADLINE_S = 15.0
_POLL_S = 0.05


@contextlib.contextmanager
def exclusive(place: Place, *, deadline_s: float = DEADLINE_S) -> Iterator[None]:
    """Hold the sandbox's name; the lock's file goes if there is no sandbox in the end.

    Raises Unavailable if another command keeps the name too long.
    """
    lock = _Lock(place)
    try:
        lock.acquire(deadline_s)
        yield
    finally:
        with held_signals():
            lock.leave()


class _Lock:
    """The lock of one sandbox; an interruption finds it either taken and known, or not taken."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._descriptor: int | None = None

    def acquire(self, deadline_s: float) -> None:
        """Take the lock; raises Unavailable with the pid of the holder."""
        deadline = time.monotonic() + deadline_s
        while True:
            with held_signals():
                holder = self._try()
            if holder is None:
                return
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"sandbox {self._place.name!r} is in the hands of another command, "
                    f"pid {holder}: wait for it or interrupt it"
                )
            time.sleep(_POLL_S)

    def _try(self) -> str | None:
        """Take the lock if it is free; else return what its holder wrote there."""
        self._place.base.mkdir(mode=0o755, exist_ok=True)
        try:
            descriptor = os.open(self._place.lock, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # the directory was removed just now, by another's `leave`
            return "unknown"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode()
            os.close(descriptor)
            return holder or "unknown"
        if not self._is_current(descriptor):
            os.close(descriptor)
            return "unknown"
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor
        return None

    def _is_current(self, descriptor: int) -> bool:
        """Whether the locked file is still the one at the path, and not one that was removed."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._place.lock.stat())
        except FileNotFoundError:
            return False

    def leave(self) -> None:
        """Let go; with no sandbox there, remove the file, and the directory once it is empty."""
        if self._descriptor is None:
            return
        if not self._place.top.exists():
            self._place.lock.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._place.base.rmdir()
        os.close(self._descriptor)
