"""Durations as Go writes them: `30s`, `1m30s`, `500ms`, `1.5h`.

Source of the grammar: https://pkg.go.dev/time#ParseDuration
"""

import math
import re

from fleet.errors import InvalidRequest

_UNIT_S = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,  # the micro sign, U+00B5
    "μs": 1e-6,  # the Greek letter, U+03BC
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]+)")


class InvalidDuration(InvalidRequest):
    """A text that is no duration."""


def parse_duration(text: str) -> float:
    """The duration in seconds; raises InvalidDuration. A negative one is refused as well."""
    unsigned = text.removeprefix("+")
    if unsigned == "0":
        return 0.0
    total_s = 0.0
    position = 0
    while position < len(unsigned):
        part = _PART.match(unsigned, position)
        if part is None or part[2] not in _UNIT_S:
            break
        total_s += float(part[1]) * _UNIT_S[part[2]]
        position = part.end()
    if not unsigned or position < len(unsigned) or math.isinf(total_s):
        raise InvalidDuration(f"{text!r} is no duration: write for example 30s, 1m30s or 500ms")
    return total_s
