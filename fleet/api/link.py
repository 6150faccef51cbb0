"""What the client asks over a wire: requests, patience, streams of lines, and fleet's own errors.

What is asked for and what the answers mean is the client's.
"""

import contextlib
import ssl
import urllib.parse
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fleet.api.endpoint import (
    broken_connection,
    connect_failure,
    parse_endpoint,
    tls_context,
)
from fleet.api.members import parse
from fleet.api.patience import Patience
from fleet.api.replies import document_in, error_of, is_unknown_here
from fleet.api.schema import decode_page
from fleet.errors import InvalidRequest, NotFound, Unavailable
from fleet.http.connections import NotConnected, Silent, WireError
from fleet.http.wire import HttpWire, Reply, Request, Wire

_T = TypeVar("_T")

Params = Mapping[str, str | int]

_ROOT = "/fleet/v1/"

CONNECT_S = 5.0
READ_S = 30.0
# A server of ours gives a sign of life every 5 s.
SILENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Response:
    """An answer as a whole."""

    status: int
    content: bytes


class ApiLink:
    """A connection to one fleetd's API; what it raises are fleet's errors and no others.

    A server that has lost its store is asked again for some seconds, unless that might do something
    twice.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        wire: Wire | None,
        socket: str | None,
        tls: ssl.SSLContext | None,
        connect_s: float,
        read_s: float,
        silence_s: float,
    ) -> None:
        """`wire` and `socket` are other ways to the endpoint; see the client."""
        self.endpoint = parse_endpoint(endpoint)
        self._connect_s = connect_s
        self._read_s = read_s
        self._silence_s = silence_s
        self._wire: Wire = wire or HttpWire(
            self.endpoint.url,
            tls=(tls or tls_context()) if self.endpoint.is_tls else None,
            local=socket or self.endpoint.unix_path,
            connect_s=connect_s,
        )

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._wire.aclose()

    # Requests

    async def all(
        self,
        path: str,
        kind: str,
        decode: Callable[[object], _T],
        filters: dict[str, str] | None = None,
    ) -> tuple[_T, ...]:
        """A whole list: in one answer from a server of ours, page by page from an original."""
        things: list[_T] = []
        params: dict[str, str | int] = {"whole": "true", **(filters or {})}
        while True:
            response = await self.send("GET", path, params=params)
            self.check(response)
            page, following = self.decoded(
                response, lambda document: decode_page(kind, document, decode)
            )
            things += page
            if not page or following is None or following == params.get("nextPageToken"):
                return tuple(things)
            params["nextPageToken"] = following

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        once: bool = False,
        content: bytes | None = None,
    ) -> Response:
        """The answer, whatever it says; `once` is for what must not be done twice."""
        query = f"?{urllib.parse.urlencode(params)}" if params else ""
        request = Request(
            method=method,
            target=f"{_ROOT}{path}{query}",
            content=content,
            silence_s=self._read_s,
        )
        patience = Patience(0.0 if once else self._read_s)
        while True:
            async with self._exchange(request) as reply:
                response = Response(reply.status, await reply.whole())
            if not await patience.asks_again(response.status):
                return response

    async def ask_ours(self, path: str, params: Params, lack: str) -> Response:
        """What a server of ours says; NotFound from an original one, with what it does not do."""
        response = await self.send("GET", path, params=params)
        if is_lacking(response):
            raise NotFound(f"{self.endpoint} {lack}: it is a fleetd of fleet 1.0")
        self.check(response)
        return response

    # Streams

    async def lines(self, url: str, lack: str) -> AsyncGenerator[bytes, None]:
        """The lines of a stream that has no end but trouble; NotFound from an original server."""
        request = Request(method="GET", target=f"{_ROOT}{url}", silence_s=self._silence_s)
        patience = Patience(self._read_s)
        while True:
            async with self._exchange(request) as reply:
                if reply.status < 300:
                    async for line in reply.lines():
                        yield line
                    raise Unavailable(f"{self.endpoint} ended the stream of reports")
                refusal = Response(reply.status, await reply.whole())
            if not await patience.asks_again(refusal.status):
                break
        if is_lacking(refusal):
            raise NotFound(f"{self.endpoint} {lack}: it is a fleetd of fleet 1.0")
        self.check(refusal)

    def read_line(self, line: bytes, decode: Callable[[object], _T]) -> _T:
        """What the line tells; raises what it says if it says that the stream is over."""
        document = self._understood(lambda: parse(line))
        if isinstance(document, dict) and "error" in document:
            raise error_of(503, document, self.endpoint)
        return self._understood(lambda: decode(document))

    @contextlib.asynccontextmanager
    async def _exchange(self, request: Request) -> AsyncGenerator[Reply, None]:
        try:
            async with self._wire.exchange(request) as reply:
                yield reply
        except WireError as error:
            raise Unavailable(self._failure(request, error)) from error

    # Answers and errors

    def check(self, response: Response) -> None:
        """Raise what the server said went wrong."""
        if not 200 <= response.status < 300:
            raise error_of(response.status, document_in(response.content), self.endpoint)

    def check_ours(self, response: Response) -> None:
        """Like `check`, and raise NotFound if an original server does not know such requests."""
        if is_lacking(response):
            raise NotFound(f"{self.endpoint} cannot do this: it is a fleetd of fleet 1.0")
        self.check(response)

    def decoded(self, response: Response, decode: Callable[[object], _T]) -> _T:
        """What the answer's body means; raises Unavailable if that is nothing."""
        return self._understood(lambda: decode(parse(response.content)))

    def _failure(self, request: Request, error: WireError) -> str:
        cause = error.__cause__
        if isinstance(error, Silent):
            asked = f"{request.method} {request.target.partition('?')[0]}"
            return f"{self.endpoint} has not answered {asked} for {request.silence_s:g} s"
        if not isinstance(error, NotConnected) or not isinstance(cause, OSError):
            return broken_connection(self.endpoint, error)
        if isinstance(cause, TimeoutError) and cause.errno is None:
            return f"{self.endpoint} did not take the connection within {self._connect_s:g} s"
        return connect_failure(self.endpoint, cause)

    def _understood(self, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except InvalidRequest as error:
            raise Unavailable(
                f"{self.endpoint} answers, but not as a fleetd does: {error}"
            ) from error


def is_lacking(response: Response) -> bool:
    """Whether an original server does not know what was asked; the body of an error was read."""
    return 400 <= response.status < 500 and is_unknown_here(response.status, response.content)
