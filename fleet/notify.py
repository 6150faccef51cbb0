"""What a service and its service manager tell each other: sd_notify(3), sd_watchdog_enabled(3),
sd_listen_fds(3).

Outside of a service manager all of it does nothing.
"""

import os
import socket
from collections.abc import Mapping

from fleet.errors import InvalidRequest

LISTEN_FDS_START = 3
"""The first descriptor that a service manager passes (SD_LISTEN_FDS_START)."""


def notify(message: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell the service manager, for example `READY=1`; False if there is none or it is gone."""
    target = environ.get("NOTIFY_SOCKET", "")
    if not target.startswith(("/", "@")):
        return False
    if target.startswith("@"):
        target = f"\0{target[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(message.encode(), socket.MSG_NOSIGNAL, target)
        except OSError:
            return False
    return True


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Within how many seconds `WATCHDOG=1` has to be told again; None if nobody waits for it.

    Telling it at half of that is what systemd advises.
    """
    pid = environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    try:
        interval_us = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return interval_us / 1e6 if interval_us > 0 else None


def listen_sockets(
    environ: Mapping[str, str] = os.environ,
    pid: int | None = None,
    *,
    first_fd: int = LISTEN_FDS_START,
) -> list[socket.socket]:
    """The sockets that the service manager opened for this process, closed in its children.

    Raises InvalidRequest if a descriptor it names is no socket.
    """
    own_pid = os.getpid() if pid is None else pid
    if environ.get("LISTEN_PID") != str(own_pid):
        return []
    try:
        count = int(environ.get("LISTEN_FDS", ""))
    except ValueError:
        return []
    sockets: list[socket.socket] = []
    for fd in range(first_fd, first_fd + count):
        try:
            os.set_inheritable(fd, False)
            sockets.append(socket.socket(fileno=fd))
        except OSError as error:
            raise InvalidRequest(
                f"LISTEN_FDS={count} says that descriptor {fd} is a socket to listen on, "
                f"but it is not: {error.strerror}"
            ) from error
    return sockets
