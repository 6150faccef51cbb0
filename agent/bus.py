"""The bus: its names, the signals that are asked for, its answers, and a connection to it."""

import os
from collections.abc import Iterable
from typing import Any, Self

from dbus_fast.aio.message_bus import MessageBus
from dbus_fast.constants import BusType

from agent.wire import UNIT_INTERFACE

SYSTEMD = "org.freedesktop.systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
MANAGER_PATH = "/org/freedesktop/systemd1"
DAEMON = "org.freedesktop.DBus"
DAEMON_PATH = "/org/freedesktop/DBus"
PEER = "org.freedesktop.DBus.Peer"
PROPERTIES = "org.freedesktop.DBus.Properties"
MATCHES = (
    f"type='signal',sender='{SYSTEMD}',interface='{PROPERTIES}',"
    f"member='PropertiesChanged',path_namespace='{MANAGER_PATH}/unit',arg0='{UNIT_INTERFACE}'",
    f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved'",
    f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='Reloading'",
    f"type='signal',sender='{DAEMON}',interface='{DAEMON}',"
    f"member='NameOwnerChanged',arg0='{SYSTEMD}'",
)


class Refused(Exception):
    """The answer to a call was an error."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        super().__init__(text or name)


class Body(list[Any]):
    """The body of an answer, and its place among all messages that arrived."""

    def __init__(self, body: Iterable[Any], arrived: int) -> None:
        super().__init__(body)
        self.arrived = arrived


class Bus(MessageBus):
    """A connection that can be closed at any time, with whatever waits on it."""

    @classmethod
    def of_system(cls) -> Self:
        """The machine's bus."""
        return cls(bus_type=BusType.SYSTEM)

    @classmethod
    def of_user(cls) -> Self:
        """The bus of the user's own systemd."""
        return cls(_user_address())

    def close(self) -> None:
        """End the connection, if there is one, and free the socket."""
        if self._sock is not None:
            self.disconnect()
            self._finalize(EOFError("the connection was closed"))


def _user_address() -> str:
    fallback = f"unix:path=/run/user/{os.getuid()}/bus"
    return os.environ.get("DBUS_SESSION_BUS_ADDRESS", fallback)
