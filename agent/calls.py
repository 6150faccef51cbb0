"""Calls to systemd over the bus: bounded, each with an end, and told apart by when they came.

What goes wrong with the connection is Unavailable, whatever the library calls it.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from dbus_fast.constants import MessageType
from dbus_fast.errors import AuthError, DBusError
from dbus_fast.message import Message
from dbus_fast.signature import Variant

from agent.bus import MANAGER, MANAGER_PATH, PEER, PROPERTIES, SYSTEMD, Body, Bus, Refused
from agent.wire import unit_path
from fleet.errors import Unavailable
from fleet.names import UnitName

# dbus-fast's writer dies of EAGAIN when some 300 calls are sent at once.
CALLS_IN_FLIGHT = 32
# The D-Bus default, `_DBUS_DEFAULT_TIMEOUT_VALUE`.
CALL_S = 25.0

LOST = (OSError, EOFError, TimeoutError, AuthError, DBusError)
"""What is raised when a connection cannot be made, or ends."""


class Calls:
    """Calls by way of the connection that there is; Unavailable without one, or once it ends.

    Those that systemd answers with an error raise Refused. `arrived` counts the messages.
    """

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._slots = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self.arrived = 0
        self._reply_at: dict[int, int] = {}

    def use(self, bus: Bus | None) -> None:
        """Call by way of this connection from now on."""
        self._bus = bus
        self._reply_at.clear()

    def count(self, message: Message) -> None:
        """A message has arrived."""
        self.arrived += 1
        if message.message_type is not MessageType.SIGNAL:
            self._reply_at[message.reply_serial] = self.arrived

    def hang_up(self) -> None:
        """End the connection."""
        if self._bus is not None:
            self._bus.disconnect()

    async def get(self, unit: UnitName, interface: str, name: str) -> Any:
        """A property's value, None if the unit has none by that name."""
        try:
            body = await self.call(unit_path(unit), PROPERTIES, "Get", "ss", interface, name)
        except Refused:
            return None
        return body[0].value

    async def manager(
        self, member: str, signature: str = "", *body: Any, timeout_s: float = CALL_S
    ) -> Body:
        """The answer of systemd's manager."""
        return await self.call(MANAGER_PATH, MANAGER, member, signature, *body, timeout_s=timeout_s)

    async def ping(self) -> None:
        """Return when systemd has got to it (D-Bus specification, org.freedesktop.DBus.Peer)."""
        await self.call(MANAGER_PATH, PEER, "Ping", "")

    async def job(self, member: str, unit: UnitName) -> str:
        """Queue a job of the unit, in place of any other; returns its path."""
        return str((await self.manager(member, "ss", unit, "replace"))[0])

    async def transient(self, unit: str, properties: Iterable[tuple[str, str, Any]]) -> str:
        """Start a unit that has no file but these properties: (name, signature, value).

        Returns the path of its job.
        """
        values = [[name, Variant(signature, value)] for name, signature, value in properties]
        body = await self.manager(
            "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", values, []
        )
        return str(body[0])

    async def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str,
        *body: Any,
        destination: str = SYSTEMD,
        timeout_s: float = CALL_S,
    ) -> Body:
        """The answer to any call."""
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        async with self._slots:
            bus = self._bus
            if bus is None or not bus.connected:
                raise Unavailable("there is no connection to systemd; it is being made anew")
            try:
                async with asyncio.timeout(timeout_s):  # wait_for makes a task of each call
                    reply = await bus.call(message)
            except LOST as error:
                raise Unavailable(f"systemd did not answer {member}: {error!r}") from error
        if reply is None:
            raise Unavailable(f"the connection to systemd ended during {member}")
        arrived = self._reply_at.pop(reply.reply_serial, 0)
        if reply.message_type is MessageType.ERROR:
            text = str(reply.body[0]) if reply.body else ""
            raise Refused(str(reply.error_name), text)
        return Body(reply.body, arrived)
