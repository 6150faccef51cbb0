"""HTTP/1.1 as the client speaks it: connections that are made, bounded, and kept for what is next.

h11 knows the protocol; what carries the bytes, and what the answers mean, is for others to say.
"""

import asyncio
import contextlib
import ssl
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import h11

from fleet.api.carrier import (
    PIECE_BYTES,
    Bare,
    Carrier,
    connected_at,
    connected_to,
    secured,
)
from fleet.api.endpoint import Endpoint, broken_connection, connect_failure, tls_context
from fleet.errors import Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked: a target that begins with a slash, and JSON if there are contents.

    `silence_s` is how long the server may say nothing before it counts as gone.
    """

    method: str
    target: str
    content: bytes | None = None
    silence_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose head has come, and the pieces of its body as they come."""

    status: int
    parts: AsyncIterator[bytes]


class Wire(Protocol):
    """A way to a server; it raises Unavailable, with a sentence, and nothing else."""

    def exchange(self, request: Request) -> contextlib.AbstractAsyncContextManager[Reply]:
        """Send the request; within this the answer can be read."""

    async def aclose(self) -> None:
        """Let go of what is kept for further requests."""


class HttpWire:
    """Connections to one endpoint, as many as requests are under way at a time.

    `local` is the path of a Unix socket that leads there instead of the endpoint's own address.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tls: ssl.SSLContext | None,
        local: str | None,
        connect_s: float,
    ) -> None:
        self._endpoint = endpoint
        self._url = urllib.parse.urlsplit(endpoint.url)
        self._tls = (tls or tls_context()) if endpoint.is_tls else None
        self._local = local or endpoint.unix_path
        self._connect_s = connect_s
        self._kept: list[_Connection] = []
        self._is_closed = False

    @contextlib.asynccontextmanager
    async def exchange(self, request: Request) -> AsyncGenerator[Reply, None]:
        connection = await self._kept_one() or await self._fresh_one()
        try:
            with self._translated(request):
                status = await connection.ask(request, self._head_of(request))
            yield Reply(status, self._parts(connection, request))
        finally:
            if connection.is_free and not self._is_closed:
                self._kept.append(connection)
            else:
                connection.close()

    async def aclose(self) -> None:
        self._is_closed = True  # what is under way closes its own connection
        while self._kept:
            self._kept.pop().close()

    def _head_of(self, request: Request) -> h11.Request:
        headers = [("Host", self._url.netloc.rpartition("@")[2])]
        if request.content is not None:
            headers.append(("Content-Type", "application/json"))
            headers.append(("Content-Length", str(len(request.content))))
        return h11.Request(
            method=request.method, target=f"{self._url.path}{request.target}", headers=headers
        )

    async def _parts(self, connection: "_Connection", request: Request) -> AsyncIterator[bytes]:
        while True:
            with self._translated(request):
                part = await connection.next_part(request.silence_s)
            if part is None:
                return
            yield part

    @contextlib.contextmanager
    def _translated(self, request: Request) -> Iterator[None]:
        """Within this, what goes wrong on a connection is Unavailable."""
        try:
            yield
        except TimeoutError as error:
            path = request.target.partition("?")[0]
            raise Unavailable(
                f"{self._endpoint} has not answered {request.method} {path} "
                f"for {request.silence_s:g} s"
            ) from error
        except (OSError, h11.RemoteProtocolError) as error:
            raise Unavailable(broken_connection(self._endpoint, error)) from error

    # Connections

    async def _kept_one(self) -> "_Connection | None":
        while self._kept:
            connection = self._kept.pop()
            is_usable = False
            try:
                is_usable = await connection.is_quiet()
            finally:
                if not is_usable:
                    connection.close()
            if is_usable:
                return connection
        return None

    async def _fresh_one(self) -> "_Connection":
        try:
            async with asyncio.timeout(self._connect_s):
                return _Connection(await self._open())
        except TimeoutError as error:
            raise Unavailable(
                f"{self._endpoint} did not take the connection within {self._connect_s:g} s"
            ) from error
        except OSError as error:
            raise Unavailable(connect_failure(self._endpoint, error)) from error

    async def _open(self) -> Carrier:
        host = self._url.hostname or ""
        if self._local is not None:
            connected = await connected_at(self._local)
        else:
            connected = await connected_to(host, self._url.port or (443 if self._tls else 80))
        return await secured(connected, self._tls, host) if self._tls else Bare(connected)


class _Connection:
    """One connection: a request and its answer at a time."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._http = h11.Connection(h11.CLIENT)

    @property
    def is_free(self) -> bool:
        """Whether the last answer has ended, with nothing behind it, and allows another."""
        is_done = self._http.our_state is self._http.their_state is h11.DONE
        return is_done and self._http.trailing_data == (b"", False)

    async def is_quiet(self) -> bool:
        """Whether the server has neither closed the connection nor said what nobody asked for."""
        try:
            async with asyncio.timeout(0):
                await self._carrier.receive()
        except TimeoutError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        self._carrier.close()

    async def ask(self, request: Request, head: h11.Request) -> int:
        """Send the request and return the status of the answer."""
        if self.is_free:
            self._http.start_next_cycle()
        contents = [h11.Data(data=request.content)] if request.content else []
        with contextlib.suppress(ConnectionError):  # a refusal may have come before
            await self._send([head, *contents, h11.EndOfMessage()], request.silence_s)
        while True:
            event = await self._next(request.silence_s)
            if isinstance(event, h11.Response):
                return event.status_code

    async def next_part(self, silence_s: float) -> bytes | None:
        """The next piece of the answer's body, None at its end."""
        event = await self._next(silence_s)
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def _send(self, events: Sequence[h11.Event], silence_s: float) -> None:
        """Hand it all over, in pieces each of which may take so long."""
        told = b"".join(self._http.send(event) or b"" for event in events)
        for start in range(0, len(told), PIECE_BYTES):
            async with asyncio.timeout(silence_s):
                await self._carrier.send(told[start : start + PIECE_BYTES])

    async def _next(self, silence_s: float) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """What the server says next; PAUSED comes to those only who ask beyond the end."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(silence_s):
                data = await self._carrier.receive()
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise ConnectionResetError("it was closed without an answer")
            self._http.receive_data(data)
        return event
