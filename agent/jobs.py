"""Jobs that were queued with systemd, and how they ended.

A job's end may be read from the socket before whoever queued it has seen the answer that names it.
So ends that nobody waits for are kept while jobs are being queued.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator

from fleet.errors import Unavailable
from fleet.names import UnitName


class Jobs:
    """The jobs of one connection, by their object paths."""

    def __init__(self) -> None:
        self._waited: dict[str, asyncio.Future[str]] = {}
        self._ended: dict[str, tuple[UnitName, str]] = {}
        self._queueing = 0

    @contextlib.contextmanager
    def queueing(self) -> Iterator[None]:
        """A job is being queued; within this, its answer is taken in by `job`."""
        self._queueing += 1
        try:
            yield
        finally:
            self._queueing -= 1
            if not self._queueing:
                self._ended.clear()

    def job(self, path: str) -> Awaitable[str]:
        """What is awaited for the job's result; whoever queued the same job shares it."""
        if path in self._ended:
            return ended_job(self._ended[path][1])
        if path not in self._waited:
            self._waited[path] = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._waited[path])

    def ended_after(self, path: str) -> dict[UnitName, str]:
        """How jobs ended that systemd made after this one: the first of each unit.

        systemd numbers jobs as it makes them, and the first of a transaction is what was asked for.
        """
        number = _number(path)
        first: dict[UnitName, str] = {}
        for ended, (unit, result) in self._ended.items():
            if _number(ended) > number:
                first.setdefault(unit, result)
        return first

    def end(self, path: str, unit: UnitName, result: str) -> None:
        """The job of that unit has ended."""
        job = self._waited.pop(path, None)
        if job is None:
            if self._queueing:
                self._ended[path] = unit, result
        elif not job.done():
            job.set_result(result)

    def lose(self) -> None:
        """The connection is gone: nobody will tell how jobs end."""
        for job in self._waited.values():
            if not job.done():
                job.set_exception(Unavailable("the connection to systemd ended during a job"))
                job.exception()  # nobody may be waiting any more
        self._waited.clear()
        self._ended.clear()


def _number(path: str) -> int:
    return int(path.rpartition("/")[2])


def ended_job(result: str) -> asyncio.Future[str]:
    """A job that is over already."""
    job: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    job.set_result(result)
    return job
