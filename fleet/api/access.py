"""Who asks, and may they? By Unix user and group, as the kernel names them.

`root`, the user who runs fleetd and members of `fleet` read and write; members of `fleet-viewers`
read. Nobody is named on a TCP connection: such a socket exists only when an administrator has
passed it to fleetd, and, as in fleet 1.0, whoever reaches it may do everything.
"""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

WRITERS = "fleet"
READERS = "fleet-viewers"

# linux/socket.h; Python's socket module has no name for it.
_SO_PEERGROUPS = 59
_CREDENTIALS = struct.Struct("iII")
# The most that socket.getsockopt takes: 256 groups. Beyond them the group database is asked.
_GROUPS_BYTES = 1024


class Verb(StrEnum):
    """What a request does to the cluster."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end of a connection; `uid` is None where nobody can tell.

    `groups` are those of fleet's two that the user is in.
    """

    user: str
    uid: int | None = None
    groups: frozenset[str] = frozenset()


def may(peer: Peer, verb: Verb, *, owner: int = 0) -> bool:
    """Whether the peer may do it; `owner` is the uid that fleetd itself has."""
    if peer.uid is None or peer.uid in (0, owner) or WRITERS in peer.groups:
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


def remote_peer(address: object) -> Peer:
    """Whoever is at a TCP address."""
    host = address[0] if isinstance(address, tuple) and address else ""
    return Peer(user=f"anonymous@{host}" if host else "anonymous")


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
