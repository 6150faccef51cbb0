"""Machines and units to imagine a cluster of: as many as one likes, always the same ones."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from fleet.cluster import UnitRecord
from fleet.machine import Machine, MachineId
from fleet.names import UnitName, split_name
from fleet.options import SECTION, fleet_options, read_requirements
from fleet.states import TargetState
from fleet.unit import UnitFile, UnitOption

# How many instances one template has, and how many units keep away from each other.
_INSTANCES = 500
_APART = 10
# Steps that no number of machines divides: every part gets its share, in no pattern with others.
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """A metadata key with its values, and the part of the machines that has each (0 to 1)."""

    key: str
    parts: tuple[tuple[str, float], ...]

    def value(self, place: float) -> str | None:
        """The value of the machine at this place between 0 and 1."""
        for value, part in self.parts:
            if place < part:
                return value
            place -= part
        return None


class Kind(StrEnum):
    """What an imagined unit asks for."""

    PLAIN = "plain"
    TEMPLATE = "template"
    METADATA = "metadata"
    CONFLICTS = "conflicts"
    PAIR = "pair"
    GLOBAL = "global"


DEFAULT_MIX: Mapping[Kind, int] = {
    Kind.PLAIN: 12,
    Kind.TEMPLATE: 4,
    Kind.METADATA: 2,
    Kind.CONFLICTS: 1,
    Kind.PAIR: 1,
}


def imagined_machines(count: int, traits: Sequence[Trait] = ()) -> tuple[Machine, ...]:
    """That many machines with metadata spread evenly over them."""
    return tuple(_machine(number, traits) for number in range(1, count + 1))


def _machine(number: int, traits: Sequence[Trait]) -> Machine:
    metadata: dict[str, str] = {}
    for trait, prime in zip(traits, itertools.cycle(_PRIMES), strict=False):
        value = trait.value(math.modf(number * math.sqrt(prime))[0])
        if value is not None:
            metadata[trait.key] = value
    return Machine(id=MachineId(f"{number:08x}{'0' * 24}"), metadata=metadata)


def imagined_units(
    count: int, mix: Mapping[Kind, int] = DEFAULT_MIX, traits: Sequence[Trait] = ()
) -> tuple[UnitRecord, ...]:
    """That many units, of each kind as many as its share in the mix.

    Units that ask for metadata ask for what some machines have; without any they are plain.
    """
    kinds = [kind for kind, share in mix.items() for _ in range(share)]
    pairs = [f"{trait.key}={value}" for trait in traits for value, _ in trait.parts]
    return tuple(
        unit_record(name, number, [UnitOption(SECTION, *option) for option in options])
        for number, (name, options) in enumerate(
            itertools.islice(_units(itertools.cycle(kinds), pairs), count), start=1
        )
    )


_Asked = tuple[str, list[tuple[str, str]]]


def _units(kinds: Iterator[Kind], pairs: Sequence[str]) -> Iterator[_Asked]:
    for number, kind in enumerate(kinds):
        if kind is Kind.TEMPLATE:
            yield f"web-{number // _INSTANCES}@{number}.service", []
        elif kind is Kind.METADATA and pairs:
            wanted = pairs[number % len(pairs)]
            yield f"picky-{number}.service", [("MachineMetadata", wanted)]
        elif kind is Kind.CONFLICTS:
            prefix = f"apart-{number // (_APART * _INSTANCES)}-{number % _INSTANCES}"
            yield f"{prefix}@{number}.service", [("Conflicts", f"{prefix}@*")]
        elif kind is Kind.PAIR:
            yield f"main-{number}.service", []
            yield f"side-{number}.service", [("MachineOf", f"main-{number}.service")]
        elif kind is Kind.GLOBAL:
            yield f"everywhere-{number}.service", [("Global", "true")]
        else:
            yield f"plain-{number}.service", []


def copies(name: UnitName, file: UnitFile, count: int) -> tuple[UnitRecord, ...]:
    """So many units of one file: instances 1, 2, ... of a template, web-1, web-2, ... of web.

    One copy of what is no template keeps its name.
    Raises InvalidUnit if the file asks for what cannot be.
    """
    parts = split_name(name)
    stem = name.rpartition(".")[0]
    return tuple(
        unit_record(
            name if count == 1 and not parts.is_template else _copy(stem, parts.suffix, number),
            number,
            fleet_options(file),
        )
        for number in range(1, count + 1)
    )


def _copy(stem: str, suffix: str, number: int) -> str:
    return f"{stem}{number}.{suffix}" if stem.endswith("@") else f"{stem}-{number}.{suffix}"


def unit_record(name: str, revision: int, options: Sequence[UnitOption]) -> UnitRecord:
    """The record of a unit that is to run and has these [X-Fleet] options."""
    return UnitRecord(
        name=UnitName(name),
        hash="",
        file="",
        target=TargetState.LAUNCHED,
        revision=revision,
        requirements=read_requirements(options, name),
    )
