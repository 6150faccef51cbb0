"""JSON on the wire, and the members of its documents read strictly.

A member of the wrong type raises InvalidRequest with its name, never anything else.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fleet.errors import MALFORMED, InvalidRequest
from fleet.states import TargetState, parse_target

Document = dict[str, Any]

_T = TypeVar("_T")

_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def render(document: object) -> bytes:
    """The document as it goes over the wire: compact, keys in alphabetical order."""
    return _encoder.encode(document).encode()


def parse(body: bytes) -> object:
    """The JSON of a body; raises InvalidRequest, whatever it is that came."""
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"unable to decode body: {error}") from error


def present(**members: Any) -> Document:
    return {key: value for key, value in members.items() if value}


def mapping(document: object, what: str) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise InvalidRequest(f"unable to decode body: {what} has to be a JSON object")
    return document


def array(document: Mapping[str, Any], member: str) -> list[Any]:
    value = document.get(member)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"unable to decode body: {member} has to be a JSON array")
    return value


def text_of(document: Mapping[str, Any], member: str) -> str:
    value = document.get(member)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"unable to decode body: {member} has to be a JSON string")
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"unable to decode body: {member} is not Unicode text") from error
    return value


def number_of(document: Mapping[str, Any], member: str) -> float:
    value = document.get(member) or 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRequest(f"unable to decode body: {member} has to be a JSON number")
    return float(value)


def target_of(document: Mapping[str, Any], member: str) -> TargetState | None:
    text = text_of(document, member)
    return parse_target(text) if text else None


def flag(document: Mapping[str, Any], member: str) -> bool:
    return document.get(member) is True


def count(document: Mapping[str, Any], member: str) -> int:
    """A number of things; 0 if it is left out."""
    value = document.get(member, 0)
    if type(value) is not int or value < 0:
        raise InvalidRequest(f"unable to decode body: {member} has to be a number of things")
    return value


def number(document: Mapping[str, Any], member: str) -> float:
    value = document.get(member)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"unable to decode body: {member} has to be a JSON number")
    return float(value)


def stored(decode: Callable[[Mapping[str, Any]], _T], found: Mapping[str, Any], what: str) -> _T:
    """What a decoder of stored documents makes of it; raises InvalidRequest naming what it is."""
    try:
        return decode(found)
    except MALFORMED as error:
        raise InvalidRequest(f"unable to decode body: {what}: {error!r}") from error
