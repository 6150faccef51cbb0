"""Documents: fleet 1.0's entities to the letter, ours on top, and nothing taken on trust."""

import json
from typing import Any

import pytest

from fleet.api.happenings import decode_event, decode_hold, encode_hold
from fleet.api.members import parse, render
from fleet.api.reports import ReportedAssignment, UnitReport, decode_report, encode_report
from fleet.api.schema import (
    ListedState,
    Unit,
    decode_listed_machine,
    decode_listed_state,
    decode_page,
    decode_unit,
    encode_listed_machine,
    encode_listed_state,
    encode_page,
    encode_unit,
)
from fleet.errors import InvalidRequest, InvalidUnit
from fleet.hold import Hold
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.states import TargetState, UnitState
from fleet.unit import UnitOption

WEB = UnitName("web.service")
ONE, TWO = MachineId("1" * 32), MachineId("2" * 32)


def a_state() -> UnitState:
    return UnitState(
        unit=WEB,
        machine=ONE,
        hash="abc",
        current=TargetState.LAUNCHED,
        load="loaded",
        active="active",
        sub="running",
        since_s=12.5,
        result="success",
        journal=("one", "two"),
    )


def test_machines_are_rendered_as_fleet_rendered_them() -> None:
    machines = [
        Machine(id=MachineId("XXX")),
        Machine(id=MachineId("YYY"), address="1.2.3.4", metadata={"ping": "pong"}),
    ]
    page = encode_page("machines", [encode_listed_machine(machine) for machine in machines], None)
    assert render(page) == (
        b'{"machines":[{"id":"XXX"},{"id":"YYY","metadata":{"ping":"pong"},"primaryIP":"1.2.3.4"}]}'
    )


def test_unit_is_rendered_with_its_members_in_alphabetical_order() -> None:
    unit = Unit(
        name=WEB,
        options=(UnitOption("Service", "ExecStart", "/bin/true"), UnitOption("Service", "A", "")),
        desired=TargetState.LAUNCHED,
        current=TargetState.LOADED,
        machine=ONE,
    )
    assert render(encode_unit(unit)).decode() == (
        '{"currentState":"loaded","desiredState":"launched","machineID":"' + ONE + '",'
        '"name":"web.service","options":['
        '{"name":"ExecStart","section":"Service","value":"/bin/true"},'
        '{"name":"A","section":"Service"}]}'
    )


def test_state_is_rendered_with_systemds_three_words() -> None:
    assert json.loads(render(encode_listed_state(a_state()))) == {
        "name": WEB,
        "hash": "abc",
        "machineID": ONE,
        "systemdLoadState": "loaded",
        "systemdActiveState": "active",
        "systemdSubState": "running",
    }


def test_empty_page_is_an_empty_document() -> None:
    assert render(encode_page("units", [], None)) == b"{}"
    assert render(encode_page("units", [], "ZAACAA==")) == b'{"nextPageToken":"ZAACAA=="}'


def test_entities_are_read_as_they_were_written() -> None:
    unit = Unit(
        name=WEB,
        options=(UnitOption("Service", "ExecStart", "/bin/true"),),
        text="[Service]\nExecStart=/bin/true\n",
        desired=TargetState.LAUNCHED,
        current=TargetState.LOADED,
        machine=ONE,
    )
    assert decode_unit(encode_unit(unit)) == unit
    machine = Machine(id=ONE, address="10.0.0.1", metadata={"a": "b"})
    assert decode_listed_machine(encode_listed_machine(machine)) == machine
    assert decode_listed_state(encode_listed_state(a_state())) == ListedState(
        unit=WEB, machine=ONE, hash="abc", load="loaded", active="active", sub="running"
    )
    page = encode_page("units", [encode_unit(unit)], "t")
    assert decode_page("units", page, decode_unit) == ([unit], "t")
    assert decode_page("units", {}, decode_unit) == ([], None)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="an array"),
        pytest.param("web.service", id="a text"),
        pytest.param({"name": 5}, id="a number for a name"),
        pytest.param({"name": ["web.service"]}, id="an array for a name"),
        pytest.param({"name": "\ud800.service"}, id="a lone surrogate in a name"),
        pytest.param({"name": WEB, "options": {}}, id="an object for options"),
        pytest.param({"name": WEB, "options": "x"}, id="a text for options"),
        pytest.param({"name": WEB, "options": [None]}, id="a null among options"),
        pytest.param({"name": WEB, "options": [["Service", "A", "b"]]}, id="an array as option"),
        pytest.param({"name": WEB, "options": [{"section": 1}]}, id="a number for a section"),
        pytest.param({"name": WEB, "options": [{"value": True}]}, id="a boolean for a value"),
        pytest.param({"name": WEB, "text": ["[Service]"]}, id="an array for a text"),
        pytest.param({"name": WEB, "text": "\udcff"}, id="a lone surrogate in a text"),
        pytest.param({"name": WEB, "desiredState": "started"}, id="an unknown state"),
        pytest.param({"name": WEB, "desiredState": 1}, id="a number for a state"),
    ],
)
def test_malformed_unit_is_refused(document: Any) -> None:
    with pytest.raises(InvalidRequest):
        decode_unit(document)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"{} {}", id="two documents"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param("{}".encode("utf-16"), id="UTF-16"),
        pytest.param(b"[" * 100_000, id="nested beyond measure"),
        pytest.param(b"1" * 10_000, id="a number beyond measure"),
    ],
)
def test_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="unable to decode body"):
        parse(body)


def options(*triples: tuple[str, str, str]) -> Unit:
    return Unit(name=WEB, options=tuple(UnitOption(*triple) for triple in triples))


def test_file_of_options_is_their_canonical_text() -> None:
    unit = options(("Service", "A", "1"), ("Unit", "D", "x"), ("Service", "B", " 2 \\\n 3"))
    assert unit.file is not None
    assert unit.file.text == "[Service]\nA=1\nB=2 \\\n 3\n\n[Unit]\nD=x\n"
    assert [option.name for option in unit.file.options] == ["A", "B", "D"]


def test_file_keeps_the_authors_text() -> None:
    text = "# mine\n[Service]\nA=1\n"
    assert Unit(name=WEB).file is None
    alone = Unit(name=WEB, text=text)
    both = Unit(name=WEB, text=text, options=(UnitOption("Service", "A", "1"),))
    assert alone.file == both.file
    assert alone.file is not None
    assert alone.file.text == text


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(
            options(("Service", "A\n[X-Fleet]\nGlobal", "true")), id="a section in a name"
        ),
        pytest.param(options(("Service", "A", "1\n[X-Fleet]")), id="a section in a value"),
        pytest.param(options(("S]\nA=1\n[X-Fleet", "B", "2")), id="options in a section"),
        pytest.param(options(("Service", "A=B", "c")), id="an equals sign in a name"),
        pytest.param(options(("Service", "#A", "c")), id="a comment for a name"),
        pytest.param(
            options(("Service", "A", "b \\"), ("Service", "C", "d")), id="a value that swallows"
        ),
        pytest.param(options(("Service", "A", "x" * 600_000)), id="more than a unit may have"),
        pytest.param(Unit(name=WEB, text="x" * 600_000), id="a text beyond measure"),
        pytest.param(Unit(name=WEB, text="[Service\n"), id="a malformed text"),
        pytest.param(
            Unit(name=WEB, text="[S]\nA=1\n", options=(UnitOption("S", "A", "2"),)),
            id="text and options that disagree",
        ),
    ],
)
def test_contents_that_cannot_be_a_unit_file_are_refused(unit: Unit) -> None:
    with pytest.raises(InvalidUnit, match=r"^web\.service:"):
        assert unit.file


def test_hold_is_read_as_it_was_written() -> None:
    hold = Hold(machines=frozenset({ONE, TWO}), until_s=1732155200.5, reason="they vanished")
    assert decode_hold(json.loads(render(encode_hold(hold)))) == hold
    assert encode_hold(None) == {}
    assert decode_hold({}) is None


@pytest.mark.parametrize("document", [[], {"until": 5}, {"machines": 5, "until": 5, "reason": ""}])
def test_malformed_hold_is_refused(document: Any) -> None:
    with pytest.raises(InvalidRequest, match="a hold"):
        decode_hold(document)


def test_malformed_event_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="an event"):
        decode_event({"at": "soon", "by": "", "unit": "", "what": ""})


def test_report_is_read_as_it_was_written() -> None:
    told = UnitReport(
        name=WEB,
        exists=True,
        hash="abc",
        desired=TargetState.LAUNCHED,
        current=TargetState.LAUNCHED,
        machine=ONE,
        is_global=True,
        states=(a_state(),),
        assignments=(ReportedAssignment(machine=ONE, target=TargetState.LOADED, leaving=True),),
        refusals={ONE: "full", "": "brake"},
        addresses={ONE: "10.0.0.1"},
        leaderless=True,
        hold="they vanished",
        fence="it is fenced",
        fence_until_s=1732155200.5,
    )
    assert decode_report(json.loads(render(encode_report(told)))) == told
    nothing = UnitReport(name=WEB)
    assert decode_report(json.loads(render(encode_report(nothing)))) == nothing


@pytest.mark.parametrize(
    "document",
    [
        pytest.param([], id="an array"),
        pytest.param({"name": WEB, "states": [{"machineID": ONE}]}, id="half a state"),
        pytest.param({"name": WEB, "states": [5]}, id="a number for a state"),
        pytest.param({"name": WEB, "fenceUntil": "soon"}, id="a text for a time"),
        pytest.param({"name": WEB, "assignments": "none"}, id="a text for assignments"),
        pytest.param({"name": WEB, "refusals": ["x"]}, id="an array for refusals"),
        pytest.param({"name": WEB, "addresses": {ONE: 7}}, id="a number for an address"),
    ],
)
def test_malformed_report_is_refused(document: Any) -> None:
    with pytest.raises(InvalidRequest):
        decode_report(document)
