"""An event loop on a virtual clock: a test that sleeps for a day takes a moment.

When nothing is ready the clock jumps to the next timer. When nothing is ready and no timer is set,
every task waits for ever, and the loop says so instead of hanging. Real I/O and threads do not
work on it: what has them runs on an ordinary loop.
"""

import asyncio
import selectors


class Deadlock(RuntimeError):
    """Every task waits and no timer is set."""


class _ClockSelector(selectors.DefaultSelector):
    """A selector that never blocks: instead of waiting, it moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise Deadlock("every task waits and no timer is set: this would hang")
        self.now_s += max(timeout, 0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` is virtual seconds since it was made."""

    def __init__(self) -> None:
        self._clock = _ClockSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s
