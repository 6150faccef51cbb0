"""HTTP/1.1 as a client speaks it, with a bound on each wait.

h11 knows the protocol; what carries the bytes, and what the answers mean, is for others to say.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import h11

from fleet.http.carrier import PIECE_BYTES, Carrier
from fleet.http.connections import Connections, broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked: a target that begins with a slash, and JSON if there are contents.

    `silence_s` is how long the server may say nothing before it counts as gone, None for ever.
    """

    method: str
    target: str
    content: bytes | None = None
    headers: Sequence[tuple[str, str]] = ()
    silence_s: float | None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose head has come, and the pieces of its body as they come."""

    status: int
    parts: AsyncIterator[bytes]

    async def whole(self) -> bytes:
        """The body from here to its end."""
        return b"".join([part async for part in self.parts])

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """The lines that say something as they come, and what there is of one at the end."""
        rest = b""
        async for part in self.parts:
            *lines, rest = (rest + part).split(b"\n")
            for line in filter(bytes.strip, lines):
                yield line
        if rest.strip():
            yield rest


class Wire(Protocol):
    """A way to a server; it raises WireError and nothing else."""

    def exchange(self, request: Request) -> contextlib.AbstractAsyncContextManager[Reply]:
        """Send the request; within this the answer can be read."""

    async def aclose(self) -> None:
        """Let go of what is kept for further requests."""


class HttpWire:
    """The server of one URL; for `tls`, `local` and the others see `Connections`."""

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        local: str | None = None,
        connect_s: float,
    ) -> None:
        self._connections = Connections(url, _Talk, tls=tls, local=local, connect_s=connect_s)

    @contextlib.asynccontextmanager
    async def exchange(self, request: Request) -> AsyncGenerator[Reply, None]:
        async with self._connections.one() as connection:
            with _translated():
                status = await connection.ask(request, self._head_of(request))
            yield Reply(status, _parts(connection, request))

    async def aclose(self) -> None:
        await self._connections.aclose()

    def _head_of(self, request: Request) -> h11.Request:
        headers = [("Host", self._connections.authority), *request.headers]
        if request.content is not None:
            headers.append(("Content-Type", "application/json"))
            headers.append(("Content-Length", str(len(request.content))))
        target = f"{self._connections.url.path}{request.target}"
        return h11.Request(method=request.method, target=target, headers=headers)


async def _parts(connection: "_Talk", request: Request) -> AsyncIterator[bytes]:
    while True:
        with _translated():
            part = await connection.next_part(request.silence_s)
        if part is None:
            return
        yield part


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Within this, what goes wrong on a connection is a WireError."""
    try:
        yield
    except (OSError, h11.RemoteProtocolError) as error:
        raise broken(error) from error


class _Talk:
    """One connection: a request and its answer at a time."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self._http = h11.Connection(h11.CLIENT)

    @property
    def is_free(self) -> bool:
        """Whether the last answer has ended, with nothing behind it, and allows another."""
        is_done = self._http.our_state is self._http.their_state is h11.DONE
        return is_done and self._http.trailing_data == (b"", False)

    @property
    def is_answered(self) -> bool:
        """Whether the last request has had the whole of its answer."""
        return self._http.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)

    def overhear(self, data: bytes) -> bool:
        """HTTP/1.1 has nothing to say of itself: it is the end, or an answer to nobody."""
        return False

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

    async def next_part(self, silence_s: float | None) -> bytes | None:
        """The next piece of the answer's body, None at its end."""
        event = await self._next(silence_s)
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def _send(self, events: Sequence[h11.Event], silence_s: float | None) -> None:
        """Hand it all over, in pieces each of which may take so long."""
        told = b"".join(self._http.send(event) or b"" for event in events)
        for start in range(0, len(told), PIECE_BYTES):
            async with asyncio.timeout(silence_s):
                await self.carrier.send(told[start : start + PIECE_BYTES])

    async def _next(
        self, silence_s: float | None
    ) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """What the server says next; PAUSED comes to those only who ask beyond the end."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(silence_s):
                data = await self.carrier.receive()
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise ConnectionResetError("it was closed without an answer")
            self._http.receive_data(data)
        return event
