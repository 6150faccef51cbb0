"""What lists say to programs: every member, in full, as values; docs/lists.schema.json has them.

Members are only ever added. YAML here is the part of it that JSON's own texts are good for.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from cli.selection import is_global
from cli.tables import (
    EVENT_COLUMNS,
    EVENT_FIELDS,
    MACHINE_COLUMNS,
    MACHINE_FIELDS,
    STATE_COLUMNS,
    STATE_FIELDS,
    UNIT_COLUMNS,
    UNIT_FIELDS,
    Columns,
    View,
    parse_fields,
    render_list,
)
from fleet.api.schema import ListedState, Unit
from fleet.events import Event
from fleet.machine import Cordon, Machine, MachineId
from fleet.unit import unit_from_options

_T = TypeVar("_T")
Record = dict[str, object]

OUTPUTS = ("table", "wide", "name", "json", "yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a list is to be written: what the flags of the list verbs say."""

    output: str = "table"
    fields: str = ""
    full: bool = False
    no_legend: bool = False
    watch: bool = False

    @property
    def is_for_programs(self) -> bool:
        return self.output in ("json", "yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[_T]):
    """One kind of list: its columns, those shown by default and when wide, and its records."""

    columns: Columns[_T]
    fields: str
    wide: str
    name: Callable[[_T], str]
    record: Callable[[_T, View], Record]

    def fields_of(self, form: Form) -> list[str]:
        """The columns that are wanted; raises InvalidRequest for one that is none."""
        return parse_fields(self.wide if form.output == "wide" else form.fields, self.columns)

    def render(self, things: Sequence[_T], view: View, form: Form) -> str:
        """The list in the form that is wanted, with its last newline."""
        if form.output == "name":
            return "".join(f"{self.name(thing)}\n" for thing in things)
        if form.is_for_programs:
            records = [self.record(thing, view) for thing in things]
            return render_json(records) if form.output == "json" else render_yaml(records)
        fields = self.fields_of(form)
        return render_list(things, self.columns, fields, view, legend_line=not form.no_legend)


def _state_record(state: ListedState, view: View) -> Record:
    return {
        "unit": state.unit,
        **_machine_members(state.machine, view),
        "load": state.load,
        "active": state.active,
        "sub": state.sub,
        "hash": state.hash,
    }


def _unit_record(unit: Unit, view: View) -> Record:
    file = unit_from_options(unit.options)
    everywhere = is_global(unit)
    return {
        "unit": unit.name,
        "hash": file.hash,
        "desired": unit.desired.value if unit.desired else None,
        "state": unit.current.value if unit.current and not everywhere else None,
        "global": everywhere,
        **_machine_members(unit.machine, view),
        "description": file.description,
    }


def _machine_members(machine: MachineId | None, view: View) -> Record:
    address = view.addresses.get(machine) if machine else None
    return {"machine": machine or None, "address": address or None}


def _machine_record(machine: Machine, view: View) -> Record:
    return {
        "machine": machine.id,
        "address": machine.address or None,
        "metadata": dict(sorted(machine.metadata.items())),
        "cordon": _cordon_record(machine.cordon) if machine.cordon else None,
        "cpus": machine.resources.cpus or None,
        "memory": machine.resources.memory or None,
        "state": "lost" if machine.id in view.lost else "alive",
        "why": view.lost.get(machine.id),
    }


def _cordon_record(cordon: Cordon) -> Record:
    return {
        "drain": cordon.drain,
        "who": cordon.by,
        "time": _timestamp(cordon.at_s),
        "why": cordon.why or None,
    }


def _event_record(event: Event, _: View) -> Record:
    return {
        "time": _timestamp(event.at_s),
        "who": event.by,
        "unit": event.unit or None,
        "what": event.what,
    }


def _timestamp(at_s: float) -> str | None:
    try:
        return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return None


STATES = Listing(
    columns=STATE_COLUMNS,
    fields=STATE_FIELDS,
    wide="unit,machine,load,active,sub,hash",
    name=lambda state: state.unit,
    record=_state_record,
)
UNITS = Listing(
    columns=UNIT_COLUMNS,
    fields=UNIT_FIELDS,
    wide="unit,hash,dstate,state,target,global,desc",
    name=lambda unit: unit.name,
    record=_unit_record,
)
MACHINES = Listing(
    columns=MACHINE_COLUMNS,
    fields=MACHINE_FIELDS,
    wide=MACHINE_FIELDS,
    name=lambda machine: machine.id,
    record=_machine_record,
)
EVENTS = Listing(
    columns=EVENT_COLUMNS,
    fields=EVENT_FIELDS,
    wide=EVENT_FIELDS,
    name=lambda event: event.unit or "-",
    record=_event_record,
)


def render_json(records: Sequence[Mapping[str, object]]) -> str:
    return json.dumps(records, indent=2, ensure_ascii=False) + "\n"


def render_yaml(records: Sequence[Mapping[str, object]]) -> str:
    """The records as a YAML sequence of mappings; a value may be a mapping, too."""
    if not records:
        return "[]\n"
    return "".join(f"- {_yaml_mapping(record, indent=2)}" for record in records)


def _yaml_mapping(record: Mapping[str, object], *, indent: int) -> str:
    lines = [f"{_yaml_key(key)}:{_yaml_value(value, indent)}\n" for key, value in record.items()]
    return (" " * indent).join(lines)


def _yaml_value(value: object, indent: int) -> str:
    if isinstance(value, Mapping) and value:
        inner = _yaml_mapping(value, indent=indent + 2)
        return f"\n{' ' * (indent + 2)}{inner}".rstrip("\n")
    return f" {json.dumps(value, ensure_ascii=False)}"


def _yaml_key(key: str) -> str:
    return key if key.isascii() and key.isidentifier() else json.dumps(key)
