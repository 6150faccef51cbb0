"""How much of a fleetd the clients of its API may take, each and all together."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one server; docs/api.md has what happens beyond each.

    `connections` are those of one listening socket: two of them and everything else stay below the
    usual 1024 descriptors of a process. `idle_s` is how long a connection may wait for a request,
    or a request for the end of its headers. `reader_s` is for the next piece of an answer.
    """

    connections: int = 256
    handshake_s: float = 10.0
    idle_s: float = 60.0
    body_s: float = 60.0
    reader_s: float = 60.0
    # A request line has to hold the names of a thousand units that are watched.
    line_bytes: int = 128 * 1024
    header_bytes: int = 8 * 1024
    headers: int = 64
    body_bytes: int = 16 * MIB
    bodies_bytes: int = 64 * MIB
