"""The host's side of a sandbox: commands, mounts, files, control groups. It decides nothing."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cli.sandbox.contents import Blank, Gone, Item, Link, Text
from cli.sandbox.layout import inside
from fleet.errors import Unavailable

_COMMAND_TIMEOUT_S = 30.0
_UNMOUNT_DEADLINE_S = 5.0
_UNUSED_DEADLINE_S = 10.0
_POLL_S = 0.01
# What a shell on a fresh Debian has: nothing of the caller's environment leaks into a sandbox.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT: Mapping[str, str] = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
_CGROUP_ROOT = "/sys/fs/cgroup"


def run(argv: Sequence[str], *, stdin: str = "") -> str:
    """Run a command to its end and return what it wrote; raises Unavailable if it fails.

    It has a session of its own: Ctrl-C reaches us and not the half of a command.
    """
    try:
        done = subprocess.run(  # noqa: S603  argv built by us
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            env=ENVIRONMENT,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        command = " ".join(argv)
        raise Unavailable(f"`{command}` did not end in {_COMMAND_TIMEOUT_S:g} s") from error
    if done.returncode:
        said = done.stderr.strip() or f"status {done.returncode}"
        raise Unavailable(f"`{' '.join(argv)}` failed: {said}")
    return done.stdout


def ip(namespace: Path, script: str) -> None:
    """Run commands of ip(8), one a line, in a network namespace."""
    run(inside(namespace, ["ip", "-batch", "-"]), stdin=f"{script}\n")


def make_namespace(path: Path) -> None:
    """Make a network namespace and bind it to the file, which keeps it alive."""
    path.touch()
    run(["unshare", f"--net={path}", "true"])


def mount_tmpfs(path: Path) -> None:
    """A tmpfs of our own, not passed on to other mount namespaces."""
    path.mkdir(mode=0o700)
    run(["mount", "-t", "tmpfs", "-o", "mode=0700", "fleet-sandbox", str(path)])
    run(["mount", "--make-private", str(path)])


def mount_overlay(lower: str, *, disk: Path, root: Path) -> None:
    """The host's directory at `root`, with changes kept on `disk`."""
    upper, work = disk / "upper", disk / "work"
    for directory in (upper, work, root):
        directory.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    run(["mount", "-t", "overlay", "-o", options, "fleet-sandbox", str(root)])


def mounts_below(path: Path) -> list[str]:
    """Where something is mounted at or below the path, the innermost first."""
    return parse_mounts(Path("/proc/self/mountinfo").read_text(), str(path))


def parse_mounts(mountinfo: str, top: str) -> list[str]:
    """The mount points of a mountinfo at or below `top`, in the order to take them off."""
    points = [line.split()[4] for line in mountinfo.splitlines()]
    return [point for point in reversed(points) if point == top or point.startswith(f"{top}/")]


def unmount_below(path: Path) -> int:
    """Unmount all at or below the path and return how many; what stays busy is detached."""
    count = 0
    deadline = time.monotonic() + _UNMOUNT_DEADLINE_S
    while points := mounts_below(path):
        lazy = ["--lazy"] if time.monotonic() > deadline else []
        for point in points:
            try:
                run(["umount", *lazy, point])
            except Unavailable:
                if lazy:
                    raise
                time.sleep(_POLL_S)
                break
            count += 1
    return count


def write_items(root: Path, items: Iterable[Item]) -> None:
    """Write what makes a machine below its root."""
    for item in items:
        path = root / item.path
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        match item:
            case Text():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600)
                path.write_text(item.text)
                path.chmod(item.mode)
            case Link():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(item.target)
            case Blank():
                path.mkdir(parents=True)
                path.chmod(item.mode)
            case Gone():
                pass


def let_through(root: Path, paths: Iterable[str]) -> None:
    """Have every user of a machine get to these paths: somebody's private home may be on the way.

    That holds in the machine below this root, and changes nothing on the host.
    """
    for folder in {folder for path in paths for folder in Path(path).parents}:
        there = root / folder.relative_to("/")
        if there.is_dir() and not there.is_symlink() and not there.stat().st_mode & stat.S_IXOTH:
            there.chmod(stat.S_IMODE(there.stat().st_mode) | stat.S_IXOTH)


def has_systemd() -> bool:
    """Whether systemd is this host's PID 1, as sd_booted(3) finds out."""
    return os.path.isdir("/run/systemd/system")


def stop_units(units: Sequence[str]) -> None:
    """Have systemd forget the scopes of what has ended, so that their names are free again."""
    if units:
        argv = ["systemctl", "stop", "--quiet", *units]
        with contextlib.suppress(Unavailable):  # a unit that is gone already is an error to it
            run(argv)


def cgroup_hierarchies() -> list[str]:
    """Where the hierarchies are mounted that a systemd in a container works with."""
    return parse_hierarchies(Path("/proc/self/mountinfo").read_text())


def parse_hierarchies(mountinfo: str) -> list[str]:
    """Mount points below /sys/fs/cgroup of cgroup v2 and of v1's name=systemd."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point, (kind, _, options) = before.split()[4], after.split(maxsplit=2)
        ours = kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(","))
        if ours and point.startswith(_CGROUP_ROOT):
            found.append(point)
    return found


def has_unified_cgroups(hierarchies: Iterable[str]) -> bool:
    """Whether cgroup v2 is among the hierarchies, alone or beside v1."""
    return any((Path(point) / "cgroup.controllers").exists() for point in hierarchies)


def make_cgroups(name: str) -> list[str]:
    """A fresh control group in each hierarchy; returns the files that take a pid into it."""
    files = []
    for hierarchy in cgroup_hierarchies():
        group = Path(hierarchy) / name
        remove_cgroup(group)
        group.mkdir(parents=True)
        files.append(str(group / "cgroup.procs"))
    return files


def remove_cgroups(name: str) -> None:
    """Remove the empty control groups of that name, with those below, from each hierarchy."""
    for hierarchy in cgroup_hierarchies():
        group = Path(hierarchy) / name
        remove_cgroup(group)
        with contextlib.suppress(OSError):  # another sandbox has its own there
            group.parent.rmdir()


def remove_cgroup(group: Path) -> None:
    """Remove a control group and those below it; raises Unavailable if it stays in use.

    The kernel keeps a group busy until the last zombie in it has been reaped.
    """
    deadline = time.monotonic() + _UNUSED_DEADLINE_S
    while group.exists():
        try:
            for directory, _, _ in os.walk(group, topdown=False):
                os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"the control group {group} stays in use") from error
            time.sleep(_POLL_S)


def pause_all(pids: Iterable[int], *, on: bool) -> None:
    """Stop processes where they are, or let them go on."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP if on else signal.SIGCONT)
