"""Files, by digest, that no unit and no row names: they go, a while later and all at once.

Nobody waits for their removal, which would hold up those who wait for whatever else there is to
write; and whoever brings the same contents back meanwhile finds them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Set

from engine.facts import Facts
from engine.tasks import Task, TaskKind


def find_nameless(facts: Facts, digests: Set[str], row_tasks: Iterable[Task]) -> set[str]:
    """Those of the files, and of those in the rows of the tasks, that nothing will name then."""
    change: Counter[str] = Counter()
    for task in row_tasks:
        if task.row is not None:
            old = facts.stored_rows_of(task.row.unit).get(task.row.machine)
            if old is not None:
                change[old.file] -= 1
            if task.kind is not TaskKind.REMOVE:
                change[task.row.file] += 1
    return {
        digest
        for digest in digests | change.keys()
        if digest in facts.files and facts.namings.get(digest, 0) + change[digest] <= 0
    }


def when_to_drop(
    nameless: Collection[str], planned_s: float | None, now_s: float, stay_s: float
) -> float | None:
    """When the files go, None if there are none: as was planned, or so long after now."""
    if not nameless:
        return None
    return now_s + stay_s if planned_s is None else planned_s


def file_tasks(facts: Facts, nameless: Iterable[str]) -> Iterator[Task]:
    """The tasks that remove the files."""
    for digest in nameless:
        yield Task(
            kind=TaskKind.DROP_FILE,
            digest=digest,
            reason="no unit has these contents any more",
            unit_revision=facts.files[digest],
        )
