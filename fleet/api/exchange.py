"""One HTTP exchange on the wire: bodies that come in, answers that go out, and their bounds.

Nothing that a client sends, or does not send or read, keeps memory or a task for ever: a body has a
size and a time, all bodies together have a size, and a client that does not take its answer is cut
off. The parts of HTTP that aiohttp answers by itself are answered with fleet's error document too.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable

from aiohttp import web

from fleet.api.answers import JSON, Answer, Refused, error_document
from fleet.api.limits import Limits
from fleet.api.members import render

_log = logging.getLogger(__name__)

_PIECE_BYTES = 256 * 1024
# How long the rest of a body is taken in that nobody wants, so that its sender reads the answer.
_LINGER_S = 5.0


class Exchange(web.RequestHandler):
    """A connection whose every error is fleet's document; one for each connection of a server."""

    def __init__(self, server: web.Server, limits: Limits) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=limits.idle_s,
            max_line_size=limits.line_bytes,
            max_field_size=limits.header_bytes,
            max_headers=limits.headers,
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

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
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
            async with asyncio.timeout(self._limits.body_s):
                async for part in request.content.iter_any():
                    body += part
                    self._held_bytes += len(part)
                    self._check(len(body))
        except TimeoutError as error:
            raise Refused(
                408, f"the body of the request did not come within {self._limits.body_s:g} s"
            ) from error
        except web.RequestPayloadError as error:
            raise Refused(400, "the body of the request cannot be read") from error

    def _check(self, size: int) -> None:
        most = self._limits.body_bytes
        if size > most:
            raise Refused(413, f"the body of a request has at most {most} bytes")
        if self._held_bytes > self._limits.bodies_bytes:
            raise Refused(503, "too many large requests are under way: send this one again later")


class Writer:
    """Sends an answer piece by piece, for as long as its client takes them."""

    def __init__(self, request: web.Request, limits: Limits) -> None:
        self._request = request
        self._reader_s = limits.reader_s

    async def send(self, answer: Answer) -> web.StreamResponse:
        """Send it all; raises ConnectionError if the client is gone or does not read."""
        response = _head(answer)
        await self._taken(response.prepare(self._request))
        if not isinstance(response, web.Response):
            await self.write(response, answer.body)
        await self._taken(response.write_eof())
        return response

    async def write(self, response: web.StreamResponse, data: bytes) -> None:
        """Send more of a stream; raises ConnectionError if the client is gone or does not read."""
        for start in range(0, len(data), _PIECE_BYTES):
            await self._taken(response.write(data[start : start + _PIECE_BYTES]))

    async def _taken(self, step: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(self._reader_s):
                await step
        except TimeoutError as error:
            if self._request.transport is not None:
                self._request.transport.abort()
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
