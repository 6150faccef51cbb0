"""What the paths on a command line want of the cluster, and what source that is."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fleet.folder.assemble import Desired, assemble
from fleet.folder.reading import read_paths
from fleet.folder.settings import check_source
from fleet.folder.source import folder_source, repository_source

# git answers these questions from files at once.
_GIT_S = 5.0


def read_desired(paths: Sequence[str], *, name: str = "") -> Desired:
    """The units that the paths want, `-` being standard input.

    Raises BadFolder with a line for everything that is wrong.
    """
    text = sys.stdin.read() if "-" in paths else ""
    return assemble(read_paths(paths, text=text, name=name))


def source_of(paths: Sequence[str], desired: Desired, given: str | None) -> str:
    """What the units belong to: `--source`, the folder's own word, or what the one folder is.

    Several paths, files and standard input are no source, unless one is given: "".
    """
    if given is not None:
        return check_source(given)
    if desired.source:
        return desired.source
    if len(paths) != 1 or not Path(paths[0]).is_dir():
        return ""
    folder = Path(paths[0])
    url = _git(folder, "config", "--get", "remote.origin.url")
    if url:
        return repository_source(url, _git(folder, "rev-parse", "--show-prefix"))
    return folder_source(socket.gethostname(), str(folder.resolve()))


def _git(folder: Path, *arguments: str) -> str:
    """What git says of the folder, "" if there is none or it says nothing."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=_GIT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
