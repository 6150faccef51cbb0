"""Lists for programs: JSON as docs/lists.schema.json has it, and YAML that says the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.records import EVENTS, MACHINES, STATES, UNITS, Form, Listing, render_json, render_yaml
from cli.tables import View
from fleet.api.schema import ListedState, Unit
from fleet.events import Event
from fleet.machine import Cordon, Machine, MachineId
from fleet.names import UnitName
from fleet.resources import Resources
from fleet.states import TargetState
from fleet.unit import parse_unit

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "lists.schema.json").read_text())
HERE = MachineId("113f16a7b5be4a7ba3a9d58bf1b0b2c1")
VIEW = View(addresses={HERE: "172.17.8.103"})
WEB = UnitName("web.service")
OPTIONS = parse_unit("[Unit]\nDescription=the web\n[Service]\nExecStart=/bin/true\n").options
EVERYWHERE = parse_unit("[Service]\nExecStart=/bin/true\n[X-Fleet]\nGlobal=true\n").options

UP = ListedState(unit=WEB, machine=HERE, hash="aa", load="loaded", active="active", sub="running")
LOST = ListedState(unit=WEB, machine=MachineId("22"), hash="", load="", active="", sub="")
PLACED = Unit(name=WEB, options=OPTIONS, desired=TargetState.LAUNCHED, machine=HERE)
GLOBAL = Unit(name=WEB, options=EVERYWHERE, desired=TargetState.LAUNCHED)
MACHINE = Machine(
    id=HERE,
    address="172.17.8.103",
    metadata={"disk": "ssd", "a-b": "1: x"},
    resources=Resources(cpus=4.0, memory=1 << 30),
    cordon=Cordon(by="alice@box", at_s=1700000000.5, why="new disks", drain=True),
)
BARE = Machine(id=HERE)
TOLD = Event(at_s=1700000000.5, by="alice@box", unit=WEB, what="stored")
ABOUT_NONE = Event(at_s=float("inf"), by="engine", unit="", what='"quoted"\nin two lines')

_KINDS: dict[str, type] = {
    "string": str,
    "null": type(None),
    "boolean": bool,
    "object": dict,
    "number": float,
    "integer": int,
}


def _problems(record: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """How the record differs from what the schema's own words (type, enum, required) allow."""
    found = [f"{name} is missing" for name in schema["required"] if name not in record]
    found += [f"{name} is not described" for name in record if name not in schema["properties"]]
    for name, value in record.items():
        described = schema["properties"].get(name, {"type": "null"})
        types = described["type"]
        kinds = [_KINDS[kind] for kind in ([types] if isinstance(types, str) else types)]
        if type(value) not in kinds:
            found.append(f"{name} is {value!r}")
        if value not in described.get("enum", [value]):
            found.append(f"{name} is {value!r}")
        if isinstance(value, dict) and "properties" in described:
            found += _problems(value, described)
    return found


LISTS = pytest.mark.parametrize(
    ("name", "listing", "things"),
    [
        pytest.param("list-units", STATES, (UP, LOST), id="list-units"),
        pytest.param("list-unit-files", UNITS, (PLACED, GLOBAL), id="list-unit-files"),
        pytest.param("list-machines", MACHINES, (MACHINE, BARE), id="list-machines"),
        pytest.param("events", EVENTS, (TOLD, ABOUT_NONE), id="events"),
    ],
)


@LISTS
def test_json_is_as_the_schema_says(
    name: str, listing: Listing[Any], things: tuple[Any, ...]
) -> None:
    records = json.loads(listing.render(things, VIEW, Form(output="json")))
    assert len(records) == len(things)
    assert [_problems(record, SCHEMA["$defs"][name]) for record in records] == [[], []]


@LISTS
def test_wide_has_more_columns_and_name_only_names(
    name: str, listing: Listing[Any], things: tuple[Any, ...]
) -> None:
    wide = listing.render(things, VIEW, Form(output="wide", fields=listing.fields))
    header = wide.splitlines()[0].split()
    assert set(header) >= {field.upper() for field in listing.fields.split(",")}
    names = listing.render(things, VIEW, Form(output="name"))
    assert names.splitlines() == [listing.name(thing) for thing in things]


def test_nothing_is_an_empty_list_in_every_form() -> None:
    written = {output: STATES.render((), VIEW, Form(output=output)) for output in ("json", "yaml")}
    assert written == {"json": "[]\n", "yaml": "[]\n"}


def test_members_that_programs_rely_on() -> None:
    (record,) = json.loads(STATES.render([UP], VIEW, Form(output="json")))
    assert record == {
        "unit": "web.service",
        "machine": HERE,
        "address": "172.17.8.103",
        "load": "loaded",
        "active": "active",
        "sub": "running",
        "hash": "aa",
    }


def test_yaml_is_written_without_room_for_doubt() -> None:
    assert MACHINES.render([MACHINE, BARE], VIEW, Form(output="yaml")) == (
        f'- machine: "{HERE}"\n'
        '  address: "172.17.8.103"\n'
        "  metadata:\n"
        '    "a-b": "1: x"\n'
        '    disk: "ssd"\n'
        "  cordon:\n"
        "    drain: true\n"
        '    who: "alice@box"\n'
        '    time: "2023-11-14T22:13:20.500+00:00"\n'
        '    why: "new disks"\n'
        "  cpus: 4.0\n"
        "  memory: 1073741824\n"
        '  state: "alive"\n'
        "  why: null\n"
        f'- machine: "{HERE}"\n'
        "  address: null\n"
        "  metadata: {}\n"
        "  cordon: null\n"
        "  cpus: null\n"
        "  memory: null\n"
        '  state: "alive"\n'
        "  why: null\n"
    )
    assert render_yaml([{"what": 'a "b"\nc', "global": True}]) == (
        '- what: "a \\"b\\"\\nc"\n  global: true\n'
    )
    assert render_json([{"what": "ä"}]) == '[\n  {\n    "what": "ä"\n  }\n]\n'
