"""Processors and memory: what machines have, and what units reserve of it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# systemd's suffixes, to the base of 1024; source: systemd.resource-control(5), MemoryMax=.
_SUFFIXES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# No machine has more, and a float counts up to it exactly.
_MOST_BYTES = 1 << 52
_MOST_CPUS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Processors and bytes of memory; 0 is nothing reserved, or nothing known of a machine."""

    cpus: float = 0.0
    memory: int = 0

    def __bool__(self) -> bool:
        return bool(self.cpus or self.memory)


NOTHING = Resources()


def lacking(asked: Resources, there: Resources, reserved: Iterable[Resources] = ()) -> str:
    """What of a machine is not free for the unit, as a sentence; nothing if there is room."""
    others = tuple(reserved)
    taken = (sum(each.cpus for each in others), sum(each.memory for each in others))
    for name, wants, has, used, show in (
        ("CPU", asked.cpus, there.cpus, taken[0], show_cpus),
        ("Memory", asked.memory, there.memory, taken[1], show_bytes),
    ):
        # Sums of fractions of processors are not exact.
        if not wants or wants <= has - used + 1e-6:
            continue
        if not has:
            return f"it asks for {name}={show(wants)}, and the machine does not say what it has"
        return (
            f"it asks for {name}={show(wants)}, {show(max(0, has - used))} of {show(has)} is free"
        )
    return ""


def parse_cpus(text: str) -> float:
    """Processors, `2` or `0.5`; raises ValueError."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?|\.[0-9]+", text) or not 0 < float(text) <= _MOST_CPUS:
        raise ValueError("write a number of processors such as 2 or 0.5")
    return float(text)


def parse_bytes(text: str) -> int:
    """Bytes, with systemd's K, M, G and T; raises ValueError."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGT]?)", text)
    count = round(float(found[1]) * _SUFFIXES[found[2]]) if found else 0
    if not 0 < count <= _MOST_BYTES:
        raise ValueError("write a number of bytes such as 512M or 1.5G")
    return count


def show_cpus(cpus: float) -> str:
    return f"{cpus:.3f}".rstrip("0").rstrip(".")


def show_bytes(count: float) -> str:
    """The bytes in the largest unit that is not larger, with one decimal at most."""
    suffix = next((s for s in "TGMK" if count >= _SUFFIXES[s]), "")
    return f"{count / _SUFFIXES[suffix]:.1f}".removesuffix(".0") + suffix


def encode_resources(resources: Resources) -> dict[str, Any]:
    return {"cpus": resources.cpus, "memory": resources.memory}


def decode_resources(document: Mapping[str, Any]) -> Resources:
    """The resources that were stored; raises MALFORMED (fleet/errors.py) if it cannot be read."""
    return Resources(cpus=float(document.get("cpus", 0.0)), memory=int(document.get("memory", 0)))
