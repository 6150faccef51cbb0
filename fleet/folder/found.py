"""What was found in a folder, before anything is made of it; and all that is wrong with it."""

from collections.abc import Iterable
from dataclasses import dataclass

from fleet.errors import FleetError

SETTINGS = "fleet.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file that counts: `name` alone, where it lies (`folder`) and how people are told of it.

    `link` is the name of the file that a symbolic link stands for, "" for a file of its own.
    `folder` is relative to the path that was given, with slashes, "" for that itself; `root` says
    which of the given paths that was.
    """

    name: str
    path: str
    folder: str = ""
    root: int = 0
    data: bytes = b""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The unit files, the drop-ins (in folders `NAME.d`), and the settings of folders.

    `stray` are settings of a folder of which only some files were asked for: what they say of
    others is passed over.
    """

    units: tuple[FoundFile, ...] = ()
    dropins: tuple[FoundFile, ...] = ()
    settings: tuple[FoundFile, ...] = ()
    warnings: tuple[str, ...] = ()
    stray: bool = False


class BadFolder(FleetError, ValueError):
    """A folder that cannot be applied: a line for each thing to mend."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
