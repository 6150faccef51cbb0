"""Conditions on a machine's metadata, beyond fleet 1.0's `key=value`: `cpus>=8`, `region in eu,us`.

A condition is read only from what fleet 1.0 could not mean: its `key=value` is never one. Of the
comparisons, `<` and the like are between numbers. A machine without the key meets `!=` and
`not in`, and nothing else.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_KEY = r"(?P<key>[A-Za-z0-9_.-]+)"
_FORMS = (
    re.compile(rf"{_KEY}\s*(?P<operator>>=|<=|!=|>|<)\s*(?P<values>[^\s=<>!][^\s=]*)"),
    re.compile(rf"{_KEY}\s+(?P<operator>not\s+in|in)\s+(?P<values>[^=]+)"),
)
_EQUAL = re.compile(rf"{_KEY}=(?P<values>[^\s=]+)")


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: any of several values for `in`, one value for the others."""

    key: str
    operator: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        blank = " " if self.operator[-1] == "n" else ""
        return f"{self.key}{blank}{self.operator}{blank}{','.join(self.values)}"

    def is_met(self, metadata: Mapping[str, str]) -> bool:
        """Whether a machine with this metadata is as the condition wants it."""
        has = metadata.get(self.key)
        if self.operator in ("!=", "not in"):
            return has not in self.values
        if self.operator in ("=", "in"):
            return has in self.values
        number = _number(has)
        wanted = _number(self.values[0])
        compare = _COMPARED[self.operator]
        return number is not None and wanted is not None and compare(number, wanted)


def read_condition(text: str) -> Condition | None:
    """The condition in the text, None if it is none; raises ValueError with what is wrong."""
    found = next(filter(None, (form.fullmatch(text) for form in _FORMS)), None)
    if found is None:
        return None
    sign = " ".join(found["operator"].split())
    listed = found["values"].split(",") if sign.endswith("in") else [found["values"]]
    values = tuple(value.strip() for value in listed)
    if not all(values):
        raise ValueError("a value is missing between the commas")
    # A specifier is checked once it has become what it stands for.
    if sign in _COMPARED and "%" not in values[0] and _number(values[0]) is None:
        raise ValueError(f"{sign} compares numbers, and {values[0]!r} is none")
    return Condition(found["key"], sign, values)


def read_preference(text: str) -> Condition | None:
    """Like read_condition, with `key=value` as a condition, too."""
    found = _EQUAL.fullmatch(text)
    return Condition(found["key"], "=", (found["values"],)) if found else read_condition(text)


def _number(text: str | None) -> float | None:
    if text is None or not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", text.strip()):
        return None
    return float(text)
