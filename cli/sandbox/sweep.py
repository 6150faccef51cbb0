"""Removing a sandbox, whole or half-made: processes, mounts, namespaces, directories.

Nothing here trusts that `up` came to its end, or that its record is right: what runs in the
sandbox's network namespaces and what is mounted below its directory is its own.
"""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from cli.sandbox import host
from cli.sandbox.layout import Place
from cli.sandbox.processes import Process, end, in_namespaces, is_running, namespace_id
from cli.sandbox.state import load


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was there and is gone."""

    processes: int = 0
    mounts: int = 0

    def __bool__(self) -> bool:
        return bool(self.processes or self.mounts)


def sweep(place: Place) -> Removed:
    """Remove all of the sandbox; raises Unavailable if something does not go away."""
    state = load(place.state)
    recorded = [node.process for node in state.nodes.values() if node.process] if state else []
    killed = end(lambda: _victims(place, recorded))
    if not host.has_systemd():
        host.remove_cgroups(place.cgroups)
    elif state:
        host.stop_units([place.unit(name) for name in state.nodes])
    mounts = host.unmount_below(place.top)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(place.top)
    return Removed(processes=killed, mounts=mounts)


def _victims(place: Place, recorded: Sequence[Process]) -> list[Process]:
    return running_in(place) + [process for process in recorded if is_running(process)]


def running_in(place: Place, *nodes: str) -> list[Process]:
    """The processes in the network namespaces of these nodes, or of the whole sandbox."""
    if nodes:
        files = [place.net(node) for node in nodes]
    elif place.hub.parent.is_dir():
        files = list(place.hub.parent.iterdir())
    else:
        files = []
    bound = set(host.mounts_below(place.top))
    found = [namespace_id(path) for path in files if str(path) in bound]
    return in_namespaces(each for each in found if each is not None)
