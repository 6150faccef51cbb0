"""Where an SSH connection leads: `[USER@]HOST[:PORT]`, and the endpoint behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from fleet.errors import InvalidRequest

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A host to reach by SSH; what is None is left to ssh_config and its defaults."""

    host: str
    port: int | None = None
    user: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return f"{host}:{self.port}" if self.port else host


@dataclass(frozen=True, slots=True, kw_only=True)
class FarSocket:
    """A Unix socket on the far side."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class FarPort:
    """A TCP port as the far side sees it; the name is resolved there."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(text: str) -> Target:
    """The host that `[USER@]HOST[:PORT]` names; an IPv6 address with a port needs brackets.

    Raises InvalidRequest.
    """
    user, at, rest = text.strip().rpartition("@")
    host, port = _split_port(rest, text)
    if not host or host.startswith("-") or any(letter.isspace() for letter in host):
        raise InvalidRequest(f"no host in {text!r}: write [USER@]HOST[:PORT]")
    if at and not user:
        raise InvalidRequest(f"no user before the @ of {text!r}: write [USER@]HOST[:PORT]")
    return Target(host=host, port=port, user=user or None)


def parse_jumps(text: str) -> tuple[Target, ...]:
    """The hops of ssh_config's ProxyJump, first one first; raises InvalidRequest."""
    return tuple(parse_target(hop.strip().removeprefix("ssh://")) for hop in text.split(","))


def _split_port(rest: str, text: str) -> tuple[str, int | None]:
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise InvalidRequest(f"cannot read the address {text!r}: write [ADDRESS]:PORT")
        return host, _port(tail[1:], text) if tail else None
    if rest.count(":") > 1:
        return rest, None
    host, colon, port = rest.partition(":")
    return host, _port(port, text) if colon else None


def _port(digits: str, text: str) -> int:
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536):
        raise InvalidRequest(f"{digits!r} in {text!r} is not a port: use 1 to 65535")
    return int(digits)


def parse_far_end(endpoint: str) -> FarSocket | FarPort:
    """What a tunnel must reach for an endpoint URL; raises InvalidRequest."""
    url = urlsplit(endpoint)
    if url.scheme in ("unix", "file"):
        if url.netloc or not url.path:
            raise InvalidRequest(f"{endpoint!r} is no socket: write unix:///PATH, three slashes")
        return FarSocket(path=unquote(url.path))
    if url.scheme not in _DEFAULT_PORTS:
        raise InvalidRequest(f"{endpoint!r} cannot be tunnelled: use unix://, http:// or https://")
    try:
        port = url.port or _DEFAULT_PORTS[url.scheme]
    except ValueError:
        raise InvalidRequest(f"{endpoint!r} has no valid port") from None
    if not url.hostname:
        raise InvalidRequest(f"{endpoint!r} names no host")
    return FarPort(host=url.hostname, port=port)


def expand_known_hosts(path: str, *, home: str, tokens: Mapping[str, str]) -> str:
    """A path of UserKnownHostsFile with `~` and ssh_config's %-tokens filled in."""
    filled = path
    for letter, value in tokens.items():
        filled = filled.replace(f"%{letter}", value)
    return f"{home}{filled[1:]}" if filled.startswith("~/") else filled


def choose_user(flag: str | None, in_target: str | None, config: str | None, default: str) -> str:
    """The user to log in as: `user@host` wins, then the flag, ssh_config, and the default."""
    return in_target or flag or config or default


def quote_places(places: Sequence[str]) -> str:
    """Places in a sentence: `a`, `a and b`, `a, b and c`."""
    *head, last = places
    return f"{', '.join(head)} and {last}" if head else last
