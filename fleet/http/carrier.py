"""What carries the bytes between a client and a server: a socket, bare or with TLS on it.

A bare one is read by its system calls: the transports of asyncio drop what a server said before it
hung up, once there was an error in writing to it.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Protocol

SocketOptions = Sequence[tuple[int, int, int]]
"""Levels, names and values as `setsockopt` takes them."""

PIECE_BYTES = 64 * 1024
# RFC 8305, section 8: when the next address is tried beside one that does not answer.
_NEXT_ADDRESS_S = 0.25
# A Unix socket with a full queue of newcomers says so at once, and never when there is room.
_FULL_PAUSE_S = 0.01


class Carrier(Protocol):
    """A stream of bytes both ways; both ways raise OSError."""

    async def send(self, data: bytes) -> None:
        """Return when the system has taken all of it."""

    async def receive(self) -> bytes:
        """Some bytes; none at the end."""

    async def unasked(self) -> bytes | None:
        """What has come so far, no bytes at the end; None if nothing has."""

    def close(self) -> None: ...

    def abort(self) -> None:
        """Close, and have the system drop what it has not delivered yet."""


class Bare:
    """A socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        return await self._loop.sock_recv(self._socket, PIECE_BYTES)

    async def unasked(self) -> bytes | None:
        try:
            return self._socket.recv(PIECE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        _drop_the_rest(self._socket)
        self._socket.close()


class Secured:
    """A socket with TLS on it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connected: socket.socket
    ) -> None:
        self._reader, self._writer = reader, writer
        self._socket = connected

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(PIECE_BYTES)

    async def unasked(self) -> bytes | None:
        reading = asyncio.ensure_future(self._reader.read(PIECE_BYTES))
        # Not asyncio.timeout: until Python 3.11.3 it failed in a task that was being cancelled.
        await asyncio.wait({reading}, timeout=0)
        reading.cancel()
        (told,) = await asyncio.gather(reading, return_exceptions=True)
        if isinstance(told, asyncio.CancelledError):
            return None
        return told if isinstance(told, bytes) else b""

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        _drop_the_rest(self._socket)
        self._writer.transport.abort()


def _drop_the_rest(connected: socket.socket) -> None:
    """Have closing throw away what was not delivered, and tell the other end so (socket(7))."""
    with contextlib.suppress(OSError):  # it may be closed already
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def secured(connected: socket.socket, tls: ssl.SSLContext, host: str) -> Secured:
    """TLS on the socket, with a server that has proved to be that host; raises OSError."""
    streams = await asyncio.open_connection(sock=connected, ssl=tls, server_hostname=host)
    return Secured(*streams, connected)


async def connected_at(path: str) -> socket.socket:
    """A socket that is connected to the Unix socket at the path; raises OSError."""
    fresh = socket.socket(socket.AF_UNIX)
    fresh.setblocking(False)
    try:
        while True:
            try:
                fresh.connect(path)
            except BlockingIOError:
                await asyncio.sleep(_FULL_PAUSE_S)
            else:
                return fresh
    except BaseException:
        fresh.close()
        raise


async def connected_to(host: str, port: int, options: SocketOptions) -> socket.socket:
    """A socket that is connected to the first address of the host that answers; raises OSError."""
    import aiohappyeyeballs  # most endpoints are Unix sockets

    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    connected = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS_S)
    # What is left of a large request would wait for the other end to confirm what came before.
    for option in ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), *options):
        connected.setsockopt(*option)
    return connected
