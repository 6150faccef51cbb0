"""The `[X-Fleet]` section: what a unit asks of the machine it runs on.

Keys, legacy names, value syntax and specifiers are those of fleet 1.0, which knew neither
conditions in MachineMetadata nor what stands after Global here. Where the original passed
over a malformed value in silence (and so ran the unit anywhere), it is refused here.
"""

import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from fleet.conditions import Condition, read_condition, read_preference
from fleet.durations import parse_duration
from fleet.errors import InvalidUnit, excerpt
from fleet.fencing import why_unfenceable
from fleet.globs import InvalidGlob, compile_glob, glob_matches
from fleet.names import split_name
from fleet.resources import NOTHING, Resources, parse_bytes, parse_cpus
from fleet.unit import UnitFile, UnitOption

_T = TypeVar("_T")

SECTION = "X-Fleet"

# Each option with the names it goes by, in the order in which their values count.
_MACHINE_ID = ("MachineID", "X-ConditionMachineID", "X-ConditionMachineBootID")
_METADATA = ("X-ConditionMachineMetadata", "MachineMetadata")
_MACHINE_OF = ("X-ConditionMachineOf", "MachineOf")
_CONFLICTS = ("X-Conflicts", "Conflicts")
_REPLACES = ("Replaces",)
_GLOBAL = ("Global",)
_FENCED = ("Fenced",)
_SPREAD = ("Spread",)
_PREFER = ("Prefer",)
_MAX_PER_MACHINE = ("MaxPerMachine",)
_MAX_UNAVAILABLE = ("MaxUnavailable",)
_ACTIVE_FOR = ("ActiveFor",)
_HEALTH_COMMAND = ("HealthCommand",)
_HEALTH_TIMEOUT = ("HealthTimeout",)
_CPU = ("CPU",)
_MEMORY = ("Memory",)
_GLOB_OPTIONS = frozenset(_CONFLICTS + _REPLACES)
KNOWN_OPTIONS = frozenset(
    _MACHINE_ID
    + _METADATA
    + _MACHINE_OF
    + _CONFLICTS
    + _REPLACES
    + _GLOBAL
    + _FENCED
    + _SPREAD
    + _PREFER
    + _MAX_PER_MACHINE
    + _MAX_UNAVAILABLE
    + _ACTIVE_FOR
    + _HEALTH_COMMAND
    + _HEALTH_TIMEOUT
    + _CPU
    + _MEMORY
)

# What a unit asks for is compared with every other unit by every engine: more than this is no wish.
MAX_WORDS = 256
MAX_LETTERS = 8192

DEFAULT_HEALTH_TIMEOUT_S = 30.0

_TRUE = frozenset({"true", "yes", "1", "on", "t"})
_FALSE = frozenset({"false", "no", "0", "off", "f", ""})


@dataclass(frozen=True, slots=True)
class Preference:
    """A condition that a unit would like a machine to meet, and how much."""

    condition: Condition
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a unit asks for: each metadata key has the values any of which will do.

    All conditions have to be met. `spread` and `prefer` only order the machines that suit. Counts
    of instances are those of the unit's template; 0 is no limit. `health_command` is a program and
    its arguments, empty for none.
    """

    machine_id: str | None = None
    metadata: Mapping[str, frozenset[str]] = field(default_factory=dict)
    machine_of: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    is_global: bool = False
    is_fenced: bool = False
    conditions: tuple[Condition, ...] = ()
    reserves: Resources = NOTHING
    max_per_machine: int = 0
    max_unavailable: int = 0
    active_for_s: float = 0.0
    health_command: tuple[str, ...] = ()
    health_timeout_s: float = DEFAULT_HEALTH_TIMEOUT_S
    spread: tuple[str, ...] = ()
    prefer: tuple[Preference, ...] = ()

    def only_repelling(self) -> "Requirements":
        """Only what keeps other units away: the part a machine can judge by itself."""
        return Requirements(conflicts=self.conflicts, replaces=self.replaces)


@dataclass(frozen=True, slots=True)
class UnknownOption:
    """An `[X-Fleet]` option that means nothing here, with the nearest known name if one is near."""

    name: str
    nearest: str | None
    line: int


def fleet_options(unit: UnitFile) -> tuple[UnitOption, ...]:
    """The options of the unit's `[X-Fleet]` section, in order."""
    return tuple(option for option in unit.options if option.section == SECTION)


def read_requirements(options: Iterable[UnitOption], name: str | None = None) -> Requirements:
    """What the options ask for, with `%n %N %p %i` expanded if the name of a unit is given.

    A template is never run, so in its options nothing is expanded. Raises InvalidUnit, with the
    line, if a value is malformed.
    """
    pooled: dict[str, list[tuple[str, UnitOption]]] = {}
    for option in _modest(options):
        unit = _literal_name(name) if option.name in _GLOB_OPTIONS and name else name
        for value in _words(option):
            pooled.setdefault(option.name, []).append((expand(value, unit), option))
    if not pooled:
        return NOTHING_ASKED

    def values(names: tuple[str, ...]) -> list[tuple[str, UnitOption]]:
        return [pair for key in names for pair in pooled.get(key, ())]

    machine_ids = values(_MACHINE_ID)

    def flag(names: tuple[str, ...]) -> bool:
        found = values(names)
        return _boolean(*found[-1]) if found else False

    metadata, conditions = _metadata(values(_METADATA))

    def last(names: tuple[str, ...], read: Callable[[str], _T], default: _T) -> _T:
        found = values(names)
        return _read(read, *found[-1]) if found else default

    return Requirements(
        machine_id=_not_empty(*machine_ids[0]) if machine_ids else None,
        metadata=metadata,
        conditions=conditions,
        machine_of=tuple(_not_empty(*pair) for pair in values(_MACHINE_OF)),
        conflicts=tuple(
            _glob(word, option) for value, option in values(_CONFLICTS) for word in value.split()
        ),
        replaces=tuple(_glob(*pair) for pair in values(_REPLACES)),
        is_global=flag(_GLOBAL),
        is_fenced=flag(_FENCED),
        reserves=Resources(cpus=last(_CPU, parse_cpus, 0.0), memory=last(_MEMORY, parse_bytes, 0)),
        max_per_machine=last(_MAX_PER_MACHINE, _count, 0),
        max_unavailable=last(_MAX_UNAVAILABLE, _count, 0),
        active_for_s=last(_ACTIVE_FOR, parse_duration, 0.0),
        health_command=last(_HEALTH_COMMAND, _command, ()),
        health_timeout_s=last(_HEALTH_TIMEOUT, _time_limit, DEFAULT_HEALTH_TIMEOUT_S),
        spread=tuple(dict.fromkeys(_read(_key, *pair) for pair in values(_SPREAD))),
        prefer=tuple(_read(_preference, *pair) for pair in values(_PREFER)),
    )


def _modest(options: Iterable[UnitOption]) -> Iterator[UnitOption]:
    """The options; raises InvalidUnit once there is more than an engine wants to compare."""
    words = letters = 0
    for option in options:
        words += len(_words(option))
        letters += len(option.value)
        if words > MAX_WORDS or letters > MAX_LETTERS:
            raise InvalidUnit(
                f"[{SECTION}] has more than {MAX_WORDS} values or {MAX_LETTERS} characters in them",
                line=option.line or None,
            )
        yield option


def check_unit(unit: UnitFile, *, path: str | None = None) -> Requirements:
    """What the unit asks for, unexpanded; raises InvalidUnit if that cannot be or be met."""
    try:
        requirements = read_requirements(fleet_options(unit))
    except InvalidUnit as error:
        raise InvalidUnit(error.problem, path=path, line=error.line) from error
    problem = find_contradiction(requirements)
    if requirements.is_fenced:
        problem = problem or why_unfenceable(unit)
    if problem:
        raise InvalidUnit(problem, path=path)
    return requirements


def find_contradiction(asked: Requirements) -> str | None:
    """Why the requirements can never be met together, in fleet 1.0's words, or None."""
    for peer in asked.machine_of:
        for word, patterns in (("conflict", asked.conflicts), ("replace", asked.replaces)):
            for pattern in patterns:
                if glob_matches(pattern, peer):
                    return f'unresolvable requirements: peer "{peer}" matches {word} "{pattern}"'
    given = {
        "MachineID": asked.machine_id is not None,
        "Peers": bool(asked.machine_of),
        "Conflicts": bool(asked.conflicts),
        "Global": asked.is_global,
        "Replaces": bool(asked.replaces),
        "Fenced": asked.is_fenced,
        "Spread": bool(asked.spread),
        "Prefer": bool(asked.prefer),
        "MaxPerMachine": bool(asked.max_per_machine),
    }
    for first, second in _EXCLUSIVE:
        if given[first] and given[second]:
            return f"{first} cannot be used with {second}"
    return None


NOTHING_ASKED = Requirements()  # as most units do: one object, however many they are
_EXCLUSIVE = (
    ("MachineID", "Peers"),
    ("MachineID", "Conflicts"),
    ("MachineID", "Global"),
    ("MachineID", "Replaces"),
    ("Global", "Peers"),
    ("Global", "Replaces"),
    ("Global", "Fenced"),
    ("Conflicts", "Replaces"),
    ("Global", "Spread"),
    ("Global", "Prefer"),
    ("Global", "MaxPerMachine"),
)


def unknown_options(unit: UnitFile) -> tuple[UnknownOption, ...]:
    """The `[X-Fleet]` options that no rule reads, in order."""
    return tuple(
        UnknownOption(option.name, _nearest(option.name), option.line)
        for option in fleet_options(unit)
        if option.name not in KNOWN_OPTIONS
    )


def split_values(value: str) -> list[str]:
    """A line's values: one, or several when the line both starts and ends with a quote."""
    if not (value.startswith('"') and value.endswith('"')):
        return [value]
    values: list[str] = []
    current: list[str] = []
    quoted = False
    for char in value:
        if char == '"':
            quoted = not quoted
        elif char == " " and not quoted:
            values.append("".join(current))
            current = []
        else:
            current.append(char)
    return [*values, "".join(current)]


def _words(option: UnitOption) -> list[str]:
    """The values of an option that may go on over several lines; a command is one, quotes and all.

    Empty ones beside others are slips of the blank key, and asking for nothing is not meant.
    """
    text = option.value.replace("\\\n", " ").strip()
    values = [text] if option.name in _HEALTH_COMMAND else split_values(text)
    return [word for word in values if word] or values[:1]


def _nearest(name: str) -> str | None:
    by_lower = {known.lower(): known for known in sorted(KNOWN_OPTIONS)}
    near = difflib.get_close_matches(name.lower().removeprefix("x-"), by_lower, n=1)
    return by_lower[near[0]] if near else None


def expand(value: str, name: str | None) -> str:
    """The value with `%n %N %p %i` as they are for the unit of that name, if it is one."""
    if name is None or "." not in name:
        return value
    parts = split_name(name)
    if parts.is_template:
        return value
    for specifier, replacement in (
        ("%n", name),
        ("%N", name.rpartition(".")[0]),
        ("%p", parts.prefix),
        ("%i", parts.instance or ""),
    ):
        value = value.replace(specifier, replacement)
    return value


def _literal_name(name: str) -> str:
    """The name as a glob that matches just it; systemd's own escapes have backslashes."""
    return name.replace("\\", "\\\\")


def _metadata(
    values: list[tuple[str, UnitOption]],
) -> tuple[dict[str, frozenset[str]], tuple[Condition, ...]]:
    wanted: dict[str, frozenset[str]] = {}
    conditions: list[Condition] = []
    for value, option in values:
        condition = _read(read_condition, value, option)
        if condition is not None:
            conditions.append(condition)
            continue
        key, equals, choice = value.partition("=")
        if not equals or not key or not choice or "=" in choice:
            raise _malformed(value, option, 'write key=value, or several as "a=b" "c>=d"')
        wanted[key] = wanted.get(key, frozenset()) | {choice}
    return wanted, tuple(conditions)


def _read(read: Callable[[str], _T], value: str, option: UnitOption) -> _T:
    """What the value says; what is wrong with it is told with its line."""
    try:
        return read(value)
    except ValueError as error:
        raise _malformed(value, option, str(error)) from error


def _count(value: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", value) or not int(value):
        raise ValueError("write a number from 1 on")
    return int(value)


def _time_limit(value: str) -> float:
    limit_s = parse_duration(value)
    if not limit_s:
        raise ValueError("write how long it may take, for example 30s")
    return limit_s


def _command(value: str) -> tuple[str, ...]:
    words = tuple(shlex.split(value))  # its ValueError says which quote is open
    if words and not words[0].startswith("/"):
        raise ValueError("it begins with the full path of a program, without a prefix")
    return words


def _key(value: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_.-]+", value):
        raise ValueError("write one metadata key; several are lines of their own, or quoted")
    return value


def _preference(value: str) -> Preference:
    text, _, weight = value.rpartition(" ")
    condition = read_preference(text.strip()) if re.fullmatch("[0-9]{1,6}", weight) else None
    if condition is not None:
        return Preference(condition, _count(weight))
    condition = read_preference(value)
    if condition is None:
        raise ValueError("write key=value, cpus>=8 or the like, and a weight after a blank")
    return Preference(condition)


def _not_empty(value: str, option: UnitOption) -> str:
    if not value.strip():
        raise _malformed(value, option, "give it a value or remove the line")
    return value


def _glob(value: str, option: UnitOption) -> str:
    _not_empty(value, option)
    try:
        compile_glob(value)
    except InvalidGlob as error:
        raise _malformed(value, option, str(error)) from error
    return value


def _boolean(value: str, option: UnitOption) -> bool:
    word = value.lower()
    if word not in _TRUE | _FALSE:
        raise _malformed(value, option, "write true or false")
    return word in _TRUE


def _malformed(value: str, option: UnitOption, advice: str) -> InvalidUnit:
    return InvalidUnit(
        f"[{SECTION}] {option.name}={excerpt(value)} is malformed: {advice}",
        line=option.line or None,
    )
