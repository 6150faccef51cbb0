"""What users ask for in the bodies of requests, checked: nothing here reads or writes a store."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from fleet.api.members import parse
from fleet.api.schema import Unit, decode_unit
from fleet.change import UnitChange
from fleet.errors import InvalidRequest, InvalidUnit
from fleet.folder.settings import check_source
from fleet.machine import Cordon, MachineId
from fleet.names import parse_name, split_name
from fleet.options import check_unit, fleet_options, read_requirements
from fleet.states import TargetState

MetadataChange = tuple[MachineId, str, str | None]

# An empty object of three bytes takes 72 in memory. A thousand units as options are some 100,000.
MAX_VALUES = 2_000_000
# Metadata is for constraints to compare; this keeps a machine's share of the store small.
MAX_METADATA_BYTES = 4096
# As MaxUnavailable= takes it (`fleet.options`).
MAX_UNAVAILABLE = 999_999
_METADATA_PATH = re.compile(r"/([^/]{1,255})/metadata/([A-Za-z0-9_.-]{1,255})")


def parse_request(body: bytes) -> object:
    """The JSON of a request; raises InvalidRequest if it is none, or would grow in memory."""
    if sum(body.count(sign) for sign in (b"[", b"{", b",")) > MAX_VALUES:
        raise InvalidRequest(
            f"unable to decode body: it has more than {MAX_VALUES} values; send it in parts"
        )
    return parse(body)


def unit_change(asked: Unit) -> UnitChange:
    """The change that this unit, sent by a user, asks for.

    Raises InvalidRequest or InvalidUnit if its name or contents cannot be, or if a template is to
    be loaded or launched.
    """
    name = parse_name(asked.name)
    file = asked.file
    if file is not None:
        if not file.options:
            raise InvalidUnit("the unit file has no options", path=name)
        check_unit(file)
        read_requirements(fleet_options(file), name)
    if split_name(name).is_template and asked.desired not in (None, TargetState.INACTIVE):
        raise InvalidRequest(
            f'cannot activate template "{name}": submit it, and name an instance of it'
        )
    if asked.max_unavailable > (MAX_UNAVAILABLE if file else 0):
        raise InvalidRequest(f"{name}: maxUnavailable goes with contents, up to {MAX_UNAVAILABLE}")
    return UnitChange(
        name=name,
        file=file,
        target=asked.desired,
        rendered=asked.text is None,
        source=asked.source if asked.source is None else check_source(asked.source),
        max_unavailable=asked.max_unavailable,
    )


def unit_changes(document: object) -> tuple[UnitChange, ...]:
    """The changes in the body of a bulk request; raises InvalidRequest or InvalidUnit."""
    if not isinstance(document, list):
        raise InvalidRequest("unable to decode body: it has to be a JSON array of units")
    changes = tuple(_named_change(asked) for asked in document)
    counted = Counter(change.name for change in changes)
    twice = sorted(name for name, count in counted.items() if count > 1)
    if twice:
        raise InvalidRequest(f"{', '.join(twice)} is asked for more than once")
    return changes


def _named_change(document: object) -> UnitChange:
    """Like unit_change, or the removal that is asked for, with every refusal naming the unit."""
    asked = decode_unit(document)
    if isinstance(document, dict) and "destroy" in document:
        return _removal(asked, document["destroy"])
    try:
        change = unit_change(asked)
    except InvalidUnit as error:
        if error.path is not None:
            raise
        raise InvalidUnit(error.problem, path=asked.name, line=error.line) from error
    if change.file is None and change.target is None and change.source is None:
        raise InvalidRequest(
            f"{change.name}: give its text, its options, a desiredState, a source or destroy"
        )
    return change


def _removal(asked: Unit, destroy: object) -> UnitChange:
    name = parse_name(asked.name)
    if destroy is not True:
        raise InvalidRequest(f"{name}: destroy can only be true")
    if asked.text or asked.options or asked.desired or asked.source:
        raise InvalidRequest(f"{name}: destroy goes with nothing but the name")
    return UnitChange(name=name, destroy=True)


def metadata_changes(document: object) -> tuple[MetadataChange, ...]:
    """The changes in the body of a patch of machines, in order; raises InvalidRequest."""
    if not isinstance(document, list):
        raise InvalidRequest("unable to decode body: it has to be a JSON array of operations")
    return tuple(_metadata_change(operation) for operation in document)


def _metadata_change(operation: object) -> MetadataChange:
    if not isinstance(operation, dict):
        raise InvalidRequest("unable to decode body: an operation has to be a JSON object")
    members = _folded(operation)
    verb = members.get("op")
    if verb not in ("add", "remove", "replace"):
        raise InvalidRequest("invalid op: expect add, remove, or replace")
    path = members.get("path")
    found = _METADATA_PATH.fullmatch(path) if isinstance(path, str) else None
    if found is None or not _is_text(found[1]):
        raise InvalidRequest("machine metadata path invalid")
    machine, key = MachineId(found[1]), found[2]
    return machine, key, None if verb == "remove" else _metadata_value(members.get("value"))


def _metadata_value(value: object) -> str:
    """The value, given as a text or, as fleet 1.0 wants it, as an object that holds one."""
    if isinstance(value, dict):
        value = _folded(value).get("value")
    if value is None or value == "":
        raise InvalidRequest("invalid value: add and replace require a value")
    if not isinstance(value, str) or not _is_text(value):
        raise InvalidRequest("invalid value: it has to be a text")
    if len(value.encode()) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"invalid value: it has more than {MAX_METADATA_BYTES} bytes")
    return value


def asked_cordon(document: object, *, by: str) -> Cordon:
    """The cordon in the body of a request, as that user's; raises InvalidRequest."""
    if not isinstance(document, dict):
        raise InvalidRequest("unable to decode body: a cordon has to be a JSON object")
    why, drain = document.get("why", ""), document.get("drain", False)
    if not isinstance(why, str) or not _is_text(why):
        raise InvalidRequest("unable to decode body: why has to be a JSON string")
    if not isinstance(drain, bool):
        raise InvalidRequest("unable to decode body: drain has to be true or false")
    if len(why.encode()) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"why has more than {MAX_METADATA_BYTES} bytes")
    return Cordon(by=by, why=" ".join(why.split()), drain=drain)


def _folded(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members by lower-case name: fleet 1.0's decoder took any case, and clients use that."""
    return {name.lower(): value for name, value in members.items()}


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
