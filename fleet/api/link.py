"""The HTTP of the client: requests, patience, streams of lines, and errors that are fleet's own.

What is asked and what the answers mean is the client's. httpcore is what httpx is made on: what it
leaves out takes longer to import than most commands take for all the rest.
"""

import contextlib
import ssl
import urllib.parse
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import TypeVar

import httpcore

from fleet.api.endpoint import (
    Endpoint,
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

_T = TypeVar("_T")

Transport = httpcore.AsyncConnectionPool | httpcore.AsyncConnectionInterface
"""A way to the API other than its socket or address."""

Params = Mapping[str, str | int]

CONNECT_S = 5.0
READ_S = 30.0
# A server of ours gives a sign of life every 5 s.
SILENCE_S = 15.0
_STREAMS = ("changes", "watch")
_BROKEN = (httpcore.NetworkError, httpcore.ProtocolError)


class ApiLink:
    """A connection to one fleetd's API; what it raises are fleet's errors and no others.

    A server that has lost its store is asked again for some seconds, unless that might do something
    twice.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        transport: Transport | None,
        socket: str | None,
        tls: ssl.SSLContext | None,
        connect_s: float,
        read_s: float,
        silence_s: float,
    ) -> None:
        """`transport` and `socket` are other ways to the endpoint; see the client."""
        self.endpoint = parse_endpoint(endpoint)
        self._read_s = read_s
        self._silence_s = silence_s
        self._connect_s = connect_s
        self._host = urllib.parse.urlsplit(self.endpoint.url).netloc.rpartition("@")[2]
        self._way: Transport = transport or _pool(self.endpoint, tls, socket)

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._way.aclose()

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
    ) -> httpcore.Response:
        """The answer, whatever it says; `once` is for what must not be done twice."""
        query = f"?{urllib.parse.urlencode(params)}" if params else ""
        headers = [("Host", self._host)]
        if content is not None:
            headers.append(("Content-Type", "application/json"))
        patience = Patience(0.0 if once else self._read_s)
        while True:
            with self._translated(method, path):
                response = await self._way.request(
                    method,
                    self._url(path + query),
                    headers=headers,
                    content=content,
                    extensions=self._limits(self._read_s),
                )
            if not await patience.asks_again(response.status):
                return response

    async def ask_ours(self, path: str, params: Params, lack: str) -> httpcore.Response:
        """What a server of ours says; NotFound from an original one, with what it does not do."""
        response = await self.send("GET", path, params=params)
        if is_lacking(response):
            raise NotFound(f"{self.endpoint} {lack}: it is a fleetd of fleet 1.0")
        self.check(response)
        return response

    def _url(self, path: str) -> str:
        return f"{self.endpoint.url}/fleet/v1/{path}"

    def _limits(self, silence_s: float) -> dict[str, dict[str, float]]:
        names = ("read", "write", "pool")
        return {"timeout": {"connect": self._connect_s, **dict.fromkeys(names, silence_s)}}

    # Streams

    async def lines(self, url: str, lack: str) -> AsyncGenerator[bytes, None]:
        """The lines of a stream that has no end but trouble; NotFound from an original server."""
        with self._translated("GET", url.partition("?")[0]):
            async with contextlib.AsyncExitStack() as stack:
                response = await self._open_stream(stack, url)
                if is_lacking(response):
                    raise NotFound(f"{self.endpoint} {lack}: it is a fleetd of fleet 1.0")
                self.check(response)
                async for line in _lines_of(response):
                    if line.strip():
                        yield line
                raise Unavailable(f"{self.endpoint} ended the stream of reports")

    async def _open_stream(self, stack: contextlib.AsyncExitStack, url: str) -> httpcore.Response:
        """The answer that begins, of which a refusal has been read; the stack closes it."""
        patience = Patience(self._read_s)
        while True:
            stream = self._way.stream(
                "GET",
                self._url(url),
                headers=[("Host", self._host)],
                extensions=self._limits(self._silence_s),
            )
            response = await stack.enter_async_context(stream)
            if response.status != 200:
                await response.aread()
                await response.aclose()  # its connection is for the next attempt
            if not await patience.asks_again(response.status):
                return response

    def read_line(self, line: bytes, decode: Callable[[object], _T]) -> _T:
        """What the line tells; raises what it says if it says that the stream is over."""
        document = self._understood(lambda: parse(line))
        if isinstance(document, dict) and "error" in document:
            raise error_of(503, document, self.endpoint)
        return self._understood(lambda: decode(document))

    # Answers and errors

    def check(self, response: httpcore.Response) -> None:
        """Raise what the server said went wrong."""
        if not 200 <= response.status < 300:
            raise error_of(response.status, document_in(response.content), self.endpoint)

    def check_ours(self, response: httpcore.Response) -> None:
        """Like `check`, and raise NotFound if an original server does not know such requests."""
        if is_lacking(response):
            raise NotFound(f"{self.endpoint} cannot do this: it is a fleetd of fleet 1.0")
        self.check(response)

    def decoded(self, response: httpcore.Response, decode: Callable[[object], _T]) -> _T:
        """What the answer's body means; raises Unavailable if that is nothing."""
        return self._understood(lambda: decode(parse(response.content)))

    def _understood(self, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except InvalidRequest as error:
            raise Unavailable(
                f"{self.endpoint} answers, but not as a fleetd does: {error}"
            ) from error

    @contextlib.contextmanager
    def _translated(self, method: str, path: str) -> Iterator[None]:
        """Within this, httpcore's errors are fleet's."""
        try:
            yield
        except httpcore.ConnectTimeout as error:
            raise Unavailable(
                f"{self.endpoint} did not take the connection within {self._connect_s:g} s"
            ) from error
        except httpcore.TimeoutException as error:
            silence = self._silence_s if path in _STREAMS else self._read_s
            raise Unavailable(
                f"{self.endpoint} has not answered {method} {path} for {silence:g} s"
            ) from error
        except httpcore.ConnectError as error:
            raise Unavailable(connect_failure(self.endpoint, error)) from error
        except _BROKEN as error:
            raise Unavailable(broken_connection(self.endpoint, error)) from error


def _pool(
    endpoint: Endpoint, tls: ssl.SSLContext | None, socket: str | None
) -> httpcore.AsyncConnectionPool:
    context = (tls or tls_context()) if endpoint.is_tls else None
    return httpcore.AsyncConnectionPool(ssl_context=context, uds=socket or endpoint.unix_path)


async def _lines_of(response: httpcore.Response) -> AsyncGenerator[bytes, None]:
    """The lines, and what there is of one at the end."""
    rest = b""
    async for part in response.aiter_stream():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line
    yield rest


def is_lacking(response: httpcore.Response) -> bool:
    """Whether an original server does not know what was asked; the body of an error was read."""
    return 400 <= response.status < 500 and is_unknown_here(response.status, response.content)
