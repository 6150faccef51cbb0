"""The connections of one listening socket: so many at a time, and no idle one in anybody's way.

A listener without a limit is a way to take a daemon's last file descriptor, which its heartbeat
needs as well. When all places are taken, the connection that has been idle for longest is closed
for a newcomer, which costs nobody anything: HTTP lets a server do that. When all are at work, the
newcomer hears so and is sent away. A TLS handshake has a deadline, and counts as idle.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator

from fleet.api.limits import Limits

_log = logging.getLogger(__name__)

# How long nobody is let in after the system had no descriptor left.
_PAUSE_S = 1.0
# As much of a request as is taken off a socket before it is turned away.
_DRAIN_BYTES = 64 * 1024


class Connections:
    """Accepts on one listening socket until `close`, and owns it."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None = None,
        busy_answer: bytes = b"",
        limits: Limits,
    ) -> None:
        """`busy_answer` is what a newcomer hears without TLS when all others are at work."""
        self._listener = listener
        self._make_protocol = make_protocol
        self._tls = tls
        self._busy_answer = busy_answer
        self._limit = limits.connections
        self._handshake_s = limits.handshake_s
        # Both in the order of idleness, the longest first.
        self._open: dict[asyncio.BaseTransport, None] = {}
        self._arriving: dict[asyncio.Task[None], None] = {}
        self._at_work: Counter[asyncio.BaseTransport] = Counter()
        self._is_full = False
        listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(), name="api-accept")

    async def close(self) -> None:
        """Take no more connections; those that are open stay."""
        for task in (self._accepting, *self._arriving):
            task.cancel()
        await asyncio.gather(self._accepting, *self._arriving, return_exceptions=True)
        self._listener.close()

    @contextlib.contextmanager
    def work(self, transport: asyncio.BaseTransport) -> Iterator[None]:
        """Within this, the connection is at work and is not closed for another."""
        self._at_work[transport] += 1
        try:
            yield
        finally:
            self._at_work[transport] -= 1
            if not self._at_work[transport]:
                del self._at_work[transport]
            if transport in self._open:
                self._open[transport] = self._open.pop(transport)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except ConnectionAbortedError:
                continue  # the client went away before it was its turn
            except OSError as error:
                _log.warning("the API cannot take a connection now: %s", error.strerror)
                await asyncio.sleep(_PAUSE_S)
                continue
            if not self._make_room():
                self._turn_away(connection)
                continue
            task = asyncio.create_task(self._take(connection), name="api-connection")
            self._arriving[task] = None
            task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            self._arriving.pop(task, None)

    async def _take(self, connection: socket.socket) -> None:
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                self._make_protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_s if self._tls else None,
            )
        except OSError as error:
            # ssl's errors, a timeout and a connection that is gone are all of them.
            _log.info("a client was turned away: %s", _cause(error))
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
        else:
            self._open[transport] = None
            self._arrived(asyncio.current_task())  # now: for a moment it would count twice

    def _make_room(self) -> bool:
        """Whether there is a place for one more, after closing an idle connection if need be."""
        for transport in [each for each in self._open if each.is_closing()]:
            del self._open[transport]
        if len(self._open) + len(self._arriving) >= self._limit and not self._close_one():
            if not self._is_full:
                _log.warning("all %d connections of the API are at work", self._limit)
            self._is_full = True
            return False
        self._is_full = False
        return True

    def _close_one(self) -> bool:
        idle = next((each for each in self._open if each not in self._at_work), None)
        if isinstance(idle, asyncio.WriteTransport):
            idle.abort()
            del self._open[idle]
            return True
        if self._tls and self._arriving:
            task = next(iter(self._arriving))
            task.cancel()
            del self._arriving[task]
            return True
        return False

    def _turn_away(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.setblocking(False)
            # What lies unread when a socket is closed can take the answer with it.
            with contextlib.suppress(BlockingIOError):
                connection.recv(_DRAIN_BYTES)
            if self._tls is None:
                connection.send(self._busy_answer)


def _cause(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error) or "it did not finish its TLS handshake in time"
