"""The units that are started: services that do nothing, one file each."""

from collections.abc import Mapping, Sequence

FOLDER = "/root/bench"
PATTERN = "bench*"
# Where a machine's own share lies, for systemd alone.
SHARE = "/root/share"
SERVICE = "[Service]\nExecStart=/bin/sleep 100000\n"


def names(count: int, *, first: int = 0) -> list[str]:
    return [f"bench{number:04}.service" for number in range(first, first + count)]


def files(count: int, *, first: int = 0) -> dict[str, str]:
    """Unit files by name, each with contents of its own, as users' files have."""
    return {
        name: f"[Unit]\nDescription=Unit {name} of a benchmark\n\n{SERVICE}"
        for name in names(count, first=first)
    }


def shares(files: Mapping[str, str], count: int) -> Sequence[dict[str, str]]:
    """The files in as many parts as there are machines, as even as can be."""
    parts: list[dict[str, str]] = [{} for _ in range(count)]
    for number, (name, text) in enumerate(files.items()):
        parts[number % count][name] = text
    return parts


def pinned(machine_id: str) -> str:
    """A unit file that can run on that machine only."""
    return f"{SERVICE}\n[X-Fleet]\nMachineID={machine_id}\n"
