"""Glob patterns over unit names, with the syntax of Go's path.Match.

`*` and `?` do not cross `/`, `[a-z]` and `[^a-z]` are classes, and a backslash takes the next
character literally. fnmatch differs on every one of these, so patterns are translated here. Each
star but the last is atomic (`(?>...)`): it takes the nearest place where what follows it fits and
never comes back to it, so that no pattern, however many stars it has, can stall an engine.
Source of the syntax: https://pkg.go.dev/path#Match
"""

import functools
import re

from fleet.errors import InvalidRequest

_SIGNS = frozenset("*?[\\")
# A name has 255 bytes at most, and each may be escaped; compiling takes longer than matching.
MAX_PATTERN = 1024


class InvalidGlob(InvalidRequest):
    """A pattern that can match nothing because it is malformed."""


def glob_matches(pattern: str, name: str) -> bool:
    """Whether the whole name matches; a malformed pattern matches nothing."""
    if _SIGNS.isdisjoint(pattern):
        return pattern == name  # most are plain names, and thousands of those are not compiled
    try:
        return compile_glob(pattern).fullmatch(name) is not None
    except InvalidGlob:
        return False


@functools.lru_cache(maxsize=4096)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression; raises InvalidGlob."""
    if len(pattern) > MAX_PATTERN:
        raise InvalidGlob(f"a pattern has at most {MAX_PATTERN} characters")
    chunks: list[str] = [""]
    position = 0
    while position < len(pattern):
        if pattern[position] == "*":
            chunks.append("")
            position += 1
        else:
            part, position = _one_character(pattern, position)
            chunks[-1] += part
    first, *rest = chunks
    nearest = "".join(f"(?>[^/]*?{chunk})" for chunk in rest[:-1])
    last = f"[^/]*{rest[-1]}" if rest else ""
    return re.compile(first + nearest + last, re.DOTALL)


def _one_character(pattern: str, position: int) -> tuple[str, int]:
    if pattern[position] == "[":
        return _char_class(pattern, position + 1)
    if pattern[position] == "?":
        return "[^/]", position + 1
    literal, position = _literal(pattern, position)
    return re.escape(literal), position


def _literal(pattern: str, position: int) -> tuple[str, int]:
    if pattern[position] == "\\":
        position += 1
        if position == len(pattern):
            raise InvalidGlob(f"pattern {pattern!r} ends in a lone backslash")
    return pattern[position], position + 1


def _char_class(pattern: str, position: int) -> tuple[str, int]:
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    while True:
        if position >= len(pattern):
            raise InvalidGlob(f"pattern {pattern!r} has a [ without its ]")
        if pattern[position] == "]" and ranges:
            break
        if pattern[position] in "]-":
            raise InvalidGlob(f"pattern {pattern!r} has a malformed character class")
        low, position = _literal(pattern, position)
        high = low
        if pattern.startswith("-", position):
            if position + 1 >= len(pattern) or pattern[position + 1] in "]-":
                raise InvalidGlob(f"pattern {pattern!r} has a malformed character class")
            high, position = _literal(pattern, position + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")  # an empty range matches nothing, as in Go
    inside = "".join(ranges)
    if not inside:
        return ("(?s:.)" if negated else "(?!)"), position + 1
    return f"[{'^' if negated else ''}{inside}]", position + 1
