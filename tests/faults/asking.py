"""Operators who go on asking while something is wrong, and what they were told.

What was acknowledged to them has to be there afterwards; what was refused, or never answered, may
be there or not. They ask a random machine's API each time, that of a machine in trouble included.
"""

import asyncio
import random
import threading
from types import TracebackType
from typing import Self

from cli.sandbox.cluster import Sandbox
from fleet.cluster import Cluster
from fleet.errors import FleetError
from fleet.names import UnitName
from fleet.registry import UnitChange
from fleet.states import TargetState
from tests.cluster.deeds import Operators
from tests.cluster.menu import contents

PATTERN = "f-asked-*"
_UNITS = 6
_PAUSE_S = 0.15


class Asking:
    """Asks in a thread of its own for as long as the context is open."""

    def __init__(self, sandbox: Sandbox, *, seed: int) -> None:
        self._rng = random.Random(seed)
        self._operators = Operators(sandbox, self._rng)
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask_on()))
        self._failure: BaseException | None = None
        self.acknowledged = 0
        self.refused = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def unfulfilled(self, cluster: Cluster) -> list[str]:
        """What was acknowledged and is not so in the store."""
        return self._operators.unfulfilled(cluster)

    async def _ask_on(self) -> None:
        try:
            while not self._over.is_set():
                await self._ask()
                await asyncio.sleep(_PAUSE_S)
        except BaseException as error:
            self._failure = error

    async def _ask(self) -> None:
        name = UnitName(f"f-asked-{self._rng.randrange(_UNITS)}.service")
        target = self._rng.choice((*[TargetState.LAUNCHED] * 3, TargetState.INACTIVE, None))
        try:
            if target is None:
                await self._operators.destroy(name)
            else:
                file = contents("quick", 0, self._rng.randrange(3))
                await self._operators.change(UnitChange(name=name, file=file, target=target))
            self.acknowledged += 1
        except FleetError:
            self.refused += 1
