"""Follows units along the cluster's stream of reports until each has come to its goal or cannot.

`cli.waiting` judges; here are the stream, the clock, and the line that shows on a terminal what is
still waited for.
"""

import asyncio
import contextlib
import heapq
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Generic, Protocol, TextIO, TypeVar

from cli.waiting import Failed, Pending, Reached, Verdict
from fleet.api.reports import UnitReport
from fleet.errors import Unavailable
from fleet.names import UnitName

_PROGRESS_AFTER_S = 1.0
_PROGRESS_EVERY_S = 0.25
# Where a line cannot be erased it is written seldom.
_PROGRESS_IN_LOG_S = 30.0


class Watched(Protocol):
    """The part of the API's client that following needs."""

    def watch(self, names: Sequence[UnitName]) -> AsyncGenerator[UnitReport]:
        """A report of each unit at once, and again whenever one changes."""
        ...


_Aim = TypeVar("_Aim")
Settled = Callable[[UnitName, Reached | Failed], None]
Judge = Callable[[UnitReport, _Aim], Verdict]


@dataclass(slots=True)
class _Follow(Generic[_Aim]):
    """The verdicts so far; those that have to stand a while are on `due`, soonest first."""

    goals: Mapping[UnitName, _Aim]
    settled: Settled
    judge: Judge[_Aim]
    open: dict[UnitName, tuple[Verdict, float]] = field(default_factory=dict)
    due: list[tuple[float, UnitName]] = field(default_factory=list)
    done: dict[UnitName, Reached | Failed] = field(default_factory=dict)

    def take(self, report: UnitReport, now: float) -> None:
        """Judge a report; a verdict that stays the same keeps the time since when it stands."""
        if report.name not in self.open:
            return
        verdict = self.judge(report, self.goals[report.name])
        before, since = self.open[report.name]
        if verdict != before:
            since = now
        self.open[report.name] = (verdict, since)
        if not isinstance(verdict, Pending):
            heapq.heappush(self.due, (since + verdict.stands_s, report.name))

    def settle(self, now: float) -> None:
        """Close every unit whose verdict has stood long enough."""
        while self.due and self.due[0][0] <= now:
            at, name = heapq.heappop(self.due)
            verdict, since = self.open.get(name, (Pending(""), now))
            if isinstance(verdict, Pending) or since + verdict.stands_s > at:
                continue
            del self.open[name]
            self.done[name] = verdict
            self.settled(name, verdict)

    def finish(self) -> Mapping[UnitName, Verdict]:
        """Every unit's verdict, taken as it is where time ran out."""
        for name, (verdict, _) in self.open.items():
            if not isinstance(verdict, Pending):
                self.settled(name, verdict)
        return {**self.done, **{name: verdict for name, (verdict, _) in self.open.items()}}


async def follow(
    client: Watched,
    goals: Mapping[UnitName, _Aim],
    *,
    settled: Settled,
    judge: Judge[_Aim],
    limit_s: float | None = None,
    screen: "Screen | None" = None,
) -> Mapping[UnitName, Verdict]:
    """The final verdict of every unit by the judge; `settled` is told each at once.

    Those still Pending ran out of the time limit. Raises Unavailable if the stream ends.
    """
    if not goals:
        return {}
    clock = asyncio.get_running_loop().time
    begin = clock()
    following = _Follow(goals, settled, judge)
    following.open = {name: (Pending("nothing was reported yet"), begin) for name in goals}
    deadline = None if limit_s is None else begin + limit_s
    progress = _Progress(screen or Screen(sys.stderr), begin)
    incoming = _Incoming(client, list(goals))
    try:
        while following.open and (deadline is None or clock() < deadline):
            wakings = [following.due[0][0]] if following.due else []
            wakings += [deadline] if deadline is not None else []
            wakings.append(progress.next_s)
            for report in await incoming.wait(max(0.0, min(wakings) - clock())):
                following.take(report, clock())
            progress.show(following.open, clock())
            if following.due and following.due[0][0] <= clock():
                progress.erase()
                following.settle(clock())
    finally:
        progress.erase()
        await incoming.close()
    return following.finish()


class _Incoming:
    """The stream of reports, taken in as fast as it comes: many at a time cost little more."""

    def __init__(self, client: Watched, names: Sequence[UnitName]) -> None:
        self._client = client
        self._names = names
        self._reports: list[UnitReport] = []
        self._news = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())
        self._reading.add_done_callback(lambda _: self._news.set())

    async def wait(self, timeout_s: float) -> list[UnitReport]:
        """What has come since the last call, waiting for it that long.

        Raises Unavailable when there will be no more: for somebody who waits it has no end.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        reports, self._reports = self._reports, []
        if not self._reading.done():
            self._news.clear()
        elif not reports:
            await self._reading
        return reports

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async with aclosing(self._client.watch(self._names)) as stream:
                async for report in stream:
                    self._reports.append(report)
                    self._news.set()
        except Unavailable as error:
            raise Unavailable(_lost(self._names, str(error))) from error
        raise Unavailable(_lost(self._names, "the stream of reports ended"))


def _lost(names: Sequence[UnitName], cause: str) -> str:
    few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"Lost the cluster while waiting for {few}: {cause}. "
        "What was asked for stands; to see how it goes: fleetctl list-units"
    )


def _reason(verdict: Verdict) -> str:
    if isinstance(verdict, Pending):
        return verdict.reason
    return verdict.lines[0] if isinstance(verdict, Failed) else "making sure"


@dataclass(slots=True)
class Screen:
    """Where progress is shown: one line that is rewritten on a terminal, rare lines elsewhere."""

    stream: TextIO
    columns: int = 100

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty()

    def write(self, line: str) -> None:
        if self.is_terminal:
            self.stream.write(f"\r\x1b[K{line[: self.columns - 1]}")
        else:
            self.stream.write(f"{line}\n")
        self.stream.flush()

    def erase(self) -> None:
        self.stream.write("\r\x1b[K")
        self.stream.flush()


class _Progress:
    """The line about what is still waited for, and when it is due again."""

    def __init__(self, screen: Screen, begin: float) -> None:
        self._screen = screen
        self._shown = False
        self._every_s = _PROGRESS_EVERY_S if screen.is_terminal else _PROGRESS_IN_LOG_S
        self.next_s = begin + (_PROGRESS_AFTER_S if screen.is_terminal else _PROGRESS_IN_LOG_S)

    def show(self, waiting: Mapping[UnitName, tuple[Verdict, float]], now: float) -> None:
        if now < self.next_s or not waiting:
            return
        self.next_s = now + self._every_s
        name, (verdict, _) = next(iter(waiting.items()))
        reason = _reason(verdict)
        more = f" (and {len(waiting) - 1} more units)" if len(waiting) > 1 else ""
        self._screen.write(f"waiting for {name}{more}: {reason}")
        self._shown = True

    def erase(self) -> None:
        if self._shown and self._screen.is_terminal:
            self._screen.erase()
            self._shown = False
