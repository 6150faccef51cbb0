"""Which units of the cluster the arguments of a command mean, by name or by pattern."""

from collections.abc import Iterable, Sequence

from fleet.api.schema import Unit
from fleet.errors import InvalidUnit
from fleet.globs import compile_glob, glob_matches
from fleet.names import UnitName, complete_name, parse_name, split_name
from fleet.unit import UnitFile, UnitOption

_GLOB_SIGNS = "*?["


def is_pattern(argument: str) -> bool:
    """Whether the argument is a glob; none of its signs can stand in a unit's name."""
    return any(sign in argument for sign in _GLOB_SIGNS)


def matches(argument: str, name: str) -> bool:
    """Whether the argument means that unit; a pattern may leave `.service` out, as a name may."""
    if not is_pattern(argument):
        return complete_name(argument) == name
    return glob_matches(argument, name) or glob_matches(complete_name(argument), name)


def check_arguments(arguments: Iterable[str]) -> None:
    """Raise InvalidRequest for the first argument that can mean no unit."""
    for argument in arguments:
        if is_pattern(argument):
            compile_glob(argument)
        else:
            parse_name(complete_name(argument))


def named_units(arguments: Iterable[str]) -> list[UnitName]:
    """The units that arguments without patterns name, each once, whether they exist or not."""
    return list(dict.fromkeys(UnitName(complete_name(argument)) for argument in arguments))


def select(
    arguments: Sequence[str], names: Sequence[UnitName], *, templates: bool = False
) -> list[UnitName]:
    """The names meant, in the order of the arguments, each once; those not there are left out.

    A pattern means templates only if they are wanted: they are on no machine and cannot run.
    """
    present = set(names)
    chosen: dict[UnitName, None] = {}
    for argument in arguments:
        if is_pattern(argument):
            matching = (name for name in names if matches(argument, name))
            chosen |= dict.fromkeys(
                name for name in matching if templates or not split_name(name).is_template
            )
        elif (name := UnitName(complete_name(argument))) in present:
            chosen[name] = None
    return list(chosen)


def is_global(unit: Unit) -> bool:
    """Whether the unit runs on every machine that fits; a malformed `[X-Fleet]` says no."""
    return _asks_for_all(unit.options, unit.name)


def is_global_file(file: UnitFile, name: UnitName) -> bool:
    """The same of a unit that is not stored yet."""
    return _asks_for_all(file.options, name)


def _asks_for_all(options: Iterable[UnitOption], name: UnitName) -> bool:
    from fleet.options import SECTION, read_requirements  # a list of machines does without

    try:
        asked = read_requirements((o for o in options if o.section == SECTION), name)
    except InvalidUnit:
        return False
    return asked.is_global
