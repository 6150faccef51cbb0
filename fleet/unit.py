"""Unit files: a lossless reading, the canonical text, and the hash that names a version.

The grammar is the one fleet 1.0 read (go-systemd's lexer), which is systemd's without its
warnings: text before the first section is passed over, a `#` or `;` line is a comment and goes on
while it ends in a backslash, and so does a value, which keeps those backslashes and newlines. What
the user wrote stays in `text`; the canonical text (comments gone, sections merged, blanks trimmed)
is only what the hash is taken of, so that original clients agree on it.
docs/decisions/0001-own-unit-file-parser.md says where this differs from systemd.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from fleet.errors import InvalidUnit, excerpt

# etcd takes requests up to 1.5 MiB (`--max-request-bytes`), and a unit shares one with others.
MAX_UNIT_BYTES = 512 * 1024
# What Go's unicode.IsSpace holds for blank; str.strip() takes four control characters more.
_BLANKS = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


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
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise InvalidUnit("this is not UTF-8 text", path=path, line=line) from error
    if size > MAX_UNIT_BYTES:
        raise too_large(size, path=path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InvalidUnit("there is a NUL character, which no unit has", path=path, line=line)
    return UnitFile(text, tuple(_read(text.split("\n"), path)))


def too_large(size: int, *, path: str | None = None) -> InvalidUnit:
    """The error of a unit file of so many bytes."""
    problem = f"the unit file has {size} bytes; the limit is {MAX_UNIT_BYTES} bytes"
    return InvalidUnit(problem, path=path)


def read_unit(data: bytes, *, path: str | None = None) -> UnitFile:
    """Like parse_unit, from bytes, which have to be UTF-8."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidUnit("this is not UTF-8 text", path=path, line=line) from error
    return parse_unit(text, path=path)


def unit_from_options(options: Iterable[UnitOption]) -> UnitFile:
    """The unit file of a list of options, as an API client sends it; its text is canonical.

    Raises InvalidUnit if the options would read otherwise once they are written as a file.
    """
    given = tuple(options)
    text = render_options(given)
    try:
        written = parse_unit(text).options
    except InvalidUnit as error:
        raise InvalidUnit(f"the options make no unit file: {error.problem}") from error
    sections = list(dict.fromkeys(option.section for option in given))
    ordered = sorted(given, key=lambda option: sections.index(option.section))
    for option, read in itertools.zip_longest(ordered, written):
        if option is None or read is None or _content(option) != _content(read):
            culprit = option or ordered[-1]
            raise InvalidUnit(
                f"option {excerpt(culprit.name)!r} of section {excerpt(culprit.section)!r} reads "
                "otherwise once it is written in a unit file; mend its line breaks and backslashes"
            )
    return UnitFile(text, tuple(replace(option, line=0) for option in written))


def render_options(options: Iterable[UnitOption]) -> str:
    """The canonical text: sections in the order first seen, one blank line between them."""
    sections: dict[str, list[str]] = {}
    for option in options:
        sections.setdefault(option.section, []).append(f"{option.name}={option.value}\n")
    return "\n".join(f"[{name}]\n{''.join(lines)}" for name, lines in sections.items())


def _content(option: UnitOption) -> tuple[str, str, str]:
    return option.section, option.name.strip(_BLANKS), option.value.strip(_BLANKS)


def _read(lines: list[str], path: str | None) -> Iterator[UnitOption]:
    section: str | None = None
    numbered = iter(enumerate(lines, start=1))
    for number, line in numbered:
        if section is None:
            line = _from_first_sign(line)
        stripped = line.strip(_BLANKS)
        if not stripped:
            continue
        if stripped[0] in "#;":
            _pass_comment(line, numbered)
        elif stripped[0] == "[":
            section = _section_name(stripped, path, number)
        elif section is not None:
            name, equals, value = line.partition("=")
            if not equals:
                raise InvalidUnit(
                    f"{excerpt(stripped)!r} is neither a section, a comment nor Name=value",
                    path=path,
                    line=number,
                )
            yield UnitOption(section, name.strip(_BLANKS), _whole_value(value, numbered), number)


def _from_first_sign(line: str) -> str:
    """The line from where a section or a comment begins; before the first section all else, also
    a byte order mark, is passed over."""
    places = [place for sign in "[#;" if (place := line.find(sign)) >= 0]
    return line[min(places) :] if places else ""


def _pass_comment(line: str, numbered: Iterator[tuple[int, str]]) -> None:
    while line.removesuffix(" ").endswith("\\"):
        _, line = next(numbered, (0, ""))


def _whole_value(value: str, numbered: Iterator[tuple[int, str]]) -> str:
    """The value with the lines it goes on in; a blank line ends it and leaves it a newline."""
    parts = [value]
    while parts[-1].endswith("\\"):
        following = next(numbered, None)
        if following is None:
            break
        if not following[1].strip(_BLANKS):
            return "\n".join(parts).strip(_BLANKS) + "\n"
        parts.append(following[1])
    return "\n".join(parts).strip(_BLANKS)


def _section_name(line: str, path: str | None, number: int) -> str:
    name, bracket, rest = line[1:].partition("]")
    if not bracket:
        raise InvalidUnit(
            f"section {excerpt(line)!r} has no closing bracket", path=path, line=number
        )
    if rest.strip(_BLANKS):
        raise InvalidUnit(
            f"unexpected text {excerpt(rest.strip(_BLANKS))!r} after section [{excerpt(name)}]",
            path=path,
            line=number,
        )
    return name
