"""What a server's answer means to a client: the errors that answers stand for, and lists of names.

Of the transport it wants the status and the bytes, and nothing else.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

from fleet.api.endpoint import Endpoint
from fleet.api.members import parse
from fleet.errors import Conflict, Denied, FleetError, InvalidRequest, NotFound, Unavailable

_ERRORS: dict[int, type[FleetError]] = {
    400: InvalidRequest,
    403: Denied,
    404: NotFound,
    405: InvalidRequest,
    409: Conflict,
    413: InvalidRequest,
    415: InvalidRequest,
}
_NO_CONTENTS = "unit does not exist and options field empty"


def document_in(body: bytes) -> object:
    """The JSON document in a body, None if there is none."""
    with contextlib.suppress(InvalidRequest):
        return parse(body)
    return None


def names_in(document: object, member: str) -> frozenset[str]:
    """The names that a member of the document lists."""
    names = document.get(member) if isinstance(document, dict) else None
    return frozenset(name for name in names or () if isinstance(name, str))


def is_unknown_here(status: int, body: bytes) -> bool:
    """Whether this is how an original server answers to an endpoint of ours."""
    return status == 405 or (status == 404 and not _error_in(document_in(body)).get("message"))


def error_of(status: int, document: object, endpoint: Endpoint) -> FleetError:
    """The error that a server's answer stands for; a stream's error says its own status."""
    error = _error_in(document)
    code, message, reason = error.get("code"), error.get("message"), error.get("reason")
    status = code if isinstance(code, int) else status
    sentence = message if isinstance(message, str) and message else ""
    if isinstance(reason, str) and reason:
        sentence = f"{sentence}: {reason}"
    if status == 409 and sentence == _NO_CONTENTS:
        return NotFound(sentence)
    if not error:
        return Unavailable(f"{endpoint} answered with HTTP status {status}, not as a fleetd does")
    kind = _ERRORS.get(status, Unavailable)
    return kind(sentence or f"{endpoint} answered with HTTP status {status}")


def _error_in(document: object) -> Mapping[str, Any]:
    found = document.get("error") if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}
