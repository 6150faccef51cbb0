"""What became of every unit while something was wrong, and what of it nobody had asked for.

Three records are compared: how each unit lived on each machine before and after, and what each
machine's systemd noted in between. The last is what a unit cannot hide from that was stopped and
started again, or ran once more and ended. Nothing here reads anything; it judges plain values.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from tests.cluster.steps import Lives

Key = tuple[str, str]
"""A machine, and a unit there."""

# What systemd tells of a unit's jobs: systemd.journal-fields(7), systemd's sd-messages.h.
STARTED, STOPPED = "started", "stopped"
_MESSAGES = {
    "7d4958e842da4a758f6c1cdc7b36dcc5": STARTED,  # SD_MESSAGE_UNIT_STARTING: oneshots, slow ones
    "39f53479d3a045ac8e11786248231fbf": STARTED,  # SD_MESSAGE_UNIT_STARTED
    "5eb03494b6584870a536b337290809b3": STARTED,  # SD_MESSAGE_UNIT_RESTART_SCHEDULED
    "de5b426a63be47a7b6ac3eaac82e2f6f": STOPPED,  # SD_MESSAGE_UNIT_STOPPING
    "9d1aaa27d60140bd96365438aad20286": STOPPED,  # SD_MESSAGE_UNIT_STOPPED
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that systemd did to a unit of its own accord or somebody's; `what` is above."""

    machine: str
    unit: str
    what: str
    run: str

    @property
    def key(self) -> Key:
        return self.machine, self.unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What may have been touched.

    `asked` are patterns of units that operators changed meanwhile. A machine that is `lost` to the
    cluster may lose its units to others; one that is `dead` had no power, and what it starts when
    it is back is new. Units `everywhere` (global ones) move from nowhere.
    """

    asked: tuple[str, ...] = ()
    lost: frozenset[str] = frozenset()
    dead: frozenset[str] = frozenset()
    everywhere: frozenset[str] = frozenset()

    def is_asked(self, unit: str) -> bool:
        return any(fnmatch(unit, pattern) for pattern in self.asked)

    def may_stop(self, key: Key) -> bool:
        """Whether the unit may have stopped on this machine and stayed so."""
        machine, unit = key
        return machine in self.dead or (machine in self.lost and unit not in self.everywhere)

    def may_move(self, unit: str, homes: Iterable[str]) -> bool:
        """Whether the unit, which was on these machines, may have started on another one."""
        return unit not in self.everywhere and any(self.may_stop((m, unit)) for m in homes)


def parse_happenings(machine: str, journal: Iterable[str], *, since_us: int) -> list[Happening]:
    """What PID 1 noted of units after the moment (microseconds since the epoch).

    `journal` are the lines of `journalctl --output=json`.
    """
    found = []
    for line in journal:
        entry = json.loads(line)
        what = _MESSAGES.get(entry.get("MESSAGE_ID", ""))
        if what and "UNIT" in entry and int(entry["__REALTIME_TIMESTAMP"]) > since_us:
            run = entry.get("INVOCATION_ID", "")
            found.append(Happening(machine=machine, unit=entry["UNIT"], what=what, run=run))
    return found


def violations(
    before: Lives, after: Lives, happened: Sequence[Happening], allowed: Allowed
) -> list[str]:
    """What was done to units that nobody asked for, a sentence each."""
    homes = _homes(before)
    return [
        *_of_lives(before, after, homes, allowed),
        *_of_happenings(before, happened, homes, allowed),
    ]


def _homes(lives: Lives) -> Mapping[str, frozenset[str]]:
    units = {unit for _, unit in lives}
    return {unit: frozenset(m for m, u in lives if u == unit) for unit in units}


def _of_lives(
    before: Lives, after: Lives, homes: Mapping[str, frozenset[str]], allowed: Allowed
) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        machine, unit = key
        old, new = before.get(key), after.get(key)
        if old == new or allowed.is_asked(unit) or machine in allowed.dead:
            continue
        if old is None:
            if not allowed.may_move(unit, homes.get(unit, ())):
                yield f"{unit} is on {machine} and was not, though nothing sent it there: {new}"
        elif new is None:
            if not allowed.may_stop(key):
                yield f"{unit} is gone from {machine}: it was {old}"
        else:
            yield f"{unit} on {machine} was touched: {old} -> {new}"


def _of_happenings(
    before: Lives,
    happened: Sequence[Happening],
    homes: Mapping[str, frozenset[str]],
    allowed: Allowed,
) -> Iterator[str]:
    """What systemd noted; a unit of fleet is one that had a home before."""
    told = [h for h in happened if h.unit in homes and not allowed.is_asked(h.unit)]
    runs: dict[Key, set[str]] = {}
    for happening in told:
        key = happening.key
        if happening.machine in allowed.dead:
            continue
        if happening.what == STOPPED and not allowed.may_stop(key):
            yield f"systemd stopped {happening.unit} on {happening.machine}"
        if happening.what == STARTED:
            if key in before or not allowed.may_move(happening.unit, homes[happening.unit]):
                yield f"systemd started {happening.unit} on {happening.machine}"
            runs.setdefault(key, set()).add(happening.run)
    starts = Counter({key: len(each) for key, each in runs.items() if key not in before})
    for (machine, unit), count in starts.items():
        if count > 1:
            yield f"{unit} was started {count} times on {machine}, where it moved to"
