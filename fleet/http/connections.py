"""Connections to the server of one URL: made in bounded time, and kept for what is asked next.

What is said on a connection is for others: a `Talk` knows a protocol, and has one thing under way
at a time. So whatever is given up ends its own connection and no other, and the system drops what
of it was still on its way.
"""

import asyncio
import contextlib
import ssl
import urllib.parse
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol, TypeVar

from fleet.http.carrier import Bare, Carrier, SocketOptions, connected_at, connected_to, secured


class WireError(Exception):
    """An exchange that failed."""


class NotConnected(WireError):
    """No connection came about, so the server heard nothing.

    Its cause is the system's OSError, or a TimeoutError without a number if it took too long.
    """


class Broken(WireError):
    """The connection broke, or what came was not of the protocol; its cause says how."""


class Silent(WireError):
    """The server neither took nor gave anything for as long as the request allows."""


def broken(error: Exception) -> WireError:
    """What went wrong on a connection, by the error that told of it."""
    # The kernel's own TimeoutError has a number: the other end is gone.
    is_silence = isinstance(error, TimeoutError) and error.errno is None
    return (Silent if is_silence else Broken)(str(error) or type(error).__name__)


class Talk(Protocol):
    """A protocol as it is spoken on one connection."""

    carrier: Carrier

    @property
    def is_free(self) -> bool:
        """Whether something else may be asked."""

    @property
    def is_answered(self) -> bool:
        """Whether what was asked last has had the whole of its answer."""

    def overhear(self, data: bytes) -> bool:
        """Whether something else may be asked after this was said unasked; nothing is the end."""


_Talk = TypeVar("_Talk", bound=Talk)


class Connections(Generic[_Talk]):
    """As many as are in use at a time, and those that are kept.

    `tls` is what an https server is verified by, and needed for one; `local` the path of a Unix
    socket that leads there, instead of the URL's own address; `options` are set on each TCP
    connection.
    """

    def __init__(
        self,
        url: str,
        talk: Callable[[Carrier], _Talk],
        *,
        tls: ssl.SSLContext | None = None,
        local: str | None = None,
        connect_s: float,
        options: SocketOptions = (),
    ) -> None:
        self.url = urllib.parse.urlsplit(url)
        self._talk = talk
        self._tls = tls if self.url.scheme == "https" else None
        if self.url.scheme == "https" and tls is None:
            raise ValueError(f"nothing is given to verify {url} by")
        self._local = local
        self._connect_s = connect_s
        self._options = options
        self._kept: list[_Talk] = []
        self._is_closed = False

    @property
    def authority(self) -> str:
        """The server as requests name it."""
        return self.url.netloc.rpartition("@")[2]

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncGenerator[_Talk, None]:
        """A connection that is free; raises NotConnected."""
        connection = await self._kept_one() or await self._fresh_one()
        try:
            yield connection
        finally:
            if not connection.is_answered:
                connection.carrier.abort()
            elif connection.is_free and not self._is_closed:
                self._kept.append(connection)
            else:
                connection.carrier.close()

    async def aclose(self) -> None:
        self._is_closed = True  # what is under way closes its own connection
        while self._kept:
            self._kept.pop().carrier.close()

    async def _kept_one(self) -> _Talk | None:
        """One that the server has neither closed nor said on what nobody asked for."""
        while self._kept:
            connection = self._kept.pop()
            is_usable = False
            try:
                is_usable = await _is_usable(connection)
            finally:
                if not is_usable:
                    connection.carrier.close()
            if is_usable:
                return connection
        return None

    async def _fresh_one(self) -> _Talk:
        try:
            async with asyncio.timeout(self._connect_s):
                return self._talk(await self._open())
        except OSError as error:
            raise NotConnected(str(error) or type(error).__name__) from error

    async def _open(self) -> Carrier:
        host = self.url.hostname or ""
        if self._local is not None:
            connected = await connected_at(self._local)
        else:
            port = self.url.port or (443 if self._tls else 80)
            connected = await connected_to(host, port, self._options)
        return await secured(connected, self._tls, host) if self._tls else Bare(connected)


async def _is_usable(connection: Talk) -> bool:
    """Whether it is free still, after all that was said on it since it was kept."""
    while (unasked := await connection.carrier.unasked()) is not None:
        if not connection.overhear(unasked):
            return False
    return True
