"""The brake on mass losses, as the store holds it while it is on."""

import json
import math
from dataclasses import dataclass
from typing import Any

from fleet.machine import MachineId


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The brake on mass losses, on: these machines are gone, and their units stay theirs.

    `until_s` is in seconds since the epoch, by the leader's clock.
    """

    machines: frozenset[MachineId]
    until_s: float
    reason: str = ""


def encode_hold(hold: Hold) -> bytes:
    document = {"machines": sorted(hold.machines), "until": hold.until_s, "reason": hold.reason}
    return json.dumps(document, separators=(",", ":")).encode()


def decode_hold(document: Any) -> Hold:
    """The hold of a document; raises MALFORMED (fleet/errors.py) if it cannot be read."""
    until_s = float(document["until"])
    if not math.isfinite(until_s):
        raise ValueError("it has no end")
    return Hold(
        machines=frozenset(MachineId(str(machine)) for machine in document["machines"]),
        until_s=until_s,
        reason=str(document["reason"]),
    )
