"""Drop-ins: which of them belong to a unit, in which order, and the unit's text with them.

systemd.unit(5): a unit's drop-ins are the `*.conf` of its folders `NAME.d`, read after the unit's
own file in the order of their file names, whichever folder they lie in; of two with one file name
the one in the more specific folder counts. Reading them after the file is the same as appending
them, so that is done here, once: machines and original clients see one plain unit file. Hence also
an `[Install]` section in a drop-in counts as if it stood in the unit's file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet.errors import InvalidUnit
from fleet.folder.found import FoundFile
from fleet.names import split_name
from fleet.unit import UnitFile, parse_unit, read_unit


def dropin_folders(name: str) -> tuple[str, ...]:
    """The folders whose drop-ins belong to the unit, the least specific first.

    For a type (`service.d`), for each prefix that ends in a dash (`web-.service.d`; not for
    instances), for an instance's template, and for the unit itself.
    """
    parts = split_name(name)
    folders = [f"{parts.suffix}.d"]
    if parts.instance is None:
        pieces = parts.prefix.split("-")
        prefixes = ["-".join(pieces[:count]) for count in range(1, len(pieces))]
        folders += [f"{prefix}-.{parts.suffix}.d" for prefix in prefixes]
    if parts.template:
        folders.append(f"{parts.template}.d")
    return (*folders, f"{name}.d")


@dataclass(frozen=True, slots=True)
class Part:
    """A file that is part of a merged text, from that line on."""

    first_line: int
    path: str


@dataclass(frozen=True, slots=True)
class Merged:
    """A unit's text with its drop-ins, and what is read from it."""

    unit: UnitFile
    parts: tuple[Part, ...]

    def place(self, line: int | None) -> tuple[str, int | None]:
        """The file, and its own line, that a line of the whole stands in."""
        part = self.parts[0]
        for other in self.parts[1:]:
            if line is not None and line >= other.first_line:
                part = other
        return part.path, None if line is None else line - part.first_line + 1


def merge_dropins(
    name: str, file: FoundFile, dropins: Mapping[str, Mapping[str, FoundFile]]
) -> Merged:
    """The unit's text with what belongs to it of the drop-ins, which are by folder and file name.

    Raises InvalidUnit, naming the file and line, for what would read otherwise once it is merged.
    """
    unit = read_unit(file.data, path=file.path)
    chosen: dict[str, FoundFile] = {}
    for folder in dropin_folders(name):
        chosen |= dropins.get(folder, {})
    text, parts = unit.text, [Part(1, file.path)]
    for _, dropin in sorted(chosen.items()):
        own = _dropin_text(dropin)
        if not own.strip():
            continue  # systemd's way to switch off a less specific one
        text = (
            f"{_ended(text, parts[-1].path)}\n# {dropin.folder.rpartition('/')[2]}/{dropin.name}\n"
        )
        parts.append(Part(text.count("\n") + 1, dropin.path))
        text += own
    merged = unit if len(parts) == 1 else parse_unit(text, path=file.path)
    return Merged(merged, tuple(parts))


def _dropin_text(dropin: FoundFile) -> str:
    """The drop-in's text; raises InvalidUnit if it would read otherwise after another file."""
    text = read_unit(dropin.data, path=dropin.path).text
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("["):
            break
        if stripped and stripped[0] not in "#;":
            raise InvalidUnit(
                f"{stripped!r} stands before any section", path=dropin.path, line=number
            )
    return text


def _ended(text: str, path: str) -> str:
    """The text with its last line ended, so that what is appended is a line of its own."""
    if text.rstrip("\n").endswith("\\"):
        line = len(text.rstrip("\n").splitlines())
        raise InvalidUnit("the last line goes on (\\), and a drop-in follows", path=path, line=line)
    return text if not text or text.endswith("\n") else f"{text}\n"


def group_dropins(
    files: Sequence[FoundFile],
) -> tuple[dict[str, dict[str, FoundFile]], list[str]]:
    """The drop-ins by the name of their folder and their own, and what is there twice."""
    grouped: dict[str, dict[str, FoundFile]] = {}
    problems: list[str] = []
    for file in files:
        own = grouped.setdefault(file.folder.rpartition("/")[2], {})
        if file.name in own:
            problems.append(f"{file.path}: the same drop-in is in {own[file.name].path}")
        own.setdefault(file.name, file)
    return grouped, problems
