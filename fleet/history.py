"""How the cluster's history is written: events beside the change that they tell of."""

import hashlib
from collections.abc import Sequence

from fleet.events import Event, encode_events
from fleet.keys import Keys
from fleet.store.port import Put

# So few that those of an entry that are forgotten late, with the last of them, do not matter.
_TOGETHER = 100


def event_puts(keys: Keys, events: Sequence[Event]) -> list[Put]:
    """The writes that tell of events which come with one change, as few as is reasonable."""
    parts = [events[start : start + _TOGETHER] for start in range(0, len(events), _TOGETHER)]
    return [_put(keys, part) for part in parts]


def event_writes(events: int) -> int:
    """How many writes that many events take."""
    return -(-events // _TOGETHER)


def _put(keys: Keys, events: Sequence[Event]) -> Put:
    """The write of an entry, whose key goes by time and is no other writer's of that moment."""
    value = encode_events(events)
    digest = hashlib.sha1(value, usedforsecurity=False).hexdigest()
    return Put(f"{keys.events}{int(events[0].at_s * 1e9):020d}-{digest[:12]}", value)
