"""Rewrites a fleetctl command line, in any of the styles its users have, into one click reads.

fleet up to 0.13 took `-tunnel host` with one dash and global flags only before the verb; 1.0 took
`--tunnel host` anywhere, `--flag=false`, and `--l` for `-l`; both are in people's scripts. The
outcome is always `GLOBAL FLAGS, VERB, THE VERB'S FLAGS AND ARGUMENTS`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """How a flag is spelled in full; `off` is the spelling that denies a switch, if it has one."""

    spelling: str
    takes_value: bool = False
    off: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """The flags of a command by every name they have, and how to find its subcommands.

    `interspersed` is whether flags may follow arguments; where they may not, everything from the
    first argument on belongs to somebody else (a remote command).
    """

    flags: Mapping[str, Flag] = field(default_factory=dict)
    interspersed: bool = True
    find: "Callable[[str], tuple[str, Grammar] | None] | None" = None


def normalise(argv: Sequence[str], root: Grammar) -> list[str]:
    """The command line in canonical order and spelling; what it cannot read stays as it is."""
    own: list[str] = []
    rest: list[str] = []
    grammar = root
    local: dict[str, Flag] = {}
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if word == "--":
            return [*own, *rest, *argv[position - 1 :]]
        if len(word) > 1 and word.startswith("-"):
            flag, is_global = _find_flag(word.partition("=")[0], local, root.flags)
            target = own if is_global or (flag is None and grammar is root) else rest
            following = argv[position] if position < len(argv) else None
            words, consumed = _spell(word, flag, following)
            if is_global and flag and flag.takes_value and not consumed and len(words) == 1:
                return [*own, *words]  # its value is missing: let that be the complaint
            target += words
            position += consumed
            continue
        found = grammar.find(word) if grammar.find else None
        if found is not None:
            name, grammar = found
            rest.append(name)
            local = {**local, **grammar.flags}
            continue
        rest.append(word)
        if grammar.find or not grammar.interspersed:
            return [*own, *rest, *argv[position:]]
    return [*own, *rest]


def reads_flags(argv: Sequence[str], root: Grammar) -> bool:
    """Whether a flag after these words would be fleetctl's, and no argument or value."""
    probe = "--h"
    return probe not in argv and probe not in normalise([*argv, probe], root)


def _find_flag(
    name: str, local: Mapping[str, Flag], of_all: Mapping[str, Flag]
) -> tuple[Flag | None, bool]:
    """The flag meant, and whether it is a global one."""
    for candidate in _spellings(name):
        if candidate in local:
            return local[candidate], False
        if candidate in of_all:
            return of_all[candidate], True
    return None, False


def _spellings(name: str) -> Iterable[str]:
    """The name as typed, then `-tunnel` as `--tunnel` and `--l` as `-l`."""
    yield name
    if name.startswith("--"):
        if len(name) == 3:
            yield name[1:]
    elif len(name) > 2:
        yield f"-{name}"


def _spell(word: str, flag: Flag | None, following: str | None) -> tuple[list[str], int]:
    """The canonical words for a flag, and how many of the following words they took in."""
    if flag is None:
        return [word], 0
    _, equals, value = word.partition("=")
    if flag.takes_value:
        if equals:
            return [flag.spelling, value], 0
        return ([flag.spelling], 0) if following is None else ([flag.spelling, following], 1)
    if not equals or value.lower() in _TRUE:
        return [flag.spelling], 0
    if value.lower() in _FALSE:
        return ([flag.off] if flag.off else []), 0
    return [word], 0
