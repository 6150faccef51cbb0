"""The documents that folders of unit files need: inventories, and the scheduler's foresight."""

from typing import Any

from fleet.api.members import Document, array, mapping, present, target_of, text_of
from fleet.errors import InvalidRequest
from fleet.folder.difference import Inventory, StoredUnit
from fleet.foresight import Foreseen, ForeseenUnit
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState


def encode_inventory(inventory: Inventory) -> Document:
    return {
        "revision": inventory.revision,
        "units": [
            present(
                name=unit.name,
                hash=unit.hash,
                file=unit.file,
                desiredState=unit.target.value,
                source=unit.source,
                text=unit.text,
            )
            for unit in inventory.units.values()
        ],
    }


def decode_inventory(document: object) -> Inventory:
    """The inventory in a document; raises InvalidRequest naming the member that is wrong."""
    found = mapping(document, "an inventory")
    units = [_stored(unit) for unit in array(found, "units")]
    return Inventory(revision=_revision(found), units={unit.name: unit for unit in units})


def _stored(document: object) -> StoredUnit:
    found = mapping(document, "a unit")
    return StoredUnit(
        name=UnitName(text_of(found, "name")),
        hash=text_of(found, "hash"),
        file=text_of(found, "file"),
        target=target_of(found, "desiredState") or TargetState.INACTIVE,
        source=text_of(found, "source"),
        text=text_of(found, "text") if "text" in found else None,
    )


def encode_foreseen(foreseen: Foreseen) -> Document:
    return {
        "revision": foreseen.revision,
        "units": [
            present(
                name=unit.name,
                was=list(unit.was),
                machines=list(unit.machines),
                reasons=dict(unit.reasons),
                refusals=dict(unit.refusals),
            )
            for unit in foreseen.units
        ],
        "addresses": dict(foreseen.addresses),
    }


def decode_foreseen(document: object) -> Foreseen:
    """What is foreseen in a document; raises InvalidRequest naming the member that is wrong."""
    found = mapping(document, "what is foreseen")
    addresses = mapping(found.get("addresses") or {}, "addresses")
    return Foreseen(
        revision=_revision(found),
        units=tuple(_foreseen(unit) for unit in array(found, "units")),
        addresses={MachineId(key): text_of(addresses, key) for key in addresses},
    )


def _foreseen(document: object) -> ForeseenUnit:
    found = mapping(document, "a unit")
    reasons = mapping(found.get("reasons") or {}, "reasons")
    refusals = mapping(found.get("refusals") or {}, "refusals")
    return ForeseenUnit(
        name=UnitName(text_of(found, "name")),
        was=_machines(found, "was"),
        machines=_machines(found, "machines"),
        reasons={MachineId(key): text_of(reasons, key) for key in reasons},
        refusals={key: text_of(refusals, key) for key in refusals},
    )


def _machines(document: Any, member: str) -> tuple[MachineId, ...]:
    return tuple(MachineId(str(machine)) for machine in array(document, member))


def _revision(document: Any) -> int:
    revision = document.get("revision")
    if type(revision) is not int:
        raise InvalidRequest("unable to decode body: revision has to be a number")
    return revision
