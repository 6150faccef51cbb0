"""The documents of the HTTP API and the values they stand for.

`Unit`, `ListedState` and machines are fleet 1.0's entities, member for member: keys in alphabetical
order, and what is empty left out. `Unit.text` and `UnitReport` are ours; original clients pass
over members they do not know. Reading is strict: a member of the wrong type raises InvalidRequest
with its name, never anything else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fleet.cluster import Cluster, Hold
from fleet.cluster import decode_hold as decode_stored_hold
from fleet.errors import MALFORMED, InvalidRequest, InvalidUnit
from fleet.events import Event
from fleet.events import decode_event as decode_stored_event
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.states import TargetState, UnitState, decode_state, encode_state, parse_target
from fleet.unit import UnitFile, UnitOption, parse_unit, unit_from_options

Document = dict[str, Any]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit as the API shows it and takes it.

    `text` is the author's own text, where it was given or asked for. A name read from a request
    has not been checked yet.
    """

    name: UnitName
    options: tuple[UnitOption, ...] = ()
    text: str | None = None
    desired: TargetState | None = None
    current: TargetState | None = None
    machine: MachineId | None = None

    @property
    def file(self) -> UnitFile | None:
        """The unit's contents: its text, or else its options; None if it has neither.

        Raises InvalidUnit if the text is malformed, if options cannot be written as a unit file
        and read back the same, or if text and options are both given and disagree.
        """
        path = self.name or None
        written = parse_unit(self.text, path=path) if self.text else None
        if not self.options:
            return written
        file = _file_of_options(self.options, path)
        if written is None:
            return file
        if written.canonical != file.canonical:
            problem = "text and options are two different unit files: give one of them"
            raise InvalidUnit(problem, path=path)
        return written


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedState:
    """What fleet 1.0 tells of a unit on a machine: systemd's three words and the unit's hash."""

    unit: UnitName
    machine: MachineId
    hash: str
    load: str
    active: str
    sub: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedAssignment:
    """Where a unit is to be, how far it should go there, and why."""

    machine: MachineId
    target: TargetState
    leaving: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitReport:
    """The whole story of one unit at one moment.

    `machine` is where a unit that is not global is scheduled; `refusals` are reasons by machine,
    "" standing for all; `addresses` are those of the machines spoken of that are alive.
    While it is `leaderless` there is no engine that would place or move units. `hold` says why the
    unit is not moved although its machine is gone, if that is so.
    """

    name: UnitName
    exists: bool = False
    hash: str = ""
    desired: TargetState | None = None
    current: TargetState = TargetState.INACTIVE
    machine: MachineId | None = None
    is_global: bool = False
    states: tuple[UnitState, ...] = ()
    assignments: tuple[ReportedAssignment, ...] = ()
    refusals: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[MachineId, str] = field(default_factory=dict)
    leaderless: bool = False
    hold: str = ""


def report(cluster: Cluster, name: UnitName) -> UnitReport:
    """What the cluster says of a unit, whether it is there or not."""
    record = cluster.units.get(name)
    refusal = cluster.refusals.get(name)
    reasons = dict(sorted(refusal.reasons.items())) if refusal else {}
    states = cluster.states_of(name)
    rows = tuple(row for row in cluster.schedule if row.unit == name)
    spoken_of = [*(row.machine for row in rows), *(s.machine for s in states), *reasons]
    machines = cluster.machines
    known = sorted({MachineId(text) for text in spoken_of} & machines.keys())
    hold = cluster.current_hold
    is_held = hold is not None and any(
        row.machine in hold.machines for row in cluster.assignments_of(name)
    )
    return UnitReport(
        name=name,
        exists=record is not None,
        hash=record.hash if record else "",
        desired=record.target if record else None,
        current=cluster.current_state(name),
        machine=cluster.machine_of(name),
        is_global=record.is_global if record else False,
        states=states,
        assignments=tuple(
            ReportedAssignment(
                machine=row.machine, target=row.target, leaving=row.leaving, reason=row.reason
            )
            for row in rows
        ),
        refusals=reasons,
        addresses={machine: machines[machine].address for machine in known},
        leaderless=cluster.leader is None,
        hold=hold.reason if hold and is_held else "",
    )


def render(document: object) -> bytes:
    """The document as it goes over the wire: compact, keys in alphabetical order."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def parse(body: bytes) -> object:
    """The JSON of a body; raises InvalidRequest, whatever it is that came."""
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"unable to decode body: {error}") from error


# Units


def encode_unit(unit: Unit) -> Document:
    return _present(
        name=unit.name,
        options=[_present(section=o.section, name=o.name, value=o.value) for o in unit.options],
        text=unit.text,
        desiredState=unit.desired and unit.desired.value,
        currentState=unit.current and unit.current.value,
        machineID=unit.machine,
    )


def decode_unit(document: object) -> Unit:
    """The unit in a document; raises InvalidRequest naming the member that is wrong."""
    found = _mapping(document, "a unit")
    return Unit(
        name=UnitName(_text(found, "name")),
        options=tuple(_option(option) for option in _list(found, "options")),
        text=_text(found, "text") or None,
        desired=_target(found, "desiredState"),
        current=_target(found, "currentState"),
        machine=MachineId(_text(found, "machineID")) or None,
    )


def _option(document: object) -> UnitOption:
    found = _mapping(document, "an option")
    return UnitOption(_text(found, "section"), _text(found, "name"), _text(found, "value"))


def _file_of_options(options: Sequence[UnitOption], path: str | None) -> UnitFile:
    """The unit file of these options, if a unit file can say just this."""
    by_section: dict[str, list[UnitOption]] = {}
    for option in options:
        trimmed = replace(option, name=option.name.strip(), value=option.value.strip())
        by_section.setdefault(option.section, []).append(trimmed)
    meant = tuple(option for section in by_section.values() for option in section)
    try:
        file = parse_unit(unit_from_options(meant).text)
    except InvalidUnit as error:
        raise InvalidUnit(f"the options are no unit file: {error.problem}", path=path) from error
    if file.options != meant:
        said = (*file.options, None)
        pairs = zip(meant, said, strict=False)
        odd = next((option for option, other in pairs if option != other), meant[-1])
        line = f"[{odd.section}] {odd.name}={odd.value}"
        raise InvalidUnit(f"option {line!r} cannot stand in a unit file as it is", path=path)
    return file


# States and machines


def encode_listed_state(state: UnitState) -> Document:
    return _present(
        name=state.unit,
        hash=state.hash,
        machineID=state.machine,
        systemdLoadState=state.load,
        systemdActiveState=state.active,
        systemdSubState=state.sub,
    )


def decode_listed_state(document: object) -> ListedState:
    """The state in a document; raises InvalidRequest naming the member that is wrong."""
    found = _mapping(document, "a unit state")
    return ListedState(
        unit=UnitName(_text(found, "name")),
        machine=MachineId(_text(found, "machineID")),
        hash=_text(found, "hash"),
        load=_text(found, "systemdLoadState"),
        active=_text(found, "systemdActiveState"),
        sub=_text(found, "systemdSubState"),
    )


def encode_listed_machine(machine: Machine) -> Document:
    return _present(id=machine.id, primaryIP=machine.address, metadata=dict(machine.metadata))


def decode_listed_machine(document: object) -> Machine:
    """The machine in a document; raises InvalidRequest naming the member that is wrong."""
    found = _mapping(document, "a machine")
    metadata = _mapping(found.get("metadata") or {}, "metadata")
    return Machine(
        id=MachineId(_text(found, "id")),
        address=_text(found, "primaryIP"),
        metadata={key: _text(metadata, key) for key in metadata},
    )


# Reports


def encode_report(told: UnitReport) -> Document:
    return _present(
        name=told.name,
        exists=told.exists,
        hash=told.hash,
        desiredState=told.desired and told.desired.value,
        currentState=told.current.value,
        machineID=told.machine,
        isGlobal=told.is_global,
        states=[{"machineID": state.machine, **encode_state(state)} for state in told.states],
        assignments=[
            _present(
                machineID=row.machine,
                targetState=row.target.value,
                leaving=row.leaving,
                reason=row.reason,
            )
            for row in told.assignments
        ],
        refusals=dict(told.refusals),
        addresses=dict(told.addresses),
        leaderless=told.leaderless,
        hold=told.hold,
    )


def decode_report(document: object) -> UnitReport:
    """The report in a document; raises InvalidRequest naming the member that is wrong."""
    found = _mapping(document, "a report")
    name = UnitName(_text(found, "name"))
    refusals = _mapping(found.get("refusals") or {}, "refusals")
    addresses = _mapping(found.get("addresses") or {}, "addresses")
    return UnitReport(
        name=name,
        exists=found.get("exists") is True,
        hash=_text(found, "hash"),
        desired=_target(found, "desiredState"),
        current=_target(found, "currentState") or TargetState.INACTIVE,
        machine=MachineId(_text(found, "machineID")) or None,
        is_global=found.get("isGlobal") is True,
        states=tuple(_reported_state(name, state) for state in _list(found, "states")),
        assignments=tuple(_assignment(row) for row in _list(found, "assignments")),
        refusals={key: _text(refusals, key) for key in refusals},
        addresses={MachineId(key): _text(addresses, key) for key in addresses},
        leaderless=found.get("leaderless") is True,
        hold=_text(found, "hold"),
    )


def _reported_state(name: UnitName, document: object) -> UnitState:
    found = _mapping(document, "a state")
    try:
        return decode_state(name, MachineId(_text(found, "machineID")), found)
    except MALFORMED as error:
        raise InvalidRequest(f"unable to decode a state of {name}: {error!r}") from error


def _assignment(document: object) -> ReportedAssignment:
    found = _mapping(document, "an assignment")
    return ReportedAssignment(
        machine=MachineId(_text(found, "machineID")),
        target=_target(found, "targetState") or TargetState.INACTIVE,
        leaving=found.get("leaving") is True,
        reason=_text(found, "reason"),
    )


# Holds and events


def encode_hold(hold: Hold | None) -> Document:
    """The hold, or an empty document; `until` is in seconds since the epoch."""
    if hold is None:
        return {}
    return {"machines": sorted(hold.machines), "until": hold.until_s, "reason": hold.reason}


def decode_hold(document: object) -> Hold | None:
    """The hold in a document, None if it is empty; raises InvalidRequest."""
    found = _mapping(document, "a hold")
    return _stored(decode_stored_hold, found, "a hold") if found else None


def decode_event(document: object) -> Event:
    """The event in a document; raises InvalidRequest."""
    return _stored(decode_stored_event, _mapping(document, "an event"), "an event")


def _stored(decode: Callable[[Mapping[str, Any]], _T], found: Mapping[str, Any], what: str) -> _T:
    try:
        return decode(found)
    except MALFORMED as error:
        raise InvalidRequest(f"unable to decode body: {what}: {error!r}") from error


# Pages


def encode_page(kind: str, documents: Sequence[Document], next_token: str | None) -> Document:
    """A page of `kind` (`units`, `events`); an empty one is an empty document."""
    return _present(**{kind: list(documents), "nextPageToken": next_token})


def decode_page(
    kind: str, document: object, decode: Callable[[object], _T]
) -> tuple[list[_T], str | None]:
    """The things on a page and the token of the next; raises InvalidRequest."""
    found = _mapping(document, "a page")
    things = [decode(thing) for thing in _list(found, kind)]
    return things, _text(found, "nextPageToken") or None


# Members


def _present(**members: Any) -> Document:
    return {key: value for key, value in members.items() if value}


def _mapping(document: object, what: str) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise InvalidRequest(f"unable to decode body: {what} has to be a JSON object")
    return document


def _list(document: Mapping[str, Any], member: str) -> list[Any]:
    value = document.get(member)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"unable to decode body: {member} has to be a JSON array")
    return value


def _text(document: Mapping[str, Any], member: str) -> str:
    value = document.get(member)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"unable to decode body: {member} has to be a JSON string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"unable to decode body: {member} is not Unicode text") from error
    return value


def _target(document: Mapping[str, Any], member: str) -> TargetState | None:
    text = _text(document, member)
    return parse_target(text) if text else None
