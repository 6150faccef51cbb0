"""What an engine has done since its fleetd started, counted for whoever watches it."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from engine.tasks import Task, TaskKind
from fleet.machine import MachineId


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Counts that only grow, and since when (seconds since 1970) this engine leads, if it does.

    `removed_from_lost` counts the rows among the tasks done that were taken from machines that
    are not there any more.
    """

    leads_since_s: float | None = None
    passes: int = 0
    failed_passes: int = 0
    done: Mapping[TaskKind, int] = field(default_factory=dict)
    failed: Mapping[TaskKind, int] = field(default_factory=dict)
    removed_from_lost: int = 0


class Tally:
    """Counts what the engine tells it; `stats` is the count so far."""

    def __init__(self) -> None:
        self.leads_since_s: float | None = None
        self._passes = 0
        self._failed_passes = 0
        self._done: Counter[TaskKind] = Counter()
        self._failed: Counter[TaskKind] = Counter()
        self._removed_from_lost = 0

    @property
    def stats(self) -> EngineStats:
        return EngineStats(
            leads_since_s=self.leads_since_s,
            passes=self._passes,
            failed_passes=self._failed_passes,
            done=dict(self._done),
            failed=dict(self._failed),
            removed_from_lost=self._removed_from_lost,
        )

    def began_pass(self) -> None:
        """The engine looks at the cluster and plans."""
        self._passes += 1

    def failed_pass(self, unwritten: Iterable[Task] = ()) -> None:
        """The pass came to nothing, for the store or for a defect; these tasks were not written."""
        self._failed_passes += 1
        self._failed.update(task.kind for task in unwritten)

    def did(self, tasks: Iterable[Task], *, alive: Collection[MachineId]) -> None:
        """The tasks are written; `alive` are the machines of the cluster."""
        for task in tasks:
            self._done[task.kind] += 1
            if task.kind is TaskKind.REMOVE and task.machine not in alive:
                self._removed_from_lost += 1
