"""Machines: their names, the metadata that counts, and what is stored of them."""

import json

import pytest

from fleet.errors import MALFORMED
from fleet.machine import Machine, MachineId, decode_machine, encode_machine, merge_metadata

_MACHINE = Machine(
    id=MachineId("113f16a7c1d84d3ab2e4f5a6b7c8d9e0"),
    address="10.0.0.1",
    metadata={"disk": "ssd"},
    version="2.0.0",
    boot_id="b",
    capabilities={"DISABLE_ENGINE": True},
    user=1000,
)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        pytest.param("113f16a7c1d84d3ab2e4f5a6b7c8d9e0", True, id="its id"),
        pytest.param("113f16a7", True, id="its short id"),
        pytest.param("113f16a", False, id="shorter"),
        pytest.param("113f16a7c", False, id="longer"),
        pytest.param("113F16A7", False, id="another case"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_machine_answers_to_its_names(text: str, answers: bool) -> None:
    assert _MACHINE.answers_to(text) is answers


def test_machine_with_a_short_id_has_it_whole() -> None:
    assert Machine(id=MachineId("abc")).short_id == "abc"


@pytest.mark.parametrize(
    ("own", "operator_set", "merged"),
    [
        pytest.param({}, {}, {}, id="nothing"),
        pytest.param({"a": "1"}, {}, {"a": "1"}, id="its own"),
        pytest.param({}, {"a": "1"}, {"a": "1"}, id="an operator's"),
        pytest.param({"a": "1"}, {"a": "2"}, {"a": "2"}, id="the operator's counts"),
        pytest.param({"a": "1", "b": "2"}, {"a": ""}, {"b": "2"}, id="an empty one takes away"),
        pytest.param({}, {"a": ""}, {}, id="an empty one of a key that is not there"),
        pytest.param({"a": ""}, {}, {"a": ""}, id="its own may be empty"),
    ],
)
def test_metadata_is_merged(
    own: dict[str, str], operator_set: dict[str, str], merged: dict[str, str]
) -> None:
    assert merge_metadata(own, operator_set) == merged


def test_machine_comes_back_as_it_was_stored() -> None:
    assert decode_machine(json.loads(json.dumps(encode_machine(_MACHINE)))) == _MACHINE


def test_machine_of_an_older_version_has_defaults() -> None:
    assert decode_machine({"id": "m"}) == Machine(id=MachineId("m"))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({}, id="no id"),
        pytest.param([], id="a list"),
        pytest.param(None, id="nothing"),
        pytest.param({"id": "m", "metadata": ["a"]}, id="metadata in a list"),
    ],
)
def test_malformed_machine_is_refused(document: object) -> None:
    with pytest.raises(MALFORMED):
        decode_machine(document)  # type: ignore[arg-type]
