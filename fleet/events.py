"""Events: who did what to the cluster, and what its engines decided and why.

They are a history to read. Those that come with one change share an entry, each entry has a key of
its own, so that writers never meet, and the leader removes all but the newest once in a while.
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
# What is said of a unit that a user removed; a machine that has lost all its rows looks for it.
DESTROYED = "destroyed"


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


def encode_events(events: Iterable[Event]) -> bytes:
    """The value of an entry."""
    documents = [encode_event(event) for event in events]
    return json.dumps(documents, separators=(",", ":")).encode()


def read_events(entry: "Entry") -> tuple[Event, ...]:
    """The events of an entry, in their order; none if it is malformed."""
    try:
        return tuple(decode_event(document) for document in json.loads(entry.value))
    except MALFORMED:
        return ()


def latest(
    entries: Iterable["Entry"], limit: int, *, unit: UnitName | str = ""
) -> tuple[Event, ...]:
    """The newest events, of one unit or of all, the newest last.

    They stand in the order of their writing, which the clocks of many machines could not give.
    """
    events: list[Event] = []
    for entry in sorted(entries, key=lambda entry: (entry.modified, entry.key), reverse=True):
        if len(events) >= limit:
            break
        events += [event for event in reversed(read_events(entry)) if unit in ("", event.unit)]
    return tuple(reversed(events[:limit]))


def expired(entries: Mapping[str, "Entry"], keys: "Keys", keep: int) -> list[str]:
    """The keys of entries to forget: all but those of the newest, or of the last few of a unit."""
    newest_first = sorted((key for key in entries if key.startswith(keys.events)), reverse=True)
    kept: Counter[str] = Counter()
    age = 0
    old: list[str] = []
    for key in newest_first:
        events = read_events(entries[key])
        units = {each.unit for each in events if keys.unit(UnitName(each.unit)) in entries}
        if age >= keep and all(kept[unit] >= KEPT_OF_A_UNIT for unit in units):
            old.append(key)
        kept.update(each.unit for each in events)
        age += len(events)
    return old
