"""The units on a stage: one of every kind that behaves in its own way when something is wrong."""

from collections.abc import Mapping

from fleet.names import UnitName
from fleet.registry import UnitChange
from fleet.states import TargetState
from fleet.unit import parse_unit

PREFIX = "f-"
GLOBAL = "f-everywhere.service"
_STEADY = "ExecStart=/bin/sleep 100000"
_ONCE = "Type=oneshot\nExecStart=/bin/true"

# What stands in [Service] or [Timer], and in [X-Fleet].
_LAUNCHED: Mapping[str, tuple[str, str]] = {
    **{f"f-web@{n}.service": (f"{_STEADY}\nRestart=always", "") for n in (1, 2, 3)},
    "f-left.service": (_STEADY, "Conflicts=f-right.service"),
    "f-right.service": (_STEADY, ""),
    "f-mate.service": (_STEADY, "MachineOf=f-web@1.service"),
    "f-once.service": (_ONCE, ""),
    "f-kept.service": (f"{_ONCE}\nRemainAfterExit=yes", ""),
    "f-failed.service": ("Type=oneshot\nExecStart=/bin/false", ""),
    "f-tick.timer": ("OnActiveSec=1d", "MachineOf=f-tick.service"),
    GLOBAL: (_STEADY, "Global=true"),
}
_LOADED: Mapping[str, tuple[str, str]] = {
    "f-stored.service": (_STEADY, ""),
    "f-tick.service": (_STEADY, ""),
}


def changes() -> list[UnitChange]:
    """What brings all of them into a cluster, in one request."""
    return [
        *(_change(name, *text, TargetState.LOADED) for name, text in _LOADED.items()),
        *(_change(name, *text, TargetState.LAUNCHED) for name, text in _LAUNCHED.items()),
    ]


def _change(name: str, body: str, fleet: str, target: TargetState) -> UnitChange:
    section = "Timer" if name.endswith(".timer") else "Service"
    text = f"[{section}]\n{body}\n" + (f"[X-Fleet]\n{fleet}\n" if fleet else "")
    return UnitChange(name=UnitName(name), file=parse_unit(text), target=target)
