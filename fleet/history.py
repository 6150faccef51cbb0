"""How the cluster's history is written: an event beside every change that it tells of."""

import json
import secrets
import time

from fleet.events import Event, encode_event
from fleet.keys import Keys
from fleet.store.port import Put


def event_put(keys: Keys, *, by: str, unit: str = "", what: str) -> Put:
    """The write that tells of something which happens just now, by this machine's clock."""
    now_ns = time.time_ns()
    event = Event(at_s=now_ns / 1e9, by=by, unit=unit, what=what)
    key = f"{keys.events}{now_ns:020d}-{secrets.token_hex(4)}"
    return Put(key, json.dumps(encode_event(event)).encode())
