"""What cluster tests share: waiting for the real world, fleetctl, the traces of a sandbox."""

import itertools
import os
import subprocess
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import Place
from cli.sandbox.processes import find
from tests.zygote import run_fleetctl

# Two cores may be shared with other tests: what takes a second alone is given this.
DEADLINE_S = 60.0
# How often it is looked, the longer the rarer: a look costs what others are busy with.
_POLL_S = 0.05
_LONGEST_POLL_S = 0.5
T = TypeVar("T")
_COUNT = itertools.count(1)
FLEETCTL = Path(sysconfig.get_path("scripts"), "fleetctl")


def fresh_name() -> str:
    """A name that no other sandbox on this host has, be it of another test run."""
    return f"t{os.getpid()}-{next(_COUNT)}"


def eventually(check: Callable[[], T], *, deadline_s: float = DEADLINE_S) -> T:
    """The first true value of the check, asked again and again.

    An AssertionError in it counts as "not yet"; at the deadline the last one is raised.
    """
    deadline, poll_s = time.monotonic() + deadline_s, _POLL_S
    while True:
        late = time.monotonic() > deadline
        try:
            value = check()
        except AssertionError:
            if late:
                raise
        else:
            if value:
                return value
            assert not late, f"still {value!r} after {deadline_s:g} s"
        time.sleep(poll_s)
        poll_s = min(1.5 * poll_s, _LONGEST_POLL_S)


def fleetctl(
    *words: str, on: Sandbox | None = None, through: str = "fleet1", timeout_s: float = DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """Run fleetctl on the host; with `on`, against the API of one of that sandbox's machines."""
    environment = dict(os.environ)
    if on is not None:
        environment["FLEETCTL_ENDPOINT"] = f"unix://{on.socket(through)}"
    return run_fleetctl(words, env=environment, timeout_s=timeout_s)


def traces(name: str) -> list[str]:
    """Everything on the host that belongs to the sandbox: files, mounts, groups, processes."""
    place = Place(name=name)
    files = [str(path) for path in (place.top, place.lock) if path.exists()]
    mounts = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"/{name}" in line
    ]
    return files + mounts + _groups(place) + _processes(place)


def _groups(place: Place) -> list[str]:
    """Its control groups; other tests' come and go while they are looked through."""
    folders = (Path(folder) for folder, _, _ in os.walk("/sys/fs/cgroup"))
    return [str(folder) for folder in folders if folder.match(place.cgroups)]


def _processes(place: Place) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        # What has ended counts as gone; how soon its parent takes note is the parent's affair.
        if not entry.name.isdigit() or find(int(entry.name)) is None:
            continue
        try:
            words = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
            group = (entry / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(place.top) in words or f"/{place.cgroups}/" in group:
            found.append(f"{entry.name} {words}")
    return found
