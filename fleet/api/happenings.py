"""What happens in the cluster, as documents of the HTTP API: holds, events, and ticks of change.

They are ours; fleet 1.0 had none.
"""

from dataclasses import dataclass

from fleet.api.members import Document, array, mapping, number, stored
from fleet.api.schema import decode_page
from fleet.events import Event, History
from fleet.events import decode_event as decode_stored_event
from fleet.hold import Hold
from fleet.hold import decode_hold as decode_stored_hold


def encode_hold(hold: Hold | None) -> Document:
    """The hold, or an empty document; `until` is in seconds since the epoch."""
    if hold is None:
        return {}
    return {"machines": sorted(hold.machines), "until": hold.until_s, "reason": hold.reason}


def decode_hold(document: object) -> Hold | None:
    """The hold in a document, None if it is empty; raises InvalidRequest."""
    found = mapping(document, "a hold")
    return stored(decode_stored_hold, found, "a hold") if found else None


def decode_event(document: object) -> Event:
    """The event in a document; raises InvalidRequest."""
    return stored(decode_stored_event, mapping(document, "an event"), "an event")


def decode_history(document: object) -> History:
    """The events in a document; raises InvalidRequest."""
    events, _ = decode_page("events", document, decode_event)
    return History(int(number(mapping(document, "a page"), "revision")), tuple(events))


@dataclass(frozen=True, slots=True)
class Tick:
    """Things of these kinds changed, up to that revision of the store."""

    revision: int
    changed: frozenset[str]


def decode_tick(document: object) -> Tick:
    found = mapping(document, "a tick")
    changed = frozenset(str(kind) for kind in array(found, "changed"))
    return Tick(int(number(found, "revision")), changed)
