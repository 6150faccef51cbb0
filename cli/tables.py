"""The lists of fleetctl, byte for byte as fleet 1.0 printed them, and tables for people to read.

A list is a set of columns, each a function of one thing. Cells are aligned with tabs, to stops of
eight: a column is as wide as its longest cell and at least one more, and the last one is not
padded (Go's tabwriter, as fleet 1.0 set it up).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from cli.selection import is_global
from fleet.api.schema import ListedState, Unit
from fleet.errors import InvalidRequest
from fleet.events import Event
from fleet.machine import SHORT_ID_LENGTH, Machine, MachineId
from fleet.resources import show_bytes, show_cpus
from fleet.unit import unit_from_options

_T = TypeVar("_T")
_TAB = 8
_SHORT_HASH_LENGTH = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How cells are written: ids and hashes in full or short, and the machines known by id.

    `lost` are machines that are gone, each with why its units are still counted there.
    """

    full: bool = False
    addresses: Mapping[MachineId, str] = field(default_factory=dict)
    lost: Mapping[MachineId, str] = field(default_factory=dict)

    def machine(self, machine: MachineId) -> str:
        return legend(machine, self.addresses.get(machine, ""), full=self.full)

    def hash(self, digest: str) -> str:
        return digest if self.full else digest[:_SHORT_HASH_LENGTH]


Columns = Mapping[str, Callable[[_T, View], str]]

STATE_COLUMNS: Columns[ListedState] = {
    "active": lambda state, _: state.active or "-",
    "hash": lambda state, view: view.hash(state.hash) or "-",
    "load": lambda state, _: state.load or "-",
    "machine": lambda state, view: view.machine(state.machine) if state.machine else "-",
    "sub": lambda state, _: state.sub or "-",
    "unit": lambda state, _: state.unit,
}
STATE_FIELDS = "unit,machine,active,sub"


def _target(unit: Unit, view: View) -> str:
    if is_global(unit):
        return "global"
    return view.machine(unit.machine) if unit.machine else "-"


def _description(unit: Unit, _: View) -> str:
    return unit_from_options(unit.options).description or "-"


UNIT_COLUMNS: Columns[Unit] = {
    "desc": _description,
    "dstate": lambda unit, _: unit.desired or "-",
    "global": lambda unit, _: "true" if is_global(unit) else "false",
    "hash": lambda unit, view: view.hash(unit_from_options(unit.options).hash),
    "state": lambda unit, _: "-" if is_global(unit) else unit.current or "-",
    "target": _target,
    "tmachine": _target,
    "unit": lambda unit, _: unit.name,
}
UNIT_FIELDS = "unit,hash,dstate,state,target"


def _machine_id(machine: Machine, view: View) -> str:
    return legend(machine.id, full=view.full)


def _metadata(machine: Machine, _: View) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(machine.metadata.items())) or "-"


def _cordon(machine: Machine, _: View) -> str:
    if machine.cordon is None:
        return "-"
    return "drained" if machine.cordon.drain else "cordoned"


MACHINE_COLUMNS: Columns[Machine] = {
    "cordon": _cordon,
    "cpus": lambda machine, _: show_cpus(machine.resources.cpus) if machine.resources else "-",
    "memory": lambda machine, _: show_bytes(machine.resources.memory) if machine.resources else "-",
    "ip": lambda machine, _: machine.address or "-",
    "machine": _machine_id,
    "metadata": _metadata,
}
MACHINE_FIELDS = "machine,ip,metadata"


# Machine ids in running text; source: machine-id(5).
_MACHINE_IDS = re.compile(r"\b[0-9a-f]{32}\b")


def wall_time(at_s: float) -> str:
    """The moment on the user's own clock; `at_s` is in seconds since the epoch."""
    try:
        at = datetime.fromtimestamp(at_s, UTC).astimezone()
        return at.strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "-"


def _told(text: str, view: View) -> str:
    """A text that others wrote, on one line, with machines as they stand elsewhere."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    return line if view.full else _MACHINE_IDS.sub(lambda found: legend(found[0]), line)


EVENT_COLUMNS: Columns[Event] = {
    "time": lambda event, _: wall_time(event.at_s),
    "unit": lambda event, view: _told(event.unit, view) or "-",
    "what": lambda event, view: _told(event.what, view),
    "who": lambda event, view: _told(event.by, view),
}
EVENT_FIELDS = "time,who,unit,what"


def parse_fields(text: str, columns: Mapping[str, object]) -> list[str]:
    """The columns asked for; raises InvalidRequest in fleet 1.0's words."""
    if not text:
        raise InvalidRequest("Must define output format")
    fields = text.split(",")
    for name in fields:
        if name not in columns:
            known = ", ".join(sorted(columns))
            raise InvalidRequest(f'Invalid key in output format: "{name}" (known: {known})')
    return fields


def render_list(
    things: Sequence[_T],
    columns: Columns[_T],
    fields: Sequence[str],
    view: View,
    *,
    legend_line: bool = True,
) -> str:
    """The list of the things, a line each, under a header unless that is not wanted."""
    rows = [[columns[name](thing, view) for name in fields] for thing in things]
    if legend_line:
        rows.insert(0, [name.upper() for name in fields])
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> str:
    """The rows as lines, their cells padded with tabs."""
    if not rows:
        return ""
    widths = [
        (max(len(cell) for cell in column) // _TAB + 1) * _TAB for column in zip(*rows, strict=True)
    ]
    return "".join(
        "".join(
            f"{cell}{_tabs(cell, width)}" for cell, width in zip(row[:-1], widths[:-1], strict=True)
        )
        + f"{row[-1]}\n"
        for row in rows
    )


def _tabs(cell: str, width: int) -> str:
    return "\t" * -(-(width - len(cell)) // _TAB)


def render_plain(rows: Sequence[Sequence[str]], headers: Sequence[str] = ()) -> str:
    """A table for people, aligned with blanks."""
    import tabulate  # half of the time it takes to print a list, which does not need it

    return tabulate.tabulate(rows, headers, tablefmt="plain", disable_numparse=True)


def legend(machine: str, address: str = "", *, full: bool = False) -> str:
    """A machine as people see it: `113f16a7.../172.17.8.103`, or its whole id."""
    name = machine if full else f"{machine[:SHORT_ID_LENGTH]}..."
    return f"{name}/{address}" if address else name


def clock_time(at_s: float) -> str:
    """A time of day here, from seconds since the epoch."""
    try:
        return f"{datetime.fromtimestamp(at_s, UTC).astimezone():%H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return f"second {at_s:g}"
