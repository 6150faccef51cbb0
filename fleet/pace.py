"""Pace: how long changes are gathered between one word about them and the next.

A word costs nearly the same for one change as for a hundred. So the first goes out at once, and the
longer changes keep coming the more of them share a word: each pause is twice as long as the one
before. A quiet moment, as long as the last pause, ends that. A pause ends early once changes came
in it and no more do: the last ones of a storm are what somebody waits for.
"""

import asyncio

# That no more come is taken from so many seconds without one.
QUIET_S = 0.03
# The shortest sleep: a moment that a timer missed by a rounding error passes within it.
_TICK_S = 0.0005


class Pace:
    """The pauses of somebody who speaks of changes; times are seconds by any one clock."""

    def __init__(self, *, first_s: float, longest_s: float, each_s: float = 0.0) -> None:
        """The first pause in a row and the longest, and how long one is at least per change."""
        self._first_s = first_s
        self._longest_s = longest_s
        self._each_s = each_s
        self._pause_s = 0.0
        self._until_s = 0.0
        self._news_at_s: float | None = None

    def news(self, now_s: float) -> None:
        """There is something to speak of."""
        if now_s - self._until_s > self._pause_s:
            self._pause_s = 0.0
        self._news_at_s = now_s

    def spoke(self, now_s: float, changes: int) -> float:
        """How long to gather from now on, after a word about so many changes; 0 after none."""
        if not changes:
            return 0.0
        doubled_s = 2 * self._pause_s or self._first_s
        self._pause_s = min(self._longest_s, max(doubled_s, changes * self._each_s))
        self._until_s = now_s + self._pause_s
        self._news_at_s = None
        return self._pause_s

    def left_s(self, now_s: float) -> float:
        """When to look again whether the pause is over; 0 once it is."""
        left_s = max(0.0, self._until_s - now_s)
        if self._news_at_s is None:
            return min(left_s, QUIET_S)
        return min(left_s, max(0.0, self._news_at_s + QUIET_S - now_s))

    async def pause(self) -> None:
        """Return when the pause is over, by the clock of the running loop."""
        clock = asyncio.get_running_loop().time
        while (left_s := self.left_s(clock())) > 0:  # noqa: ASYNC110 - no waking at each change
            await asyncio.sleep(max(_TICK_S, left_s))
