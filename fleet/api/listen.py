"""The Unix socket that fleetd listens on when systemd has passed it none.

It is `root:fleet` 0660, so only members of the group get as far as connecting. `fleet-viewers`, if
there is such a group, is let in by an access control list; what they may do is not the socket's
business (see access.py). Permissions are set before the socket listens: there is no moment at
which it takes connections with others.
"""

import contextlib
import errno
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet.api.access import READERS, WRITERS, find_group
from fleet.errors import Conflict, InvalidRequest, Unavailable

_log = logging.getLogger(__name__)

BACKLOG = 128
MODE = 0o660
_PRIVATE = 0o600

# linux/posix_acl_xattr.h: version 2, then entries of tag, permissions and id.
_ACL_NAME = "system.posix_acl_access"
_ACL_VERSION = struct.pack("<I", 2)
_ACL_ENTRY = struct.Struct("<HHI")
_NO_ID = 0xFFFFFFFF
_USER_OBJ, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x08, 0x10, 0x20
_READ_WRITE = 6


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and the file that stands for it."""

    socket: socket.socket
    path: Path
    inode: int

    def remove_file(self) -> None:
        """Remove the file, unless another one stands there by now."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.lstat().st_ino == self.inode:
                self.path.unlink()


def listen_at(path: Path, find: Callable[[str], int | None] = find_group) -> Listener:
    """Listen at the path, taking over from one that nobody listens on any more.

    Raises Conflict if somebody does, InvalidRequest or Unavailable if the path will not do.
    """
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        listener.bind(os.fspath(path))
        _set_access(path, find)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        if error.errno in (None, errno.ENAMETOOLONG):
            raise InvalidRequest(f"{path} cannot be the path of a socket: {reason}") from error
        raise Unavailable(f"cannot listen on {path}: {reason}") from error
    return Listener(listener, path, path.lstat().st_ino)


def admit_readers(path: Path, find: Callable[[str], int | None] = find_group) -> None:
    """Let the group of readers connect to a socket as well that the service manager made.

    One that has an access control list already keeps it.
    """
    readers = find(READERS)
    if readers is None or _ACL_NAME in os.listxattr(path):
        return
    try:
        members = stat.S_IMODE(path.stat().st_mode) >> 3 & 7
        os.setxattr(path, _ACL_NAME, acl_for(readers, members=members))
    except OSError as error:
        _log.warning("group %s cannot be let in to %s: %s", READERS, path, error.strerror)


def acl_for(group: int, *, members: int) -> bytes:
    """The access control list of a socket that its owner and one more group may connect to.

    `members` are the permissions of the group that the socket belongs to.
    """
    entries = (
        (_USER_OBJ, _READ_WRITE, _NO_ID),
        (_GROUP_OBJ, members, _NO_ID),
        (_GROUP, _READ_WRITE, group),
        (_MASK, _READ_WRITE, _NO_ID),
        (_OTHER, 0, _NO_ID),
    )
    return _ACL_VERSION + b"".join(_ACL_ENTRY.pack(*entry) for entry in entries)


def _clear(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Conflict(f"{path} is there and is no socket: remove it or choose another path")
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"cannot look at {path}: {error.strerror}") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise Conflict(f"somebody listens on {path} already: is another fleetd running?")


def _set_access(path: Path, find: Callable[[str], int | None]) -> None:
    os.chmod(path, _PRIVATE)
    members = 0
    writers = find(WRITERS)
    if writers is None:
        _log.info("there is no group %s: only root can use %s", WRITERS, path)
    else:
        try:
            os.chown(path, -1, writers)
            os.chmod(path, MODE)
            members = _READ_WRITE
        except PermissionError:
            _log.warning("%s cannot be given to group %s: only its owner can use it", path, WRITERS)
    readers = find(READERS)
    if readers is not None:
        try:
            os.setxattr(path, _ACL_NAME, acl_for(readers, members=members))
        except OSError as error:
            _log.warning("group %s cannot be let in to %s: %s", READERS, path, error.strerror)
