"""Fenced units on this machine: when they may start, which the fence has stopped, what is claimed.

The order of a start is what keeps a fenced unit from running twice. The fence is up; the unit is
claimed in the store, on the condition that its row is the one that was planned on; the fence is
still the same; then systemd is asked, which refuses by itself if the fence comes down now.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.fence import Fence, stop_times
from agent.local import LocalUnit, LocalUnits
from agent.plan import FENCE_IS_DOWN, Here
from fleet.claims import Claims
from fleet.errors import Conflict, Unavailable
from fleet.names import UnitName
from fleet.unit import UnitFile


class FencedUnits:
    """What the agent does about its fenced units; without a `fence` none ever starts."""

    def __init__(self, fence: Fence | None, claims: Claims, local: LocalUnits) -> None:
        self._fence = fence
        self._claims = claims
        self._local = local
        self._claimed: dict[UnitName, float] = {}
        """The claims and the stop times that they tell, 0 if it is not known what they tell."""
        self._is_known = False
        self._files: dict[UnitName, UnitFile] = {}
        self._times: Mapping[UnitName, float] = {}

    @property
    def claimed(self) -> frozenset[UnitName]:
        """The units that this machine has claimed, as far as is known."""
        return frozenset(self._claimed)

    def is_fenced(self, unit: UnitName) -> bool:
        here = self._local.get(unit)
        return here is not None and here.requirements.is_fenced

    def doubt(self) -> None:
        """Read from the store again what is claimed."""
        self._claimed, self._is_known = {}, False

    async def recall(self) -> None:
        """Know what is claimed; raises Unavailable."""
        if not self._is_known:
            held = await self._claims.held()
            self._claimed = held | self._claimed  # with what was claimed meanwhile
            self._is_known = True

    def observe(self, here: Here) -> Here:
        """What is here, with the fence's part in it; units that ended by themselves are noted."""
        fenced = {u: one for u, one in here.local.items() if one.requirements.is_fenced}
        self.want(here.starting)
        lease = self._generation()
        idle = [one for u, one in fenced.items() if one.is_launched and not here.is_live(u)]
        if not lease:
            return here
        for unit in have_ended(idle, lease):
            note = fenced[unit].note
            if note is not None:
                self._local.note(unit, replace(note, ended=True))
        return replace(here, lease=lease, fallen=have_fallen(idle, lease))

    def want(self, starting: Iterable[UnitName]) -> None:
        """Have the fence up if there are fenced units here; `starting` are being started."""
        fenced = {u for u, one in self._local.all().items() if one.requirements.is_fenced}
        if self._fence is not None:
            self._fence.want(bool(fenced), may_raise=fenced.isdisjoint(starting))

    async def admit(self, unit: UnitName, row: int) -> str:
        """Claim the unit if it is fenced, so that it may start now; the lease's generation.

        Raises Conflict if it may not.
        """
        if not self.is_fenced(unit):
            return ""
        lease = self._generation()
        if not lease:
            raise Conflict(FENCE_IS_DOWN)
        self._claimed[unit] = 0.0  # also if the answer is lost
        try:
            await self._claim(unit, row)
        except Unavailable as error:
            raise Conflict(f"it is fenced, and could not be claimed: {error}") from error
        if self._generation() != lease:
            raise Conflict(FENCE_IS_DOWN)
        return lease

    async def _claim(self, unit: UnitName, row: int) -> None:
        """Claim the unit, until what is claimed counts in what has come here meanwhile."""
        while (times := self._stop_times())[unit] != self._claimed.get(unit):
            news = {u: s for u, s in times.items() if u == unit or self._claimed[u] not in (0, s)}
            await self._claims.take(unit, row, news)
            self._claimed |= news

    async def release(self, here: Here, starting: Iterable[UnitName]) -> None:
        """Give back the claims under which nothing runs here, nor is to; may be Unavailable.

        `here` is what was seen before the pass acted, `starting` what it has begun to start.
        """
        busy = {unit for unit in self.claimed if self._needs_claim(unit, here)}
        done = self.claimed - busy - {unit for unit in starting if self.is_fenced(unit)}
        if done:
            await self._claims.release(sorted(done))
            for unit in done:
                self._claimed.pop(unit, None)

    def _needs_claim(self, unit: UnitName, here: Here) -> bool:
        """Whether what was started under the claim may run yet, or is to run again."""
        local = self._local.get(unit)
        if local is not None and was_launched_unfenced(local):
            return False
        return here.is_live(unit) or (local is not None and local.is_launched)

    def _stop_times(self) -> Mapping[UnitName, float]:
        files = {u: one.file for u, one in self._local.all().items() if one.file is not None}
        if files != self._files:  # many units are claimed one after the other
            self._files, self._times = files, stop_times(files)
        return {unit: self._times[unit] for unit in sorted(self.claimed & files.keys())}

    def _generation(self) -> str:
        if self._fence is None:
            return ""
        return self._fence.generation(asyncio.get_running_loop().time())


def was_launched_unfenced(local: LocalUnit) -> bool:
    """Whether it was as a unit that is not fenced that it last started.

    Contents change only when nothing of the unit runs, so what ran under a claim had stopped by
    then. That it was not given back is the doing of a store that was away, or of a power cut.
    """
    note = local.note
    return note is not None and note.launched and not (note.lease or local.requirements.is_fenced)


def have_ended(idle: Iterable[LocalUnit], lease: str) -> list[UnitName]:
    """Of launched units that do not run, those that ended though the fence has not come down."""
    return [
        one.unit
        for one in idle
        if one.note is not None and one.note.lease == lease and not one.note.ended
    ]


def have_fallen(idle: Iterable[LocalUnit], lease: str) -> frozenset[UnitName]:
    """Of launched units that do not run, those that the fence has stopped: they start anew."""
    return frozenset(
        one.unit
        for one in idle
        if one.note is not None and one.note.lease != lease and not one.note.ended
    )
