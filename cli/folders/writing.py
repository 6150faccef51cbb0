"""Writes an export to this disk, over nothing but an older export."""

from collections.abc import Mapping
from pathlib import Path

from fleet.errors import Conflict, Unavailable

# Passed over by whoever reads the folder; it lists the files that an export wrote.
MARK = ".fleet-export"


def write_export(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files, and remove those of an earlier export that are not among them.

    Raises Conflict for a folder that holds anything else, and Unavailable if it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / MARK
        earlier = mark.read_text().splitlines() if mark.is_file() else []
        present = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        foreign = sorted(present - set(earlier))
        if foreign:
            raise Conflict(
                f"{folder} holds {foreign[0]}, which no export wrote: give an empty folder"
            )
        for name in sorted(set(earlier) & present - files.keys()):
            (folder / name).unlink()
        mark.write_text("".join(f"{name}\n" for name in sorted(files)))
        for name, text in files.items():
            (folder / name).write_bytes(text.encode())
    except OSError as error:
        raise Unavailable(f"{folder} cannot be written: {error.strerror or error}") from error
