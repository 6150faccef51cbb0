"""What users may ask for, and what is refused before anything is written."""

from typing import Any

import pytest

from fleet.api.changes import metadata_changes, unit_change, unit_changes
from fleet.api.schema import Unit, decode_unit
from fleet.errors import FleetError, InvalidRequest, InvalidUnit
from fleet.names import UnitName
from fleet.registry import UnitChange
from fleet.states import TargetState
from fleet.unit import parse_unit

TEXT = "[Service]\nExecStart=/bin/true\n"
MACHINE = "113f16a7bd63424bb18e1d2ffde6ef18"


def test_unit_asks_for_a_change() -> None:
    asked = Unit(name=UnitName("a.service"), text=TEXT, desired=TargetState.LOADED)
    assert unit_change(asked) == UnitChange(
        name=UnitName("a.service"), file=parse_unit(TEXT), target=TargetState.LOADED
    )


def fleet(*lines: str) -> str:
    return TEXT + "[X-Fleet]\n" + "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param({"name": "", "text": TEXT}, "cannot be empty", id="no name"),
        pytest.param({"name": "a", "text": TEXT}, "must contain", id="a name without type"),
        pytest.param({"name": "a/b.service", "text": TEXT}, "invalid character", id="a slash"),
        pytest.param({"name": "a.foo", "text": TEXT}, "invalid unit type", id="no unit type"),
        pytest.param({"name": "a.service", "text": "# no\n"}, "no options", id="only a comment"),
        pytest.param({"name": "a.service", "text": "[S]\nfoo\n"}, ":2: 'foo'", id="no option"),
        pytest.param(
            {"name": "a.service", "text": fleet("MachineID=x", "Global=true")},
            "^MachineID cannot be used with Global$",
            id="a contradiction, in fleet 1.0's words",
        ),
        pytest.param(
            {"name": "a.service", "text": fleet("MachineMetadata=foo")},
            "malformed",
            id="metadata that fleet 1.0 passed over",
        ),
        pytest.param(
            {"name": "a.service", "text": fleet("MachineOf=%i")},
            "malformed",
            id="an instance that this unit has not",
        ),
        pytest.param(
            {"name": "a@.service", "text": TEXT, "desiredState": "launched"},
            "template",
            id="a template to be launched",
        ),
        pytest.param(
            {"name": "a@.service", "desiredState": "loaded"}, "template", id="one to be loaded"
        ),
    ],
)
def test_change_that_cannot_be_is_refused(document: Any, message: str) -> None:
    with pytest.raises(FleetError, match=message) as caught:
        unit_change(decode_unit(document))
    assert isinstance(caught.value, InvalidRequest | InvalidUnit)


def test_template_may_speak_of_its_instance() -> None:
    asked = Unit(name=UnitName("a@.service"), text=fleet("MachineMetadata=zone=%i"))
    assert unit_change(asked).file is not None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param({}, "JSON array", id="an object"),
        pytest.param(None, "JSON array", id="null"),
        pytest.param([None], "JSON object", id="a null among units"),
        pytest.param([["a.service"]], "JSON object", id="an array among units"),
        pytest.param([{"name": "a.service"}], "a.service: give", id="nothing asked of a unit"),
        pytest.param(
            [{"name": "a.service", "text": TEXT}, {"name": "a.service", "desiredState": "loaded"}],
            "a.service is asked for more than once",
            id="a unit twice",
        ),
        pytest.param(
            [
                {"name": "a.service", "text": TEXT},
                {"name": "b.service", "text": fleet("MachineID=x", "Global=true")},
            ],
            "^b.service: MachineID cannot",
            id="a contradiction names its unit",
        ),
        pytest.param(
            [{"name": "a.service", "text": "#" * 600_000}],
            "^a.service: the unit file has 600000 bytes; the limit is",
            id="a unit that is too large is named",
        ),
    ],
)
def test_bulk_that_cannot_be_is_refused(document: Any, message: str) -> None:
    with pytest.raises(FleetError, match=message) as caught:
        unit_changes(document)
    assert isinstance(caught.value, InvalidRequest | InvalidUnit)


def test_bulk_may_destroy() -> None:
    asked = [{"name": "a.service", "destroy": True}, {"name": "b.service", "text": TEXT}]
    destroy, store = unit_changes(asked)
    assert destroy == UnitChange(name=UnitName("a.service"), destroy=True)
    assert (store.name, store.destroy) == ("b.service", False)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param({"destroy": False}, "destroy can only be true", id="said no"),
        pytest.param({"destroy": "yes"}, "destroy can only be true", id="no boolean"),
        pytest.param({"destroy": True, "text": TEXT}, "goes with nothing", id="and contents"),
        pytest.param(
            {"destroy": True, "desiredState": "loaded"}, "goes with nothing", id="and a state"
        ),
        pytest.param({"destroy": True, "name": "a"}, "must contain", id="no name of a unit"),
    ],
)
def test_removal_that_says_more_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        unit_changes([{"name": "a.service"} | asked])


@pytest.mark.parametrize("operation", ["add", "replace"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"value": "v"}, id="as fleet 1.0 took it"),
        pytest.param({"Value": "v"}, id="as its tests wrote it"),
        pytest.param("v", id="as it documented it"),
    ],
)
def test_metadata_is_set_in_every_way_that_clients_know(operation: str, value: Any) -> None:
    document = [{"op": operation, "path": f"/{MACHINE}/metadata/a.B_c-1", "value": value}]
    assert metadata_changes(document) == ((MACHINE, "a.B_c-1", "v"),)


def test_metadata_is_removed_and_order_is_kept() -> None:
    path = f"/{MACHINE}/metadata/a"
    document = [
        {"op": "remove", "path": path},
        {"Op": "add", "Path": path, "Value": {"value": "1"}},
        {"op": "remove", "path": path, "value": {"value": "passed over"}},
    ]
    assert [value for _, _, value in metadata_changes(document)] == [None, "1", None]


PATH = f"/{MACHINE}/metadata/a"
BAD_OP = "^invalid op: expect add, remove, or replace$"
BAD_PATH = "^machine metadata path invalid$"
NO_VALUE = "^invalid value: add and replace require a value$"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param({}, "JSON array", id="an object"),
        pytest.param("x", "JSON array", id="a text"),
        pytest.param([None], "JSON object", id="a null among operations"),
        pytest.param([[]], "JSON object", id="an array among operations"),
        pytest.param([{}], BAD_OP, id="an empty operation"),
        pytest.param([{"op": "test", "path": PATH}], BAD_OP, id="an unknown operation"),
        pytest.param([{"op": ["add"], "path": PATH}], BAD_OP, id="an array for an operation"),
        pytest.param([{"op": "add"}], BAD_PATH, id="no path"),
        pytest.param([{"op": "remove", "path": 5}], BAD_PATH, id="a number for a path"),
        pytest.param([{"op": "remove", "path": "/a/b/c"}], BAD_PATH, id="not metadata"),
        pytest.param([{"op": "remove", "path": f"{PATH}/b"}], BAD_PATH, id="a deeper path"),
        pytest.param([{"op": "remove", "path": f"{PATH} b"}], BAD_PATH, id="a blank in a key"),
        pytest.param([{"op": "remove", "path": f"{PATH}\n"}], BAD_PATH, id="a newline at the end"),
        pytest.param([{"op": "remove", "path": f"/{MACHINE}/metadata/"}], BAD_PATH, id="no key"),
        pytest.param([{"op": "remove", "path": "//metadata/a"}], BAD_PATH, id="no machine"),
        pytest.param(
            [{"op": "remove", "path": "/\ud800/metadata/a"}], BAD_PATH, id="a lone surrogate"
        ),
        pytest.param([{"op": "add", "path": PATH}], NO_VALUE, id="no value"),
        pytest.param([{"op": "add", "path": PATH, "value": ""}], NO_VALUE, id="an empty value"),
        pytest.param([{"op": "add", "path": PATH, "value": {}}], NO_VALUE, id="an empty object"),
        pytest.param([{"op": "add", "path": PATH, "value": 5}], "invalid value", id="a number"),
        pytest.param(
            [{"op": "add", "path": PATH, "value": {"value": ["v"]}}], "invalid value", id="an array"
        ),
        pytest.param(
            [{"op": "add", "path": PATH, "value": "\ud800"}], "invalid value", id="half a letter"
        ),
        pytest.param(
            [{"op": "add", "path": PATH, "value": "v" * 5000}], "4096 bytes", id="a long value"
        ),
    ],
)
def test_malformed_metadata_patch_is_refused(document: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        metadata_changes(document)
