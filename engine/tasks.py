"""What a plan for the cluster is made of: tasks, each with its reason."""

from enum import StrEnum
from typing import NamedTuple

from fleet.cluster import Assignment, Refusal
from fleet.machine import MachineId


class TaskKind(StrEnum):
    """What is to be done, in the order in which it is done.

    A row goes before another comes, so that units that must not run together never have rows on
    one machine at a time.
    """

    HOLD = "hold"
    RELEASE = "release"
    FREE = "free"
    REMOVE = "remove"
    LEAVE = "leave"
    PLACE = "place"
    UPDATE = "update"
    CLEAR = "clear refusal"
    REFUSE = "refuse"
    DROP_FILE = "drop file"


ORDER = {kind: place for place, kind in enumerate(TaskKind)}


class Task(NamedTuple):
    """One thing to do, and the sentence that says why.

    `row` is the row as it will be, or as it was for one removed; its `revision` is that of the row
    the decision was made on, 0 if there was none. `claim_revision` is that of the claim of unit and
    machine, 0 if there was none, None if it does not matter. `unit_revision` is that of the unit's
    record, or of the file to drop. `machines` and `until_s` (monotonic) tell of a hold; `until_s`
    also tells of a fenced unit's wait.
    """

    kind: TaskKind
    reason: str
    unit: str = ""
    machine: str = ""
    row: Assignment | None = None
    refusal: Refusal | None = None
    digest: str = ""
    unit_revision: int = 0
    claim_revision: int | None = None
    machines: frozenset[MachineId] = frozenset()
    until_s: float = 0.0

    @property
    def sort_key(self) -> tuple[int, str, str, str]:
        return ORDER[self.kind], self.unit, self.machine, self.digest

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.kind, self.unit, self.digest)))
        where = f" on {self.machine}" if self.machine else ""
        return f"{what}{where}: {self.reason}"
