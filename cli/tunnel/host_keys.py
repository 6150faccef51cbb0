"""Whether a host is who it was: its key against the known_hosts files, and the user's word.

asyncssh asks `Guard` in the middle of a handshake. The guard answers from the files and never
asks the user there: a question takes longer than any handshake may. It remembers what it saw,
the handshake fails, the user is asked (`settle`), and the handshake is made once more.
"""

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import asyncssh

from cli.known_hosts import (
    Entry,
    Marker,
    Verdict,
    add_known_host,
    entries_for,
    fingerprint_md5,
    fingerprint_sha256,
    host_names,
    judge,
    key_kind,
    parse_known_hosts,
    read_known_hosts,
    render_entry,
)
from cli.tunnel.route import Route
from cli.tunnel.target import quote_places
from cli.tunnel.terminal import Console, read_answer
from fleet.errors import Denied

_log = logging.getLogger(__name__)
_FRAME = "#" * 70
_Keys = tuple[asyncssh.SSHKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The key that a host has shown, where, and what the files say of it."""

    names: tuple[str, ...]
    address: str
    algorithm: str
    key: bytes
    verdict: Verdict


class Guard(asyncssh.SSHClient):
    """The check of one connection's host key; also notes how the connection ended."""

    def __init__(self, route: Route, entries: Sequence[Entry]) -> None:
        self._route = route
        self._entries = entries
        self.shown: Shown | None = None
        self.known: tuple[Entry, ...] = ()
        self.lost: Exception | None = None

    def trusted(self, host: str, address: str, port: int | None) -> tuple[_Keys, _Keys, _Keys]:
        """The keys that the files hold for the host: asyncssh then asks it for one of those."""
        self.known = entries_for(self._entries, self._names(address))
        keys = {marker: _keys(self.known, marker) for marker in Marker}
        return keys[Marker.HOST], keys[Marker.AUTHORITY], keys[Marker.REVOKED]

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Called for a key that is not among the trusted ones."""
        names = self._names(addr)
        verdict = judge(self._entries, names, key.public_data)
        self.shown = Shown(
            names=names,
            address=addr,
            algorithm=key.get_algorithm(),
            key=key.public_data,
            verdict=verdict,
        )
        return verdict is Verdict.KNOWN

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc or asyncssh.ConnectionLost("Connection closed")

    def _names(self, address: str) -> tuple[str, ...]:
        route = self._route
        return host_names(route.host, address, route.port, route.alias)


def _keys(entries: Sequence[Entry], marker: Marker) -> _Keys:
    found = []
    for entry in entries:
        if entry.marker is marker:
            text = f"{entry.algorithm} {base64.b64encode(entry.key).decode()}"
            try:
                found.append(asyncssh.import_public_key(text))
            except asyncssh.KeyImportError:
                _log.debug("%s: cannot use a key of type %s", entry.place, entry.algorithm)
    return tuple(found)


def read_entries(route: Route) -> tuple[Entry, ...]:
    """What the known_hosts files of the route say; lines of fleet's own that are bad are told."""
    own = route.known_hosts[0]
    reading = read_known_hosts(route.known_hosts)
    for complaint in reading.complaints:
        level = logging.WARNING if complaint.startswith(f"{own}:") else logging.DEBUG
        _log.log(level, "skipped in known_hosts: %s", complaint)
    return reading.entries


async def settle(guard: Guard, route: Route, console: Console, *, limit_s: float) -> Entry:
    """The entry to add after the user has said yes; raises Denied for everything else."""
    shown = guard.shown
    if shown is None:
        raise Denied(f"the host key of {route.place} is revoked in known_hosts: do not connect")
    if shown.verdict is Verdict.REVOKED:
        raise Denied(f"the host key of {route.place} is marked @revoked: do not connect")
    if shown.verdict is Verdict.CHANGED:
        raise Denied(_changed(shown, guard.known, route))
    console.say(_question(shown, route), end="")
    answer = await read_answer(console.stdin, limit_s)
    if answer is None:
        console.say("")
        raise Denied(_unanswered(shown, route))
    if answer.strip().lower() not in ("y", "yes"):
        raise Denied(f"host key verification failed: {route.place} is an unauthorized host")
    return _remember(shown, route.known_hosts[0], console)


def _question(shown: Shown, route: Route) -> str:
    where = shown.address or "behind other hosts"
    return (
        f"{route.place} ({where}) is not known yet. Its {key_kind(shown.algorithm)} key is\n"
        f"  {fingerprint_sha256(shown.key)}\n"
        f"  {fingerprint_md5(shown.key)}\n"
        "Is that the right machine, and shall its key be kept (yes/no)? "
    )


def _unanswered(shown: Shown, route: Route) -> str:
    line = render_entry(shown.names, shown.algorithm, shown.key)
    return (
        f"host key verification failed: {route.place} is an unauthorized host, and nobody is at "
        "the terminal to say otherwise. Run the command once in a terminal; or compare the "
        f"fingerprint {fingerprint_sha256(shown.key)} and then run: "
        f"echo '{line}' >> {route.known_hosts[0]}"
    )


def _changed(shown: Shown, known: Sequence[Entry], route: Route) -> str:
    places = [entry.place for entry in known if entry.marker is Marker.HOST]
    return "\n".join(
        (
            _FRAME,
            f"#  {route.place} IS NOT THE MACHINE IT WAS",
            _FRAME,
            f"Its {key_kind(shown.algorithm)} host key is now {fingerprint_sha256(shown.key)},",
            f"which is not the key in {quote_places(places)}.",
            "Either the machine was installed anew, or somebody stands between you and it.",
            "If you know why it changed, delete that line and connect again.",
            f"host key mismatch for {route.place}",
        )
    )


def no_common_key(guard: Guard, route: Route) -> Denied:
    """The error when the host has no key of any kind that is known of it."""
    places = quote_places([entry.place for entry in guard.known])
    return Denied(
        f"host key mismatch for {route.place}: it has no key of the type known from {places}; "
        "if the machine was installed anew, delete that line and connect again"
    )


def _remember(shown: Shown, path: str, console: Console) -> Entry:
    line = render_entry(shown.names, shown.algorithm, shown.key)
    name = ",".join(shown.names)
    kind = key_kind(shown.algorithm)
    try:
        add_known_host(path, line)
    except OSError as error:
        console.say(f"Could not keep the key of {name} in {path}: {error.strerror}.")
    else:
        console.say(f"Permanently added the {kind} key of {name} to {path}.")
    return parse_known_hosts(line, path).entries[0]
