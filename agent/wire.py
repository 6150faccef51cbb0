"""systemd's D-Bus messages as plain values: object paths, list entries, changed properties.

Pure: bodies in, values out. Property names and their meaning are those of
https://www.freedesktop.org/software/systemd/man/org.freedesktop.systemd1.html
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from agent.systemd import Command, SystemdState, gone_wrong
from fleet.names import UnitName, split_name

SUCCESS = "success"
# How long a command whose time is over has to end by itself.
_STOP_S = 2.0
UNIT_INTERFACE = "org.freedesktop.systemd1.Unit"
_UNIT_PATH = "/org/freedesktop/systemd1/unit/"
# A label may not begin with a digit.
_TO_ESCAPE = re.compile(rb"[^A-Za-z0-9]|^[0-9]")
_ESCAPED = re.compile(rb"_([0-9a-fA-F]{2})")

# Which timestamp tells since when a unit is as it is.
_SINCE = {
    "active": "ActiveEnterTimestamp",
    "reloading": "ActiveEnterTimestamp",
    "inactive": "InactiveEnterTimestamp",
    "failed": "InactiveEnterTimestamp",
    "activating": "InactiveExitTimestamp",
    "deactivating": "ActiveExitTimestamp",
}
_WITH_RESULT = frozenset({"service", "socket", "mount", "automount", "swap", "timer", "path"})


def escape_label(text: str) -> str:
    """The text as one part of an object path, as sd-bus writes it."""
    return _TO_ESCAPE.sub(lambda found: b"_%02x" % found[0][0], text.encode()).decode() or "_"


def unescape_label(label: str) -> str:
    """The text that was escaped; a stray underscore stands for itself."""
    if label == "_":
        return ""
    plain = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), label.encode())
    return plain.decode(errors="replace")


def unit_path(unit: str) -> str:
    """The object path of a unit."""
    return _UNIT_PATH + escape_label(unit)


@functools.lru_cache(maxsize=4096)
def unit_of_path(path: str | None) -> UnitName | None:
    """The unit of an object path, None if it is no unit's."""
    if path is None or not path.startswith(_UNIT_PATH):
        return None
    return UnitName(unescape_label(path.removeprefix(_UNIT_PATH)))


def type_interface(unit: str) -> str:
    """The D-Bus interface of the unit's own type, as `org.freedesktop.systemd1.Service`."""
    return f"org.freedesktop.systemd1.{split_name(unit).suffix.capitalize()}"


def listed_state(unit: UnitName, entry: Sequence[Any]) -> SystemdState:
    """The state in a unit's entry of a list, which lacks the details."""
    load, active, sub = str(entry[2]), str(entry[3]), str(entry[4])
    result = SUCCESS if load == "loaded" and active != "failed" else ""
    return SystemdState(unit=unit, load=load, active=active, sub=sub, result=result)


def listed_jobs(
    entries: Iterable[Sequence[Any]], units: Set[UnitName], *, stops: bool
) -> dict[UnitName, str]:
    """The paths of the units' jobs in a list of all jobs: those that stop, or all others.

    Others bring up what a start is asked for, as a restart does, which a start becomes a part of.
    """
    return {
        UnitName(unit): str(path)
        for _, unit, kind, _, path, _ in entries
        if unit in units and (kind == "stop") is stops
    }


def wanted_properties(state: SystemdState) -> tuple[tuple[str, str], ...]:
    """What a list entry leaves out and a report of this state needs: (interface, property).

    Nothing for a unit that is inactive: asking would have systemd read its file once more.
    """
    if state.load != "loaded" or state.active not in _SINCE or state.active == "inactive":
        return ()
    wanted = [(UNIT_INTERFACE, _SINCE[state.active])]
    kind = split_name(state.unit).suffix
    if state.has_gone_wrong and kind in _WITH_RESULT:
        wanted.append((type_interface(state.unit), "Result"))
    if state.has_gone_wrong and kind == "service":
        wanted.append((type_interface(state.unit), "ExecMainCode"))
        wanted.append((type_interface(state.unit), "ExecMainStatus"))
    return tuple(wanted)


def transient_properties(command: Command, *, by_user: bool) -> list[tuple[str, str, Any]]:
    """What makes a transient oneshot of a command: (property, signature, value).

    It is kept, also when it has failed, as long as whoever started it refers to it. A user's own
    systemd (`by_user`) cannot make it another user's.
    """
    program, words = command.words[0], list(command.words)
    owner = {} if by_user else {"User": command.user, "Group": command.group}
    return [
        ("Description", "s", command.description or str(command.unit)),
        ("Type", "s", "oneshot"),
        ("ExecStart", "a(sasb)", [[program, words, False]]),
        ("TimeoutStartUSec", "t", max(1, int(command.limit_s * 1e6))),
        ("TimeoutStopUSec", "t", int(_STOP_S * 1e6)),
        ("AddRef", "b", True),
        ("CollectMode", "s", "inactive-or-failed"),
        *((name, "s", value) for name, value in owner.items() if value),
    ]


def bulk_properties(
    description: str, dependency: str, units: Iterable[str]
) -> list[tuple[str, str, Any]]:
    """What makes a transient service that does nothing but depend on the units."""
    return [
        ("Description", "s", description),
        ("Type", "s", "oneshot"),
        ("ExecStart", "a(sasb)", [["/bin/true", ["/bin/true"], True]]),
        ("DefaultDependencies", "b", False),
        ("CollectMode", "s", "inactive-or-failed"),
        (dependency, "as", sorted(units)),
    ]


def apply_properties(state: SystemdState, changed: Mapping[str, Any]) -> SystemdState:
    """The state after some of its properties changed; properties it does not hold are passed by.

    As in systemd, a result is that of the last run, and success until something goes wrong.
    """
    active = str(changed.get("ActiveState", state.active))
    sub = str(changed.get("SubState", state.sub))
    stamp = changed.get(_SINCE.get(active, ""))
    wrong = gone_wrong(active, sub)
    return replace(
        state,
        active=active,
        sub=sub,
        since_s=int(stamp) / 1e6 if stamp else state.since_s,
        invocation=bytes(changed.get("InvocationID", b"")).hex() or state.invocation,
        result=str(changed.get("Result", state.result)) if wrong else SUCCESS,
        exit_code=int(changed.get("ExecMainCode", state.exit_code)) if wrong else 0,
        exit_status=int(changed.get("ExecMainStatus", state.exit_status)) if wrong else 0,
    )
