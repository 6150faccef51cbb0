"""The links by which systemd knows unit files until the next boot (systemd.unit(5)).

A file that was linked has one, by the unit's name. One that was enabled has more: its aliases, and
those in folders as `multi-user.target.wants/`. Those are systemd's to take back, which for each
unit looks through all its folders; a lone link is removed here, as systemd would.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from fleet.names import UnitName

_DEPENDENCIES = (".wants", ".requires", ".upholds")


def take_links_back(directory: Path, units: Iterable[UnitName]) -> frozenset[UnitName]:
    """Remove the links of those units that have but one; returns those with more, untouched."""
    names = frozenset(units)
    enabled = _linked_otherwise(directory, names)
    for unit in names - enabled:
        link = f"{directory}/{unit}"
        with contextlib.suppress(FileNotFoundError):
            if os.path.islink(link):
                os.unlink(link)
    return enabled


def _linked_otherwise(directory: Path, units: frozenset[UnitName]) -> frozenset[UnitName]:
    """Those of the units to which a link leads that has another name, or is not in the folder."""
    named: set[str] = set()
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink():
                target = os.path.basename(os.readlink(entry.path))
                named |= {target} - {entry.name}
            elif entry.name.endswith(_DEPENDENCIES):
                named |= _named_in(entry.path)
    return units & named


def _named_in(folder: str) -> set[str]:
    """The names in a folder of links, and those that they lead to."""
    named: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            named.add(entry.name)
            if entry.is_symlink():
                named.add(os.path.basename(os.readlink(entry.path)))
    return named
