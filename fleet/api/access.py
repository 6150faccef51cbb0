"""Who asks, and may they? By Unix user and group, or by what a client certificate says.

`root`, the user who runs fleetd and members of `fleet` read and write; members of `fleet-viewers`
read. On a Unix socket the kernel names the user and the groups. On TCP the client's certificate
does: its common name is the user, and its organisations are the groups. Only where an
administrator has asked for TCP without TLS is nobody named, and, as in fleet 1.0, whoever reaches
it may do everything.
"""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from fleet.errors import Denied

WRITERS = "fleet"
READERS = "fleet-viewers"

# linux/socket.h; Python's socket module has no name for it.
_SO_PEERGROUPS = 59
_CREDENTIALS = struct.Struct("iII")
# The most that socket.getsockopt takes: 256 groups. Beyond them the group database is asked.
_GROUPS_BYTES = 1024
# How a socket for both versions of IP writes an address of IPv4: RFC 4291, 2.5.5.2.
_MAPPED = "::ffff:"


class Verb(StrEnum):
    """What a request does to the cluster."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end of a connection; `uid` is None unless they are on this machine.

    `groups` are those of fleet's two that the user is in.
    """

    user: str
    uid: int | None = None
    groups: frozenset[str] = frozenset()


def may(peer: Peer, verb: Verb, *, owner: int = 0) -> bool:
    """Whether the peer may do it; `owner` is the uid that fleetd itself has."""
    if peer.uid in (0, owner) or WRITERS in peer.groups:
        return True
    return verb is Verb.READ and READERS in peer.groups


def refusal(peer: Peer, verb: Verb) -> str:
    """The sentence for a peer who may not."""
    if verb is Verb.WRITE:
        return f"user {peer.user} may not change the cluster: only members of group {WRITERS} may"
    return (
        f"user {peer.user} may not read the cluster: "
        f"only members of group {WRITERS} or {READERS} may"
    )


def signature(peer: Peer, hostname: str) -> str:
    """The peer's name as it stands beside what they write: `user@host`."""
    return peer.user if "@" in peer.user else f"{peer.user}@{hostname}"


class LocalConnection(Protocol):
    """A connected Unix socket, as far as it takes to ask the kernel who is there."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


def peer_uid(connection: LocalConnection) -> int:
    """The uid at the other end; raises OSError if the kernel does not tell."""
    return _credentials(connection)[0]


def local_peer(
    connection: LocalConnection, group_id: Callable[[str], int | None] | None = None
) -> Peer:
    """Who connected over a Unix socket, with the groups that their process had then.

    `group_id` finds a group's number, by default in the machine's group database, which can take
    its time. Raises OSError if the kernel does not tell.
    """
    uid, gid = _credentials(connection)
    if uid == 0:
        return Peer(user="root", uid=0)
    user = user_name(uid)
    gids = {gid, *_other_gids(connection, user, gid)}
    find = group_id or find_group
    groups = frozenset(name for name in (WRITERS, READERS) if find(name) in gids)
    return Peer(user=user, uid=uid, groups=groups)


def anonymous_peer(address: object) -> Peer:
    """Whoever is at a TCP address, where an administrator lets anybody do everything."""
    return Peer(user=_at("anonymous", address), groups=frozenset({WRITERS}))


def certified_peer(certificate: Mapping[str, Any] | None, address: object) -> Peer:
    """Whom a certificate names that was verified, in the form that `ssl` gives it.

    The common name is the user, the organisations are the groups. Raises Denied if there is no
    common name, several, or one that could not stand in a line of text.
    """
    names = [value for key, value in _subject(certificate or {}) if key == "commonName"]
    if len(names) != 1 or not names[0].isprintable() or not names[0].strip():
        raise Denied("your certificate has to name you: with one common name (CN) of plain text")
    organisations = {v for k, v in _subject(certificate or {}) if k == "organizationName"}
    groups = frozenset(organisations & {WRITERS, READERS})
    return Peer(user=_at(names[0].strip(), address), groups=groups)


def _subject(certificate: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The attributes of the subject; `ssl` has them as a sequence of sets."""
    for attributes in certificate.get("subject", ()):
        yield from attributes


def _at(name: str, address: object) -> str:
    host = str(address[0]) if isinstance(address, tuple) and address else ""
    host = host.removeprefix(_MAPPED)
    return f"{name}@{host}" if host else name


def user_name(uid: int) -> str:
    """The user's name, or `uid-N` for one that the machine does not know."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def find_group(name: str) -> int | None:
    """The group's number in the machine's group database, or None if there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _credentials(connection: LocalConnection) -> tuple[int, int]:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(raw)
    return uid, gid


def _other_gids(connection: LocalConnection, user: str, gid: int) -> list[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        try:
            return os.getgrouplist(user, gid)
        except KeyError:
            return []
    count = len(raw) // 4
    return list(struct.unpack(f"{count}I", raw[: 4 * count]))
