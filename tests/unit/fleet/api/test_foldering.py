"""Inventories and plans read back as they were written, and strictly."""

import pytest

from fleet.api.foldering import (
    decode_foreseen,
    decode_inventory,
    encode_foreseen,
    encode_inventory,
)
from fleet.errors import InvalidRequest
from fleet.folder.difference import Inventory, StoredUnit
from fleet.foresight import Foreseen, ForeseenUnit
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState

A = UnitName("a.service")
ONE, TWO = MachineId("1" * 32), MachineId("2" * 32)


def test_inventory_reads_back_as_it_was_written() -> None:
    unit = StoredUnit(
        name=A, hash="h", file="f", target=TargetState.LOADED, source="s", text="[Unit]\n"
    )
    inventory = Inventory(revision=7, units={A: unit})
    assert decode_inventory(encode_inventory(inventory)) == inventory


def test_foresight_reads_back_as_it_was_written() -> None:
    unit = ForeseenUnit(
        name=A, was=(ONE,), machines=(TWO,), reasons={TWO: "room"}, refusals={"": "none"}
    )
    foreseen = Foreseen(revision=7, units=(unit,), addresses={ONE: "10.0.0.1"})
    assert decode_foreseen(encode_foreseen(foreseen)) == foreseen


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"revision": "7"},
        {"revision": True},
        {"revision": 1, "units": 5},
        {"revision": 1, "units": [5]},
    ],
    ids=repr,
)
def test_document_that_is_malformed_is_refused(document: object) -> None:
    for decode in (decode_inventory, decode_foreseen):
        with pytest.raises(InvalidRequest):
            decode(document)
