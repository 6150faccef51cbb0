"""Unit files: a lossless reading, the canonical text, and the hash that names a version.

The grammar is the one fleet 1.0 read (go-systemd's lexer), which is systemd's without its
warnings: text before the first section is passed over, a `#` or `;` line is a comment, a value
goes on while its line ends in a backslash and keeps that backslash and newline. What the user
wrote stays in `text`; the canonical text (comments gone, sections merged, blanks trimmed) is only
what the hash is taken of, so that original clients agree on it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from fleet.errors import InvalidUnit

# etcd takes requests up to 1.5 MiB (`--max-request-bytes`) and the gateway carries them as base64.
MAX_UNIT_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class UnitOption:
    """One `Name=value` of a section; a continued value keeps its backslashes and newlines.

    `line` is where it stands in the author's text, 0 if unknown; it takes no part in equality.
    """

    section: str
    name: str
    value: str
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class UnitFile:
    """A unit file as its author wrote it, and the options read from it in order."""

    text: str
    options: tuple[UnitOption, ...]

    def values(self, section: str, name: str) -> tuple[str, ...]:
        """Every value of an option, in order."""
        return tuple(o.value for o in self.options if o.section == section and o.name == name)

    def has_section(self, section: str) -> bool:
        return any(option.section == section for option in self.options)

    @property
    def description(self) -> str | None:
        """The first `[Unit] Description`, or None."""
        return next(iter(self.values("Unit", "Description")), None)

    @property
    def canonical(self) -> str:
        return render_options(self.options)

    @property
    def hash(self) -> str:
        """SHA-1 of the canonical text, in hexadecimal: fleet 1.0's name for a version of a unit."""
        return hashlib.sha1(self.canonical.encode(), usedforsecurity=False).hexdigest()


def parse_unit(text: str, *, path: str | None = None) -> UnitFile:
    """The unit file that the text is; raises InvalidUnit naming path and line."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_UNIT_BYTES:
        raise InvalidUnit(
            f"the unit file has {size} bytes; the limit is {MAX_UNIT_BYTES} bytes", path=path
        )
    return UnitFile(text, tuple(_read(text.split("\n"), path)))


def read_unit(data: bytes, *, path: str | None = None) -> UnitFile:
    """Like parse_unit, from bytes, which have to be UTF-8."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidUnit("this is not UTF-8 text", path=path, line=line) from error
    return parse_unit(text, path=path)


def unit_from_options(options: Iterable[UnitOption]) -> UnitFile:
    """The unit file of a list of options, as an API client sends it; its text is canonical."""
    kept = tuple(options)
    return UnitFile(render_options(kept), kept)


def render_options(options: Iterable[UnitOption]) -> str:
    """The canonical text: sections in the order first seen, one blank line between them."""
    sections: dict[str, list[str]] = {}
    for option in options:
        sections.setdefault(option.section, []).append(f"{option.name}={option.value}\n")
    return "\n".join(f"[{name}]\n{''.join(lines)}" for name, lines in sections.items())


def _read(lines: list[str], path: str | None) -> Iterable[UnitOption]:
    section: str | None = None
    numbered = iter(enumerate(lines, start=1))
    for number, line in numbered:
        stripped = line.strip()
        if not stripped:
            continue
        if stripped[0] in "#;":
            while line.endswith("\\"):
                _, line = next(numbered, (0, ""))
        elif stripped[0] == "[":
            section = _section_name(stripped, path, number)
        elif section is not None:
            name, equals, value = line.partition("=")
            if not equals:
                raise InvalidUnit(
                    f"{stripped!r} is neither a section, a comment nor Name=value",
                    path=path,
                    line=number,
                )
            while line.endswith("\\"):
                following = next(numbered, None)
                if following is None:
                    break
                line = following[1]
                value += "\n" + line
            yield UnitOption(section, name.strip(), value.strip(), number)


def _section_name(line: str, path: str | None, number: int) -> str:
    name, bracket, rest = line[1:].partition("]")
    if not bracket:
        raise InvalidUnit(f"section {line!r} has no closing bracket", path=path, line=number)
    if rest.strip():
        raise InvalidUnit(
            f"unexpected text {rest.strip()!r} after section [{name}]", path=path, line=number
        )
    return name
