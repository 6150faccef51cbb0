"""Events: who did what to the cluster, and what its engines decided and why.

They are a history to read, and nothing is decided by them. Each has a key of its own, so that
writers never meet; the leader removes all but the newest once in a while.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fleet.errors import MALFORMED
from fleet.store.port import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened; `at_s` is in seconds since the epoch, by the writer's clock.

    `by` is a user (`alice@host`), an engine or a machine; `unit` is empty if it is about none.
    """

    at_s: float
    by: str
    unit: str
    what: str


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


def latest(entries: Iterable[Entry], limit: int) -> tuple[Event, ...]:
    """The newest events among the entries, the newest last; malformed ones are passed over.

    They stand in the order of their writing, which the clocks of many machines could not give.
    """
    events: list[Event] = []
    for entry in sorted(entries, key=lambda entry: (entry.modified, entry.key), reverse=True):
        if len(events) == limit:
            break
        try:
            events.append(decode_event(json.loads(entry.value)))
        except MALFORMED:
            continue
    return tuple(reversed(events))
