"""What goes back to a client: the answer to a request, and the answer to an error."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.api.members import render
from fleet.errors import (
    Conflict,
    Denied,
    FleetError,
    InvalidRequest,
    InvalidUnit,
    NotFound,
    Unavailable,
)

JSON = "application/json"
# fleet 1.0's words, whichever store it is: its clients and their scripts know them.
UNABLE = "fleet server unable to communicate with etcd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer; with an empty content type there is no such header."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(FleetError):
    """A request that is answered with this status and sentence, which may be empty."""

    def __init__(self, status: int, message: str = "") -> None:
        self.status = status
        super().__init__(message)


def json_answer(document: object, status: int = 200) -> Answer:
    return Answer(status=status, body=render(document), content_type=JSON)


def error_document(status: int, message: str, *, reason: str = "") -> dict[str, object]:
    """fleet 1.0's error document; `reason` is ours, and says more than the message."""
    error: dict[str, object] = {"code": status, "message": message}
    return {"error": error | ({"reason": reason} if reason else {})}


def error_answer(error: FleetError) -> Answer:
    """The answer to what went wrong, by what the caller can do about it."""
    status, message = status_and_message(error)
    return json_answer(error_document(status, message), status)


def status_and_message(error: FleetError) -> tuple[int, str]:
    if isinstance(error, Refused):
        return error.status, str(error)
    if isinstance(error, Unavailable):
        return 503, f"{UNABLE}: {error}"
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status, str(error)
    return 500, ""


_STATUS: tuple[tuple[type[FleetError], int], ...] = (
    (InvalidUnit, 400),
    (InvalidRequest, 400),
    (Denied, 403),
    (NotFound, 404),
    (Conflict, 409),
)
