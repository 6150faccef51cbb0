"""How long a unit may take to stop, and whether that is bounded at all: what `Fenced=true` needs.

A fenced unit starts elsewhere once it must have stopped where it was; so its stop has to end by
itself. The phases are those of systemd.service(5) and systemd.kill(5): every `ExecStop=` command,
SIGTERM, every `ExecStopPost=` command and the SIGTERM after those may take `TimeoutStopSec=` each;
SIGKILL ends what is left.
"""

import re

from fleet.unit import UnitFile

# systemd's own, `DefaultTimeoutStopSec=`; a fenced unit is given it whatever the machine's is.
DEFAULT_STOP_S = 90.0
# What systemd and the kernel may take to end processes that were sent SIGKILL.
KILL_S = 1.0

_UNIT_S = {
    1e-6: "usec us µs μs",
    1e-3: "msec ms",
    1.0: "seconds second sec s",
    60.0: "minutes minute min m",
    3600.0: "hours hour hr h",
    86400.0: "days day d",
    604800.0: "weeks week w",
}
_SECONDS = {word: seconds for seconds, words in _UNIT_S.items() for word in words.split()} | {
    "": 1.0
}
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zµμ]*)\s*")
_OFF = frozenset({"no", "false", "off", "0", "n", "f"})


def parse_time_span(text: str) -> float:
    """The seconds of a time span as systemd.time(7) has it; raises ValueError.

    "infinity" is without end, and so is 0, which switches a time limit off.
    """
    if text == "infinity":
        return float("inf")
    total_s, position = 0.0, 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None or part[2] not in _SECONDS:
            raise ValueError(f"{text!r} is no time span")
        total_s += float(part[1]) * _SECONDS[part[2]]
        position = part.end()
    return total_s or float("inf")


def stop_timeout_s(file: UnitFile) -> float:
    """What the unit has for `TimeoutStopSec=`, in seconds; systemd passes over a malformed one."""
    found_s = DEFAULT_STOP_S
    for option in file.options:
        if option.section == "Service" and option.name in ("TimeoutStopSec", "TimeoutSec"):
            try:
                found_s = parse_time_span(option.value) if option.value else DEFAULT_STOP_S
            except ValueError:
                continue
    return found_s


def stop_limit_s(file: UnitFile) -> float:
    """After how many seconds the unit has stopped for certain, once it was told to."""
    if not file.values("Service", "ExecStart") and not file.values("Service", "ExecStop"):
        return KILL_S  # nothing runs in a timer or a path
    before, after = (_commands(file, name) for name in ("ExecStop", "ExecStopPost"))
    phases = before + 1 + (after + 1 if after else 0)
    return phases * stop_timeout_s(file) + KILL_S


def why_unfenceable(file: UnitFile) -> str:
    """Why nobody can say when the unit has stopped, "" if one can."""
    kinds = {option.section for option in file.options}
    odd = sorted(kinds & {"Socket", "Mount", "Automount", "Swap", "Slice", "Scope"})
    if odd:
        return f"Fenced cannot be used with [{odd[0]}]: it is for services, timers and paths"
    if stop_timeout_s(file) == float("inf"):
        return "Fenced cannot be used with a TimeoutStopSec without end: give it so many seconds"
    if _last(file, "KillMode") in ("process", "none"):
        return "Fenced cannot be used with KillMode=process or none: processes outlive the unit"
    if _last(file, "SendSIGKILL").lower() in _OFF:
        return "Fenced cannot be used with SendSIGKILL=no: processes may outlive the unit"
    return ""


def _commands(file: UnitFile, name: str) -> int:
    """How many commands the option has; an empty line takes back those before it."""
    count = 0
    for value in file.values("Service", name):
        # Several on a line have a semicolon of their own between.
        count = count + 1 + value.split().count(";") if value.strip() else 0
    return count


def _last(file: UnitFile, name: str) -> str:
    values = file.values("Service", name)
    return values[-1].strip() if values else ""
