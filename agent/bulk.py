"""Bulk: what is asked of many units in one moment reaches systemd as one transaction.

A job that is asked for alone makes systemd look up who asks and watch for their end, which is four
more messages by way of the bus. So a service that does nothing is started instead, which wants what
is to start, or conflicts with what is to stop (`Wants=`, `Conflicts=`; systemd.unit(5)). To the
units it is the same: a unit that gets no job in this way, as one that cannot be loaded, is asked
for alone, and that tells why.

systemd begins all jobs of its queue before it reads another message. So what became of a
transaction is asked for along with it, and is known before any of its jobs has begun; and the next
one is sent when those have, lest nobody hears from systemd for long.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from agent.bus import Refused
from agent.calls import Calls
from agent.jobs import Jobs, ended_job
from agent.systemd import CANCELED
from agent.wire import bulk_properties, listed_jobs
from fleet.errors import SystemdError, Unavailable
from fleet.names import UnitName

_log = logging.getLogger(__name__)

# Fewer are asked for alone. Some sixty begin within half a second on a machine that is busy.
FEW = 4
MOST = 64


@dataclass(frozen=True, slots=True)
class Verb:
    """What is asked for, and the dependency by which one unit brings it about for many."""

    word: str
    dependency: str
    stops: bool


STARTS = Verb("start", "Wants", stops=False)
STOPS = Verb("stop", "Conflicts", stops=True)

_Asked = tuple[UnitName, asyncio.Future[Awaitable[str]]]


class Bulk:
    """Queues starts or stops; `alone` queues that of one unit, or raises SystemdError."""

    def __init__(
        self,
        verb: Verb,
        calls: Calls,
        jobs: Jobs,
        alone: Callable[[UnitName], Awaitable[Awaitable[str]]],
    ) -> None:
        self._verb = verb
        self._calls = calls
        self._jobs = jobs
        self._alone = alone
        self._asked: list[_Asked] = []
        self._part: list[_Asked] = []
        self._sender: asyncio.Task[None] | None = None
        self._serial = 0

    async def queue(self, unit: UnitName) -> Awaitable[str]:
        """Queue the unit's job, with those that others ask for now; awaited, it says how it ended.

        Raises SystemdError if systemd refuses, Unavailable if it does not answer.
        """
        answer: asyncio.Future[Awaitable[str]] = asyncio.get_running_loop().create_future()
        self._asked.append((unit, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send(), name=f"{self._verb.word} in bulk")
        return await answer

    def withdraw(self, unit: UnitName) -> None:
        """End the unit's jobs that have no answer yet as systemd ends those that others replace.

        What was not sent will not be.
        """
        for asked, answer in (*self._part, *self._asked):
            if asked == unit and not answer.done():
                answer.set_result(ended_job(CANCELED))

    async def _send(self) -> None:
        """Send what was asked for, until that is nothing; it begins once the moment is over."""
        try:
            while self._asked:
                self._part, self._asked = self._asked[:MOST], self._asked[MOST:]
                await self._send_part([pair for pair in self._part if not pair[1].done()])
                if self._asked:
                    with contextlib.suppress(Refused, Unavailable):  # the next part will tell
                        await self._calls.ping()
        finally:
            self._sender = None
            for _, answer in (*self._part, *self._asked):
                answer.cancel()  # which only those without an answer feel

    async def _send_part(self, part: Sequence[_Asked]) -> None:
        units = frozenset(unit for unit, _ in part)
        try:
            queued = await self._together(units) if len(units) >= FEW else {}
        except Unavailable as error:
            for _, answer in part:
                _fail(answer, error)
            return
        alone = []
        for unit, answer in part:
            if answer.done():
                continue  # withdrawn meanwhile
            if unit in queued:
                answer.set_result(queued[unit])
            else:
                alone.append(self._send_alone(unit, answer))
        await asyncio.gather(*alone)

    async def _send_alone(self, unit: UnitName, answer: asyncio.Future[Awaitable[str]]) -> None:
        try:
            job = await self._alone(unit)
        except (SystemdError, Unavailable) as error:
            _fail(answer, error)
        else:
            if not answer.done():
                answer.set_result(job)

    async def _together(self, units: frozenset[UnitName]) -> dict[UnitName, Awaitable[str]]:
        """The jobs that one transaction queued; a unit is missing that got none."""
        self._serial += 1
        name = f"fleet-{self._verb.word}-{os.getpid()}-{self._serial}.service"
        text = f"fleet: {self._verb.word} of {len(units)} units"
        properties = bulk_properties(text, self._verb.dependency, units)
        with self._jobs.queueing():
            try:
                first, (listed,) = await asyncio.gather(
                    self._calls.transient(name, properties), self._calls.manager("ListJobs")
                )
            except Refused as error:
                _log.info("%d units are asked for one by one: %s", len(units), error)
                return {}
            # Over already, or under way: perhaps as a part of a job that stood there before.
            ended = self._jobs.ended_after(first)
            waiting = listed_jobs(listed, units, stops=self._verb.stops)
            return {unit: self._jobs.job(path) for unit, path in waiting.items()} | {
                unit: ended_job(ended[unit]) for unit in units & ended.keys()
            }


def _fail(answer: asyncio.Future[Awaitable[str]], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
