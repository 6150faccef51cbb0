"""The commands that show a unit where it runs: in the system's systemd, or in a user's own."""

from dataclasses import dataclass

from fleet.machine import Machine
from fleet.names import UnitName

# Who is that user reaches their systemd by its own socket, anybody else (root) asks to be let in.
_AS_USER = (
    'uid=$1; shift; if [ "$(id -u)" = "$uid" ]; then '
    'XDG_RUNTIME_DIR=/run/user/$uid exec systemctl --user "$@"; else '
    'exec systemctl --user --machine="$uid@.host" "$@"; fi'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What to read of a journal, and how."""

    lines: int = 10
    follow: bool = False
    output: str = "short"
    sudo: bool = False


def status_argv(name: UnitName, machine: Machine) -> tuple[str, ...]:
    """The command that shows a unit's status; a pager would wait for a key at every unit."""
    words = ("status", "--no-pager", "-l", "--", name)
    if machine.user is None:
        return ("systemctl", *words)
    return ("sh", "-c", _AS_USER, "systemctl", str(machine.user), *words)


def journal_argv(name: UnitName, machine: Machine, reading: Reading) -> tuple[str, ...]:
    """The command that reads a unit's journal."""
    return (
        *(("sudo",) if reading.sudo else ()),
        "journalctl",
        *_matches(name, machine),
        *("--no-pager", "-n", str(reading.lines), "--output", reading.output),
        *(("-f",) if reading.follow else ()),
    )


def _matches(name: UnitName, machine: Machine) -> tuple[str, ...]:
    if machine.user is None:
        return ("--unit", name)
    from agent.journal import journal_matches

    return journal_matches(name, user=machine.user)
