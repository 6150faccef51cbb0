"""What a host must have for a sandbox, and the sentence that says what it lacks."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fleet.errors import Denied, Unavailable

# The program and Debian's package that brings it.
_PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "dbus-daemon": "dbus",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
}
_ETCD_PACKAGE = "etcd-server"
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing(*, etcd: bool, which: Callable[[str], str | None]) -> dict[str, str]:
    """The programs that `which` does not find, with their packages."""
    wanted = {**_PACKAGES, "etcd": _ETCD_PACKAGE} if etcd else _PACKAGES
    return {program: package for program, package in wanted.items() if which(program) is None}


def complaint(lacking: dict[str, str]) -> str:
    """One sentence: what the host lacks, and the command that brings it."""
    programs = " and ".join(filter(None, (", ".join([*lacking][:-1]), [*lacking][-1])))
    packages = " ".join(dict.fromkeys(lacking.values()))
    return (
        f"a sandbox needs {programs}, which this host lacks: "
        f"apt-get install --no-install-recommends {packages}"
    )


def check_root() -> None:
    """Raise Denied unless we are root, as booting machines and joining namespaces needs."""
    if os.geteuid() != 0:
        raise Denied("a sandbox boots machines, which only root may do: run it with sudo")


def check_host(*, etcd: bool, programs: Path) -> None:
    """Raise Unavailable if a program is missing; etcd may also lie beside fleetd in `programs`."""
    lacking = missing(etcd=etcd, which=lambda program: find_program(program, programs))
    if lacking:
        raise Unavailable(complaint(lacking))


def find_program(program: str, programs: Path) -> str | None:
    """The path of a program of the host, or of our own environment."""
    return shutil.which(program, path=f"{_SEARCH}:{programs}")
