"""What was measured: a sample is one value of one figure, for one system and number of units."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class System(StrEnum):
    """What is measured side by side, in the order in which it is shown."""

    FLEET = "fleet"
    ALONE = "systemd alone"
    ORIGINAL = "fleet 1.0, here"
    PUBLISHED = "fleet 1.0, published"


class Figure(StrEnum):
    """What is measured against the number of units; its value names its chart."""

    SUBMITTED = "submitted"
    ACTIVE = "active"
    STARTED = "started"
    STOPPED = "stopped"
    DESTROYED = "destroyed"
    REMOVED = "removed"
    TAKEN_DOWN = "taken-down"
    LISTED = "listed"
    FAILOVER = "failover"
    POWER_CUT = "power-cut"
    IDLE = "idle"
    WAKEUPS = "wakeups"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured value, in the figure's unit."""

    system: System
    figure: Figure
    units: int
    value: float


@dataclass(slots=True)
class Samples:
    """All that was measured so far."""

    taken: list[Sample] = field(default_factory=list)

    def take(self, system: System, figure: Figure, units: int, value: float) -> None:
        self.taken.append(Sample(system=system, figure=figure, units=units, value=value))

    def values(self, system: System, figure: Figure, units: int) -> list[float]:
        wanted = (system, figure, units)
        return [s.value for s in self.taken if (s.system, s.figure, s.units) == wanted]

    def median(self, system: System, figure: Figure, units: int) -> float | None:
        """The median of the values, None if there are none."""
        values = self.values(system, figure, units)
        return statistics.median(values) if values else None

    def ratio(self, figure: Figure, units: int) -> float | None:
        """How many times as long fleet took as systemd alone, None if one was not measured."""
        ours = self.median(System.FLEET, figure, units)
        floor = self.median(System.ALONE, figure, units)
        return ours / floor if ours is not None and floor else None

    def curve(self, system: System, figure: Figure) -> list[tuple[int, float]]:
        """The medians by number of units, the smallest number first."""
        counts = sorted({s.units for s in self.taken if (s.system, s.figure) == (system, figure)})
        medians = ((count, self.median(system, figure, count)) for count in counts)
        return [(count, median) for count, median in medians if median is not None]

    @property
    def counts(self) -> list[int]:
        return sorted({sample.units for sample in self.taken})


def published() -> Iterable[Sample]:
    """The original's figures as they were measured before, on the same kind of machine."""
    points: Sequence[tuple[Figure, int, float]] = (
        (Figure.STARTED, 1, 5.4),  # 4.0 to 6.8
        (Figure.SUBMITTED, 1000, 19.1),
        (Figure.ACTIVE, 200, 5.7),
        (Figure.ACTIVE, 1000, 32.5),
        (Figure.LISTED, 1000, 1.05),
        (Figure.IDLE, 1000, 47.0),
        (Figure.MEMORY, 1000, 24.0),
        (Figure.POWER_CUT, 1, 21.2),
    )
    for figure, units, value in points:
        yield Sample(system=System.PUBLISHED, figure=figure, units=units, value=value)
