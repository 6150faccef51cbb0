"""A request that was admitted, and the words of its query."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.api.access import Peer
from fleet.api.answers import JSON, Answer, Refused
from fleet.api.routes import Endpoint, Route
from fleet.errors import InvalidRequest

Query = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that was admitted: `content_types` are all headers of that name, as they came."""

    route: Route
    peer: Peer
    query: Query = field(default_factory=dict)
    content_types: tuple[str, ...] = ()
    body: bytes = b""


Endpoints = Mapping[Endpoint, Callable[[Call], Awaitable[Answer]]]
"""What answers the calls of each endpoint."""


def require_json(content_types: Sequence[str]) -> None:
    """Raise Refused unless the one Content-Type is JSON, as fleet 1.0 insists."""
    if len(content_types) != 1:
        raise Refused(415, f"expected 1 Content-Type, got {len(content_types)}")
    if content_types[0].partition(";")[0].strip().lower() != JSON:
        raise Refused(415, f"only acceptable Content-Type is {JSON}")


def first(query: Query, name: str) -> str:
    """The first value of that name, or nothing."""
    return next(iter(query.get(name, ())), "")


def revision(query: Query, name: str) -> int | None:
    """The revision of the store that the query names, if it does; raises InvalidRequest."""
    text = first(query, name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidRequest(f"{name} has to be a revision of the store, not {text!r}")
    return int(text)


def up_to(query: Query, name: str, most: int, default: int | None = None) -> int:
    """How many of something are asked for, by default `most`; raises InvalidRequest."""
    text = first(query, name) or str(default or most)
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= most):
        raise InvalidRequest(f"{name} has to be a number from 1 to {most}, not {text!r}")
    return int(text)
