"""The machines that are measured: commands in all of them at once, systemd's clocks, /proc.

All machines of a sandbox share the host's clocks, so what systemd says on one and what the host's
`time.monotonic()` says can be subtracted from each other.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cli.sandbox import host
from cli.sandbox.cluster import Sandbox
from cli.sandbox.power import entering

DEADLINE_S = 240.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.5
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A booted machine; its PID 1 is looked up once, since that takes longer than a command."""

    name: str
    address: str
    id: str
    pid: int

    def run(self, *argv: str, stdin: str = "") -> str:
        """What the command wrote; raises RuntimeError with what it said if it failed."""
        done = subprocess.run(
            entering(self.pid, argv),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            env=host.ENVIRONMENT,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise RuntimeError(f"{' '.join(argv)[:200]} on {self.name}: {done.returncode}: {said}")
        return done.stdout

    def shell(self, script: str) -> str:
        return self.run("sh", "-ec", script)

    def path(self, path: str) -> Path:
        """A path inside the machine, as the host sees it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, folder: str, files: Mapping[str, str]) -> None:
        """Write files into a folder of the machine, which is made if it is not there."""
        place = self.path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(text)


def machines_of(sandbox: Sandbox) -> tuple[Machine, ...]:
    """The sandbox's machines that have power."""
    return tuple(
        Machine(name=view.name, address=view.address, id=view.id, pid=view.pid)
        for view in sandbox.machines
        if view.pid is not None
    )


def on_each(machines: Sequence[Machine], act: Callable[[Machine], _T]) -> list[_T]:
    """Act on all machines at the same time."""
    with ThreadPoolExecutor(len(machines)) as pool:
        return list(pool.map(act, machines))


def timed(act: Callable[[], object]) -> float:
    """The seconds that it takes."""
    began_s = time.monotonic()
    act()
    return time.monotonic() - began_s


# What systemd says


def became_active_s(machine: Machine, pattern: str) -> dict[str, float]:
    """When each unit that is active became so, by the monotonic clock, by systemd's own word."""
    show = ("systemctl", "show", "--property=Id,ActiveState,ActiveEnterTimestampMonotonic")
    told = machine.run(*show, "--", pattern)
    found = {}
    for block in told.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if values.get("ActiveState") == "active":
            found[values["Id"]] = int(values["ActiveEnterTimestampMonotonic"]) / 1e6
    return found


def wait_until_active(machines: Sequence[Machine], pattern: str, count: int) -> float:
    """When the last of `count` units became active; raises TimeoutError.

    It looks rarely, and asks for the times only at the end, so as not to slow what it waits for.
    """
    deadline_s = time.monotonic() + DEADLINE_S
    pause_s = _FIRST_PAUSE_S
    listing = ("systemctl", "list-units", "--state=active", "--no-legend", "--plain", pattern)
    while True:
        seen = sum(len(found.splitlines()) for found in (m.run(*listing) for m in machines))
        if seen >= count:
            break
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{seen} of {count} units are active after {DEADLINE_S:g} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return max(at for machine in machines for at in became_active_s(machine, pattern).values())


# What a process costs


def main_pid(machine: Machine, service: str) -> int:
    """The service's main process, as the host counts."""
    inside = machine.run("systemctl", "show", "--value", "--property=MainPID", service).strip()
    for pid in _processes_of(machine.pid):
        status = Path(f"/proc/{pid}/status").read_text()
        if f"\t{inside}\n" in status.partition("NSpid:")[2].partition("\n")[0] + "\n":
            return pid
    raise RuntimeError(f"{service} does not run on {machine.name}")


def _processes_of(first: int) -> Iterator[int]:
    """The processes of a machine, by the name space that their PID 1 is in."""
    own = os.readlink(f"/proc/{first}/ns/pid")
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == own:
                yield int(entry)
        except OSError:  # it has ended
            continue


def cpu_s(pid: int) -> float:
    """User and system time of a process so far; proc(5), fields 14 and 15 of stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wakeups(pid: int) -> int:
    """How often the process's threads have waited so far, and so were woken."""
    count = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = status.read_text().splitlines()
        count += sum(int(n.split()[1]) for n in lines if n.startswith("voluntary_ctxt_switches"))
    return count


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000
