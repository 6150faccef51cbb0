"""Where units would run: the scheduler's answer to changes that have not been made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fleet.cluster import Cluster, UnitRecord
from fleet.machine import MachineId
from fleet.names import UnitName


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeseenUnit:
    """Where one unit is and where it would be; `reasons` by machine say why there.

    `refusals` say why it would run nowhere, by machine, or under "" for all.
    """

    name: UnitName
    was: tuple[MachineId, ...] = ()
    machines: tuple[MachineId, ...] = ()
    reasons: Mapping[MachineId, str] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """The answer for all units that would change or move, and the revision it holds for.

    `addresses` are those of the machines spoken of.
    """

    revision: int = 0
    units: tuple[ForeseenUnit, ...] = ()
    addresses: Mapping[MachineId, str] = field(default_factory=dict)


# Given the cluster and the records as they would be (None: gone). The engine has it.
Foresee = Callable[[Cluster, Mapping[UnitName, UnitRecord | None]], Foreseen]


class Rebalancer(Protocol):
    """What evens out the load of a cluster. The engine has it."""

    async def foresee(self, most: int) -> Foreseen:
        """The next moves, at most so many; nothing is moved."""
        ...

    async def rebalance(self, most: int, *, by: str) -> Foreseen:
        """Set the next moves going, at most so many, and say which; raises Conflict."""
        ...
