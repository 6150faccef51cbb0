"""The documents of the HTTP API and the values they stand for.

`Unit`, `ListedState` and machines are fleet 1.0's entities, member for member: keys in alphabetical
order, and what is empty left out. `Unit.text`, `Unit.source` and `Unit.max_unavailable` are ours;
original clients pass over members they do not know.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fleet.api.members import Document, array, count, mapping, present, stored, target_of, text_of
from fleet.errors import InvalidUnit
from fleet.machine import Cordon, Machine, MachineId, encode_cordon
from fleet.machine import decode_cordon as decode_stored_cordon
from fleet.names import UnitName
from fleet.resources import decode_resources, encode_resources
from fleet.states import TargetState, UnitState
from fleet.unit import UnitFile, UnitOption, parse_unit, unit_from_options

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit as the API shows it and takes it.

    `text` is the author's own text, where it was given or asked for; `source` what the unit is to
    belong to, None for no word on that; `max_unavailable` goes with new contents that are given, 0
    for no word on that. A name read from a request has not been checked yet.
    """

    name: UnitName
    options: tuple[UnitOption, ...] = ()
    text: str | None = None
    desired: TargetState | None = None
    current: TargetState | None = None
    machine: MachineId | None = None
    source: str | None = None
    max_unavailable: int = 0

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


# Units


def encode_unit(unit: Unit) -> Document:
    return present(
        name=unit.name,
        options=[present(section=o.section, name=o.name, value=o.value) for o in unit.options],
        text=unit.text,
        desiredState=unit.desired and unit.desired.value,
        currentState=unit.current and unit.current.value,
        machineID=unit.machine,
        source=unit.source,
        maxUnavailable=unit.max_unavailable or None,
    )


def decode_unit(document: object) -> Unit:
    """The unit in a document; raises InvalidRequest naming the member that is wrong."""
    found = mapping(document, "a unit")
    return Unit(
        name=UnitName(text_of(found, "name")),
        options=tuple(_option(option) for option in array(found, "options")),
        text=text_of(found, "text") or None,
        desired=target_of(found, "desiredState"),
        current=target_of(found, "currentState"),
        machine=MachineId(text_of(found, "machineID")) or None,
        source=None if found.get("source") is None else text_of(found, "source"),
        max_unavailable=count(found, "maxUnavailable"),
    )


def _option(document: object) -> UnitOption:
    found = mapping(document, "an option")
    return UnitOption(text_of(found, "section"), text_of(found, "name"), text_of(found, "value"))


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
        raise InvalidUnit(error.problem, path=path) from error
    if file.options != meant:
        said = (*file.options, None)
        pairs = zip(meant, said, strict=False)
        odd = next((option for option, other in pairs if option != other), meant[-1])
        line = f"[{odd.section}] {odd.name}={odd.value}"
        raise InvalidUnit(f"option {line!r} cannot stand in a unit file as it is", path=path)
    return file


# States and machines


def encode_listed_state(state: UnitState) -> Document:
    return present(
        name=state.unit,
        hash=state.hash,
        machineID=state.machine,
        systemdLoadState=state.load,
        systemdActiveState=state.active,
        systemdSubState=state.sub,
    )


def decode_listed_state(document: object) -> ListedState:
    """The state in a document; raises InvalidRequest naming the member that is wrong."""
    found = mapping(document, "a unit state")
    return ListedState(
        unit=UnitName(text_of(found, "name")),
        machine=MachineId(text_of(found, "machineID")),
        hash=text_of(found, "hash"),
        load=text_of(found, "systemdLoadState"),
        active=text_of(found, "systemdActiveState"),
        sub=text_of(found, "systemdSubState"),
    )


def encode_listed_machine(machine: Machine) -> Document:
    return present(
        id=machine.id,
        primaryIP=machine.address,
        metadata=dict(machine.metadata),
        systemdUser=None if machine.user is None else str(machine.user),
        cordon=machine.cordon and encode_cordon(machine.cordon),
        resources=encode_resources(machine.resources) if machine.resources else None,
    )


def decode_listed_machine(document: object) -> Machine:
    """The machine in a document; raises InvalidRequest naming the member that is wrong."""
    found = mapping(document, "a machine")
    metadata = mapping(found.get("metadata") or {}, "metadata")
    user = text_of(found, "systemdUser")
    resources = mapping(found.get("resources") or {}, "resources")
    return Machine(
        id=MachineId(text_of(found, "id")),
        address=text_of(found, "primaryIP"),
        metadata={key: text_of(metadata, key) for key in metadata},
        user=int(user) if user.isascii() and user.isdigit() else None,
        cordon=_cordon(found["cordon"]) if found.get("cordon") else None,
        resources=stored(decode_resources, resources, "resources"),
    )


def encode_listed_cordon(machine: MachineId, cordon: Cordon) -> Document:
    return {"machineID": machine, **encode_cordon(cordon)}


def decode_listed_cordon(document: object) -> tuple[MachineId, Cordon]:
    """The machine and its cordon in a document; raises InvalidRequest."""
    found = mapping(document, "a cordon")
    return MachineId(text_of(found, "machineID")), _cordon(found)


def _cordon(document: object) -> Cordon:
    return stored(decode_stored_cordon, mapping(document, "a cordon"), "a cordon")


# Pages


def encode_page(kind: str, documents: Sequence[Document], next_token: str | None) -> Document:
    """A page of `kind` (`units`, `events`); an empty one is an empty document."""
    return present(**{kind: list(documents), "nextPageToken": next_token})


def decode_page(
    kind: str, document: object, decode: Callable[[object], _T]
) -> tuple[list[_T], str | None]:
    """The things on a page and the token of the next; raises InvalidRequest."""
    found = mapping(document, "a page")
    things = [decode(thing) for thing in array(found, kind)]
    return things, text_of(found, "nextPageToken") or None
