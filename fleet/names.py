"""Unit names: what is valid, and the anatomy of `prefix@instance.suffix`.

The rules are those of CoreOS fleet 1.0 with systemd's limit of length, which is 255 bytes
(UNIT_NAME_MAX in systemd's unit-name.h); the original let through one byte more.
"""

from dataclasses import dataclass
from typing import NewType

from fleet.errors import InvalidRequest

UnitName = NewType("UnitName", str)

MAX_NAME_BYTES = 255
UNIT_TYPES = frozenset(
    "automount busname device mount path scope service "
    "slice snapshot socket swap target timer".split()
)
TEMPLATE_TYPES = frozenset({"path", "service", "socket", "target", "timer"})
# The types whose suffix fleetctl leaves alone; any other name gets ".service" appended.
ADDRESSABLE_TYPES = ("service", "socket", "timer", "path", "device", "mount", "automount")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\@-")


class InvalidName(InvalidRequest):
    """A text that cannot be the name of a unit."""


@dataclass(frozen=True, slots=True)
class NameParts:
    """The anatomy of a unit name; `instance` is None without `@` and empty for a template."""

    prefix: str
    instance: str | None
    suffix: str

    @property
    def is_template(self) -> bool:
        return self.instance == ""

    @property
    def is_instance(self) -> bool:
        return bool(self.instance)

    @property
    def template(self) -> UnitName | None:
        """The name of the template this is an instance of, or None."""
        return UnitName(f"{self.prefix}@.{self.suffix}") if self.is_instance else None


def parse_name(text: str) -> UnitName:
    """The text as a unit name; raises InvalidName with the reason if it cannot be one."""
    if not text:
        raise InvalidName("unit name cannot be empty")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise InvalidName(f"unit name exceeds maximum length ({MAX_NAME_BYTES}): {text[:40]!r}...")
    stem, dot, suffix = text.rpartition(".")
    if not dot:
        raise InvalidName(f'unit name must contain ".": {text!r}')
    if not suffix:
        raise InvalidName(f'unit name cannot end in ".": {text!r}')
    if suffix not in UNIT_TYPES:
        raise InvalidName(f'invalid unit type: "{suffix}" in {text!r}')
    if "@" in text and suffix not in TEMPLATE_TYPES:
        raise InvalidName(f'invalid unit type for template: "{suffix}" in {text!r}')
    if not _LETTERS.issuperset(stem):
        letter = next(letter for letter in stem if letter not in _LETTERS)
        raise InvalidName(f"invalid character '{letter}' in unit name {text!r}")
    if text.startswith("@"):
        raise InvalidName(f'unit name cannot start in "@": {text!r}')
    if not stem:
        raise InvalidName(f"unit name has nothing before its type: {text!r}")
    return UnitName(text)


def is_name(text: str) -> bool:
    """Whether the text can be a unit's name."""
    try:
        parse_name(text)
    except InvalidName:
        return False
    return True


def split_name(name: str) -> NameParts:
    """The parts of a name; a name without a dot has an empty suffix."""
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        stem, suffix = name, ""
    prefix, at, instance = stem.partition("@")
    return NameParts(prefix, instance if at else None, suffix)


def complete_name(argument: str) -> str:
    """What a user typed as the unit it means: `units/web` is `web.service`.

    The answer may still be no valid name.
    """
    base = argument.rstrip("/").rpartition("/")[2]
    if base.rpartition(".")[2] in ADDRESSABLE_TYPES and "." in base:
        return base
    return f"{base}.service"
