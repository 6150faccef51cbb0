"""One command at a time on one sandbox, held by a file lock that dies with its process."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from cli.sandbox.layout import Place
from fleet.errors import Unavailable

_DEADLINE_S = 15.0
_POLL_S = 0.05


@contextlib.contextmanager
def exclusive(place: Place) -> Iterator[None]:
    """Hold the sandbox's name; raises Unavailable if another command keeps it too long."""
    descriptor = _acquire(place)
    try:
        yield
    finally:
        os.close(descriptor)


def _acquire(place: Place) -> int:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        descriptor = _open(place)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode() or "unknown"
            os.close(descriptor)
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"sandbox {place.name!r} is in the hands of another command, pid {holder}: "
                    "wait for it or interrupt it"
                ) from None
            time.sleep(_POLL_S)
            continue
        if _is_current(descriptor, place):
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)


def _open(place: Place) -> int:
    while True:
        place.base.mkdir(mode=0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed by another's `release` just now
            return os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o600)


def _is_current(descriptor: int, place: Place) -> bool:
    """Whether the locked file is still the one at the path, and not one that was removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), place.lock.stat())
    except FileNotFoundError:
        return False


def release(place: Place) -> None:
    """Remove the lock's file, by its holder, and the directory above once it is empty."""
    place.lock.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        place.base.rmdir()
