"""Events: who did what to the cluster, and what its engines decided and why.

They are a history to read, and nothing is decided by them. Each has a key of its own, so that
writers never meet; the leader removes all but the newest once in a while.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet.errors import MALFORMED
from fleet.names import UnitName

if TYPE_CHECKING:
    from fleet.keys import Keys
    from fleet.store.port import Entry

# How many events of a unit stay as long as the unit does.
KEPT_OF_A_UNIT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened; `at_s` is in seconds since the epoch, by the writer's clock.

    `by` is a user (`alice@host`), an engine or a machine; `unit` is empty if it is about none.
    """

    at_s: float
    by: str
    unit: str
    what: str


@dataclass(frozen=True, slots=True)
class History:
    """Some events, the newest last, and the revision of the store that they were read at."""

    revision: int
    events: tuple[Event, ...]


def encode_event(event: Event) -> dict[str, Any]:
    return {"at": event.at_s, "by": event.by, "unit": event.unit, "what": event.what}


def decode_event(document: Any) -> Event:
    """The event of a document; raises MALFORMED (fleet/errors.py) if it cannot be read."""
    return Event(
        at_s=float(document["at"]),
        by=str(document["by"]),
        unit=str(document["unit"]),
        what=str(document["what"]),
    )


def latest(
    entries: Iterable["Entry"], limit: int, *, unit: UnitName | str = ""
) -> tuple[Event, ...]:
    """The newest events, of one unit or of all, the newest last; malformed ones are passed over.

    They stand in the order of their writing, which the clocks of many machines could not give.
    """
    events: list[Event] = []
    for entry in sorted(entries, key=lambda entry: (entry.modified, entry.key), reverse=True):
        if len(events) == limit:
            break
        event = _read(entry)
        if event is not None and unit in ("", event.unit):
            events.append(event)
    return tuple(reversed(events))


def expired(entries: Mapping[str, "Entry"], keys: "Keys", keep: int) -> list[str]:
    """The keys of events to forget: all but the newest, and the last few of every unit."""
    events = sorted(key for key in entries if key.startswith(keys.events))
    kept: Counter[str] = Counter()
    old: list[str] = []
    for age, key in enumerate(reversed(events)):
        event = _read(entries[key])
        unit = event.unit if event and keys.unit(UnitName(event.unit)) in entries else ""
        if age >= keep and (not unit or kept[unit] >= KEPT_OF_A_UNIT):
            old.append(key)
        kept[unit] += 1
    return old


def _read(entry: "Entry") -> Event | None:
    try:
        return decode_event(json.loads(entry.value))
    except MALFORMED:
        return None
