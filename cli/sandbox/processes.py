"""Processes of a sandbox: found by the network namespace they run in, ended for certain.

A process counts as the sandbox's own if it runs in one of its network namespaces, whoever
started it; a recorded one is known by its pid and its start time, since pids are given out again.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import Unavailable

_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_S = 0.005
# SIGKILL is at once, unless the process is stuck in the kernel or the machine is very busy.
END_DEADLINE_S = 15.0
# Field 22 of /proc/PID/stat, counted after the parenthesis that closes the name.
_STATE_FIELD = 0
_START_FIELD = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that cannot be taken for a later one: its pid, its start in ticks since boot."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceId:
    """A namespace as the kernel numbers it."""

    device: int
    inode: int


def parse_stat(text: str) -> tuple[str, int]:
    """State letter and start time of /proc/PID/stat; a name may hold blanks and parentheses."""
    fields = text.rpartition(")")[2].split()
    return fields[_STATE_FIELD], int(fields[_START_FIELD])


def find(pid: int) -> Process | None:
    """The process of that pid now, None if there is none or it has ended."""
    try:
        state, started = parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else Process(pid=pid, started=started)


def is_running(process: Process) -> bool:
    return find(process.pid) == process


def namespace_id(path: str | Path) -> NamespaceId | None:
    """The namespace behind a file or a link in /proc, None if there is nothing."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return NamespaceId(device=status.st_dev, inode=status.st_ino)


def in_namespaces(namespaces: Iterable[NamespaceId]) -> list[Process]:
    """Every running process whose network namespace is one of these, oldest pid first."""
    wanted = frozenset(namespaces)
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and namespace_id(f"/proc/{entry}/ns/net") in wanted:
            process = find(int(entry))
            if process is not None:
                found.append(process)
    return sorted(found, key=lambda process: process.pid)


def is_first(pid: int) -> bool:
    """Whether the process is PID 1 of a machine: of a pid namespace just below our own."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        ours = Path("/proc/self/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    pids = _namespace_pids(lines)
    return pids[-1:] == ["1"] and len(pids) == len(_namespace_pids(ours)) + 1


def _namespace_pids(status: Iterable[str]) -> list[str]:
    for line in status:
        if line.startswith("NSpid:"):
            return line.split()[1:]
    return []


def end(victims: Callable[[], Sequence[Process]], *, deadline_s: float = END_DEADLINE_S) -> int:
    """Kill what `victims` names, asked again until it names nothing; returns how many were killed.

    A machine's PID 1 dies first, and the kernel then takes the rest of that machine at once. A
    dying process has left its namespaces already, so those killed are waited for as well. Raises
    Unavailable if some are still there at the deadline.
    """
    killed: set[Process] = set()
    deadline = time.monotonic() + deadline_s
    while left := {*victims(), *filter(is_running, killed)}:
        fresh = [process for process in left if process not in killed]
        for process in sorted(fresh, key=lambda process: not is_first(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        killed.update(fresh)
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in left)
            raise Unavailable(f"processes {pids} do not end, though they were killed")
        reap(killed)
        time.sleep(_POLL_S)
    reap(killed)
    return len(killed)


def reap(processes: Iterable[Process]) -> None:
    """Take leave of those that are our own children, so that no zombie stays."""
    for process in processes:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)


def spawn(argv: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Process:
    """Start a detached process that writes to the log; it is its own session's leader.

    Signals are held meanwhile, so that an interruption finds it either recorded or not started.
    """
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with held_signals():
        pid = os.posix_spawnp(
            argv[0],
            list(argv),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), appending, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[*_HELD, signal.SIGPIPE],
        )
        return find(pid) or Process(pid=pid, started=0)


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Ctrl-C and the like wait until the block is left."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
