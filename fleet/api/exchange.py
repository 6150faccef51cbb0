"""One HTTP exchange on the wire: bodies that come in, answers that go out, and their bounds.

Nothing that a client sends, or does not send or read, keeps memory or a task for ever: a body has a
size and a time, all bodies together have a size, and a client that does not take its answer is cut
off. The parts of HTTP that aiohttp answers by itself are answered with fleet's error document too.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web

from fleet.api.answers import JSON, Answer, Refused, error_document
from fleet.api.schema import render

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
# What all requests at work may hold at a time.
MAX_BODIES_BYTES = 4 * MAX_BODY_BYTES
# A request line has to hold the names of a thousand units that are watched.
MAX_LINE_BYTES = 128 * 1024
# What each header may be long, and how many there may be.
_MAX_FIELD_BYTES = 8 * 1024
_MAX_FIELDS = 64
# How long a connection may wait for a request, or a request for the end of its headers.
IDLE_S = 60.0
# How long a client may take to send a body.
BODY_S = 60.0
# How long a client may take to read the next piece of an answer.
READER_S = 60.0
_PIECE_BYTES = 256 * 1024
# How long the rest of a body is taken in that nobody wants, so that its sender reads the answer.
_LINGER_S = 5.0


class Exchange(web.RequestHandler):
    """A connection whose every error is fleet's document; one for each connection of a server."""

    def __init__(self, server: web.Server, *, idle_s: float = IDLE_S) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=idle_s,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=_MAX_FIELD_BYTES,
            max_headers=_MAX_FIELDS,
            lingering_time=_LINGER_S,
            # fleet 1.0 knew no compressed bodies, and a short one can unpack to a very long one.
            auto_decompress=False,
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP; the connection ends with it."""
        _log.debug("a request is malformed: %s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionResetError("an answer is under way already")
        reason = " ".join((message or "").split()) or "this is no HTTP request"
        response = _document(status, f"malformed request: {reason[:200]}")
        response.force_close()
        return response


def make_own(response: web.StreamResponse) -> None:
    """Give an error that aiohttp answers by itself (no such path, what Expect) fleet's body."""
    if isinstance(response, web.HTTPException):
        body = render(error_document(response.status, response.reason.lower()))
        response.body = body
        response.content_type = JSON
        response.headers["Content-Length"] = str(len(body))


class Intake:
    """The bodies of all the requests at work, and how much they hold together."""

    def __init__(self, *, limit_bytes: int = MAX_BODIES_BYTES, body_s: float = BODY_S) -> None:
        self._limit_bytes = limit_bytes
        self._body_s = body_s
        self._held_bytes = 0

    @contextlib.asynccontextmanager
    async def body_of(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body, which counts for as long as this lasts.

        Raises Refused if it is too large, too slow or broken, or if there are too many others.
        """
        body = bytearray()
        try:
            await self._collect(request, body)
            yield bytes(body)
        finally:
            self._held_bytes -= len(body)

    async def _collect(self, request: web.Request, body: bytearray) -> None:
        self._check(request.content_length or 0)
        try:
            async with asyncio.timeout(self._body_s):
                async for part in request.content.iter_any():
                    body += part
                    self._held_bytes += len(part)
                    self._check(len(body))
        except TimeoutError as error:
            raise Refused(
                408, f"the body of the request did not come within {self._body_s:g} s"
            ) from error
        except web.RequestPayloadError as error:
            raise Refused(400, "the body of the request cannot be read") from error

    def _check(self, size: int) -> None:
        if size > MAX_BODY_BYTES:
            raise Refused(413, f"the body of a request has at most {MAX_BODY_BYTES} bytes")
        if self._held_bytes > self._limit_bytes:
            raise Refused(503, "too many large requests are under way: send this one again later")


async def send(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Send an answer to its end; raises ConnectionError if the client is gone or does not read."""
    response = _head(answer)
    async with _reader(request):
        await response.prepare(request)
    if isinstance(response, web.Response):
        async with _reader(request):
            await response.write_eof()
        return response
    await write(request, response, answer.body)
    async with _reader(request):
        await response.write_eof()
    return response


async def write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send more of a stream; raises ConnectionError if the client is gone or does not read."""
    for start in range(0, len(data), _PIECE_BYTES):
        async with _reader(request):
            await response.write(data[start : start + _PIECE_BYTES])


@contextlib.asynccontextmanager
async def _reader(request: web.Request) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(READER_S):
            yield
    except TimeoutError as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not read its answer") from error


def _head(answer: Answer) -> web.StreamResponse:
    headers = dict(answer.headers)
    if answer.content_type:
        headers["Content-Type"] = answer.content_type
    if len(answer.body) <= _PIECE_BYTES:
        return web.Response(status=answer.status, body=answer.body, headers=headers)
    headers["Content-Length"] = str(len(answer.body))
    return web.StreamResponse(status=answer.status, headers=headers)


def _document(status: int, message: str) -> web.Response:
    body = render(error_document(status, message))
    return web.Response(status=status, body=body, content_type=JSON)


def raw_answer(status: int, reason: str, message: str) -> bytes:
    """A whole HTTP answer with an error document, for where there is no exchange."""
    body = render(error_document(status, message))
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {JSON}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
