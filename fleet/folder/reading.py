"""Looks for unit files on this disk: which files count, and what is only warned of.

In a folder, whatever is below it counts if its name ends in a unit's type (`web.service`), lies in
a folder `NAME.d` and ends in `.conf`, or is `fleet.toml`. What begins with a dot is passed over,
and so is any other file, with a warning if it looks like a unit file all the same. Links are
followed to files inside the folder that was given, and nowhere else.
"""

import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fleet.errors import InvalidRequest
from fleet.folder.found import SETTINGS, BadFolder, Found, FoundFile
from fleet.names import UNIT_TYPES, split_name
from fleet.unit import MAX_UNIT_BYTES

_SUFFIXES = tuple(f".{kind}" for kind in sorted(UNIT_TYPES))
_PEEK_BYTES = 4096
_UNIT_SECTION = re.compile(
    r"\[(Unit|Service|Socket|Timer|Path|Mount|Automount|Swap|Slice|Install|X-Fleet)\]\s*"
)
# How `tail -v` heads the files that it prints.
_HEADING = re.compile(r"==> (.+) <==")


def read_paths(paths: Sequence[str], *, text: str = "", name: str = "") -> Found:
    """All that counts in these folders and files; `-` stands for `text`, from standard input.

    `name` is the unit that the text is if it has no headings. Raises BadFolder with a line for
    every path and file that cannot be read.
    """
    search = _Search()
    for root, path in enumerate(dict.fromkeys(paths)):
        if path == "-":
            search.text(text, name, root)
        elif Path(path).is_dir():
            search.folder(Path(path), root)
        else:
            search.file(Path(path), root)
    return search.result()


def is_unit_name(name: str) -> bool:
    return name.endswith(_SUFFIXES)


def split_text(text: str, name: str) -> Iterator[tuple[str, str]]:
    """The files in a text, by name, as `tail -vn +1 FILES` prints them; raises InvalidRequest."""
    own: list[str] = []
    current = name
    for line in text.splitlines(keepends=True):
        heading = _HEADING.fullmatch(line.strip())
        if heading is None:
            own.append(line)
            continue
        if own and not own[-1].strip():
            own.pop()  # the blank line that tail sets before a heading
        if "".join(own).strip():
            yield _checked(current), "".join(own)
        own, current = [], heading[1].strip()
    if "".join(own).strip():
        yield _checked(current), "".join(own)


def _checked(name: str) -> str:
    if not name:
        raise InvalidRequest(
            "standard input has no headings like '==> web.service <=='; "
            "name its unit with --name, or print files with tail -vn +1 FILES"
        )
    return name


class _Search:
    """What has been found so far."""

    def __init__(self) -> None:
        self._units: list[FoundFile] = []
        self._dropins: list[FoundFile] = []
        self._settings: dict[tuple[int, str], FoundFile] = {}
        self._warnings: list[str] = []
        self._problems: list[str] = []
        self._stray = False

    def result(self) -> Found:
        if self._problems:
            raise BadFolder(self._problems)
        return Found(
            units=tuple(self._units),
            dropins=tuple(self._dropins),
            settings=tuple(self._settings.values()),
            warnings=tuple(self._warnings),
            stray=self._stray,
        )

    def text(self, text: str, name: str, root: int) -> None:
        try:
            for heading, own in split_text(text, name):
                *folders, file = heading.split("/")
                told = f"standard input ({heading})"
                inside = folders[-1] if folders and folders[-1].endswith(".d") else ""
                found = FoundFile(name=file, path=told, folder=inside, root=root, data=own.encode())
                (self._dropins if inside else self._units).append(found)
        except InvalidRequest as error:
            self._problems.append(str(error))

    def file(self, path: Path, root: int) -> None:
        """One unit file, with its drop-ins and settings beside it."""
        if not path.exists():
            self._problems.append(f"{path}: there is no such file or folder")
            return
        if not is_unit_name(path.name):
            self._problems.append(
                f"{path}: the name of a unit file ends in its type, like web.service"
            )
            return
        self._stray = True
        self._add(self._units, path, path.parent, root)
        for folder in _dropin_folders_beside(path):
            self._dropin_folder(folder, path.parent, root)
        settings = path.with_name(SETTINGS)
        if settings.is_file():
            self._add_settings(settings, path.parent, root)

    def folder(self, top: Path, root: int) -> None:
        for path in self._below(top):
            if path.is_symlink() and path.is_dir():
                self._warnings.append(f"{path}: links to folders are not followed")
            elif path.is_dir():
                self._dropin_folder(path, top, root)
            elif path.name == SETTINGS:
                self._add_settings(path, top, root)
            elif is_unit_name(path.name):
                self._add(self._units, path, top, root)
            elif self._looks_like_unit(path):
                self._warnings.append(
                    f"{path}: this looks like a unit file, and is passed over: "
                    "its name does not end in a unit's type"
                )

    def _below(self, folder: Path) -> Iterator[Path]:
        """Everything below the folder that counts, and the folders of drop-ins as a whole."""
        for path in self._entries(folder):
            if not path.is_dir() or path.is_symlink() or _is_dropin_folder(path.name):
                yield path
            else:
                yield from self._below(path)

    def _entries(self, folder: Path) -> list[Path]:
        try:
            return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            self._problems.append(f"{folder}: {error.strerror}")
            return []

    def _dropin_folder(self, folder: Path, top: Path, root: int) -> None:
        for path in self._entries(folder):
            if path.name.endswith(".conf") and not path.is_dir():
                self._add(self._dropins, path, top, root)
            else:
                self._warnings.append(f"{path}: passed over: a drop-in is a file *.conf")

    def _add_settings(self, path: Path, top: Path, root: int) -> None:
        found: list[FoundFile] = []
        self._add(found, path, top, root)
        self._settings |= {(root, file.folder): file for file in found}

    def _add(self, to: list[FoundFile], path: Path, top: Path, root: int) -> None:
        try:
            link = _target_of(path, top) if path.is_symlink() else ""
            data = _read(path)
        except InvalidRequest as error:
            self._problems.append(f"{path}: {error}")
        except OSError as error:
            self._problems.append(f"{path}: {error.strerror or error}")
        else:
            folder = path.parent.relative_to(top).as_posix()
            to.append(
                FoundFile(
                    name=path.name,
                    path=str(path),
                    folder="" if folder == "." else folder,
                    root=root,
                    data=data,
                    link=link,
                )
            )

    def _looks_like_unit(self, path: Path) -> bool:
        """Whether the first thing in the file is a section of a unit."""
        if not path.is_file():
            return False  # a pipe would be waited for
        try:
            with path.open("rb") as file:
                start = file.read(_PEEK_BYTES).decode(errors="replace")
        except OSError:
            return False
        lines = (line.strip() for line in start.splitlines())
        first = next((line for line in lines if line and line[0] not in "#;"), "")
        return _UNIT_SECTION.fullmatch(first) is not None


def _is_dropin_folder(name: str) -> bool:
    stem = name.removesuffix(".d")
    return stem != name and (is_unit_name(stem) or stem in UNIT_TYPES)


def _dropin_folders_beside(path: Path) -> Iterable[Path]:
    names = [f"{path.name}.d"]
    template = split_name(path.name).template
    if template:
        names.insert(0, f"{template}.d")
    return (folder for folder in map(path.with_name, names) if folder.is_dir())


def _target_of(path: Path, top: Path) -> str:
    """The name of the file that the link stands for; raises InvalidRequest if it is elsewhere."""
    try:
        target = path.resolve(strict=True)
    except RuntimeError as error:
        raise InvalidRequest("it is a link that leads back to itself") from error
    if not target.is_relative_to(top.resolve()):
        raise InvalidRequest(f"it is a link to {target}, which lies outside of {top}")
    return target.name


def _read(path: Path) -> bytes:
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise InvalidRequest("this is no file")
    if info.st_size > MAX_UNIT_BYTES:
        raise InvalidRequest(f"it has {info.st_size} bytes; the limit is {MAX_UNIT_BYTES} bytes")
    return path.read_bytes()
