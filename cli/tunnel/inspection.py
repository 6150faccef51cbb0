"""Why a socket on the far side could not be reached: one shell command there, and its answer.

sshd answers "open failed" to every refusal, whether the socket is not there, not ours to use, or
forwarding is forbidden.
"""

import shlex
from enum import StrEnum

from fleet.errors import Denied, FleetError, NotFound, Unavailable


class Finding(StrEnum):
    """What the far side says of the socket, as the script's first word."""

    MISSING = "missing"
    NO_SOCKET = "no-socket"
    DENIED = "denied"
    NO_HELPER = "no-helper"
    DEAD = "dead"
    REACHABLE = "reachable"
    UNKNOWN = "unknown"


_SCRIPT = """
if [ ! -e {path} ]; then echo missing
elif [ ! -S {path} ]; then echo no-socket
elif [ ! -w {path} ]; then echo denied; stat -c %G {path}
elif ! command -v fleetctl >/dev/null; then echo no-helper
elif fleetctl fd-forward {path} </dev/null >/dev/null; then echo reachable
else echo dead
fi
"""


def inspection_command(path: str) -> str:
    """The command that finds out, for whatever shell the user has."""
    return f"sh -c {shlex.quote(_SCRIPT.format(path=shlex.quote(path)))}"


def helper_command(path: str) -> str:
    """The command that joins its input and output to the socket, fleet 1.0's own way."""
    return f"fleetctl fd-forward {shlex.quote(path)}"


def parse_inspection(output: str) -> tuple[Finding, str]:
    """The finding and what goes with it: the group of a socket that is not ours to use.

    What the login shell says before is skipped.
    """
    lines = [line.strip() for line in output.splitlines()]
    for number, line in enumerate(lines):
        if line in set(Finding):
            return Finding(line), next(iter(lines[number + 1 :]), "")
    return Finding.UNKNOWN, ""


def explain_finding(
    finding: Finding, detail: str, *, path: str, place: str, user: str
) -> FleetError:
    """The error that a finding amounts to; not for REACHABLE."""
    match finding:
        case Finding.MISSING:
            return NotFound(f"{path} on {place}: no such file; is fleetd running there?")
        case Finding.NO_SOCKET:
            return NotFound(f"{path} on {place} is not a socket: check --endpoint")
        case Finding.DENIED:
            return Denied(_denied(detail, path=path, place=place, user=user))
        case Finding.DEAD:
            return Unavailable(f"{path} on {place}: nothing answers; is fleetd running there?")
        case _:
            return Unavailable(
                f"{path} on {place} cannot be reached: either nothing answers there (is fleetd "
                "running?), or its sshd forbids forwarding to sockets "
                "(AllowStreamLocalForwarding) and has no fleetctl in the PATH to do it instead"
            )


def _denied(group: str, *, path: str, place: str, user: str) -> str:
    if group in ("", "root", "UNKNOWN"):
        return f"{path} on {place}: permission denied to {user!r}; log in as another user"
    return (
        f"{path} on {place}: permission denied to {user!r}; it is for the group {group!r} "
        f"(there: sudo usermod -aG {group} {user})"
    )
