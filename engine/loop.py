"""The engine of one machine: it stands for election, leads when it wins, and hands over.

`run()` goes on for ever; whoever is not the leader costs a watch on one key. When it is cancelled
or stopped, the leader resigns, so that another takes over at once.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from engine.election import Election, Term
from engine.leading import EngineSettings, Leading
from engine.tally import EngineStats, Tally
from fleet.cluster import Leader
from fleet.machine import MachineId
from fleet.registry import Registry

__all__ = ["Engine", "EngineSettings", "EngineStats"]

_log = logging.getLogger(__name__)

# How long to wait after an error that nobody foresaw.
_STUMBLE_S = 1.0


class Engine:
    """The engine; a context that stops it when it is left."""

    def __init__(
        self,
        registry: Registry,
        *,
        machine: MachineId,
        settings: EngineSettings | None = None,
        trouble_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`trouble_s` is when this machine's heartbeat last found the store slow or silent.

        It is by the loop's clock. Whoever only waits to lead would not notice a silence.
        """
        self._registry = registry
        self._trouble_s = trouble_s
        self._machine = machine
        self._settings = settings or EngineSettings()
        self._election = Election(registry, machine=machine, settings=self._settings.election)
        self._term: Term | None = None
        self._began_s: float | None = None
        self._tally = Tally()
        self._running: asyncio.Task[None] | None = None

    @property
    def is_leading(self) -> bool:
        """Whether this engine decides for the cluster now."""
        return self._term is not None and self._term.is_valid

    @property
    def leader(self) -> Leader | None:
        """The fence of this engine's writes while it leads, else None."""
        return self._term.leader if self._term is not None and self._term.is_valid else None

    @property
    def stats(self) -> EngineStats:
        """What this engine has done since it was made."""
        return self._tally.stats

    async def run(self) -> None:
        """Stand for election and lead, for ever; ends quietly after stop()."""
        if self._running is not None:
            raise RuntimeError("the engine runs already")
        self._began_s = asyncio.get_running_loop().time()
        self._running = asyncio.create_task(self._terms())
        try:
            await asyncio.wait([self._running])
        finally:
            await self._end(self._running)
            self._running = None

    async def stop(self) -> None:
        """Stop leading, give the leader key back, and let run() return."""
        if self._running is not None:
            await self._end(self._running)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _end(self, running: asyncio.Task[None]) -> None:
        running.cancel()
        await asyncio.wait([running])

    async def _terms(self) -> None:
        while True:
            try:
                await self._one_term()
            except Exception:
                # The last guard: an engine that stumbles stands up again.
                self._tally.failed_pass()
                _log.exception("the engine stumbled, and goes on in %g s", _STUMBLE_S)
                await asyncio.sleep(_STUMBLE_S)

    async def _one_term(self) -> None:
        term = self._term = await self._election.win()
        _log.info("the engine on machine %s leads the cluster", self._machine)
        leading = Leading(
            self._registry,
            term,
            self._settings,
            unavailable_at_s=self._unavailable_at_s(),
            tally=self._tally,
        )
        self._tally.leads_since_s = time.time()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._election.keep(term))
                await leading.run()
        finally:
            self._tally.leads_since_s = None
            _log.info("the engine on machine %s leads no more: %s", self._machine, term.over)
            await self._election.resign(term)

    def _unavailable_at_s(self) -> float | None:
        """When the store was last known to be in trouble, whoever noticed it.

        Before this engine ran it saw nothing, which comes to the same: where every fleetd was
        restarted at once, the machine of the last one to be back is not lost.
        """
        found = (self._began_s, self._election.unavailable_at_s, self._trouble_s())
        return max((at_s for at_s in found if at_s is not None), default=None)
