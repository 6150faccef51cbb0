"""The API over HTTP: sockets, the kernel's word on who is asking, bodies and streams.

What a request means and what is answered is decided in `service`. A write goes on to its end even
if its sender goes away; anything else is let go then.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from fleet.api import access
from fleet.api.access import Peer, Verb
from fleet.api.answers import UNABLE, Answer, Refused, error_answer, error_document, json_answer
from fleet.api.follow import Follower, Following
from fleet.api.listen import Listener, admit_readers, listen_at
from fleet.api.metrics import Kind, Metric, Sample
from fleet.api.pages import DEFAULT_LIMIT
from fleet.api.routes import Endpoint, Route
from fleet.api.schema import encode_report, render
from fleet.api.service import ApiService, Call
from fleet.errors import Denied, FleetError, Unavailable
from fleet.names import UnitName, parse_name
from fleet.registry import Registry

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
# A request line has to hold the names of a thousand units that are watched.
MAX_LINE_BYTES = 512 * 1024
SIGN_OF_LIFE_S = 5.0
# fleetd registers its machine within half a second where its store answers.
START_S = 2.0
_LOOK_S = 0.05
NDJSON = "application/x-ndjson"
# How long stop() waits for requests under way.
_STOP_S = 5.0
# How long a client may take to send a body.
_BODY_S = 60.0
# How long the machine's user and group database may take.
_WHO_S = 5.0


class ApiServer:
    """One fleetd's API. `start` before use, `stop` after; both once."""

    def __init__(
        self,
        registry: Registry,
        *,
        version: str,
        token_limit: int = DEFAULT_LIMIT,
        may_serve: Callable[[], str | None] = lambda: None,
        gather: Callable[[], Iterable[Metric]] = lambda: (),
        hostname: str | None = None,
        find_group: Callable[[str], int | None] = access.find_group,
        sign_of_life_s: float = SIGN_OF_LIFE_S,
        start_s: float = START_S,
    ) -> None:
        """`may_serve` gives the reason for answering nothing just now, or None.

        Whoever asks within `start_s` of the start waits until then rather than hear that reason:
        systemd may have started fleetd for this very request.

        `gather` gives the metrics of the rest of the process; `hostname` stands after the user's
        name beside what they write.
        """
        self._version = version
        self._sign_of_life_s = sign_of_life_s
        self._start_s = start_s
        self._patient_until_s = 0.0
        self._find_group = find_group
        self._gather = gather
        self._following = Following(registry)
        self._service = ApiService(
            registry,
            version=version,
            token_limit=token_limit,
            hostname=hostname or socket.gethostname(),
            owner=os.geteuid(),
            may_serve=may_serve,
            gather=self._metrics,
        )
        self._writes: set[asyncio.Task[Answer]] = set()
        self._own_listener: Listener | None = None
        self._runner: web.AppRunner | None = None

    async def start(
        self, *, unix_path: Path | None = None, sockets: Sequence[socket.socket] = ()
    ) -> None:
        """Serve on a Unix socket at the path, or on sockets that listen already, or on both.

        Raises Conflict, InvalidRequest or Unavailable if the path cannot be listened on.
        """
        listeners = list(sockets)
        for path in map(_path_of, sockets):
            if path is not None:
                admit_readers(path, self._find_group)
        if unix_path is not None:
            self._own_listener = listen_at(unix_path, self._find_group)
            listeners.append(self._own_listener.socket)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(self._set_headers)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            max_line_size=MAX_LINE_BYTES,
            shutdown_timeout=_STOP_S,
        )
        await self._runner.setup()
        self._patient_until_s = asyncio.get_running_loop().time() + self._start_s
        for listener in listeners:
            await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """End all streams, let requests under way come to their end, and close the sockets."""
        await self._following.close(Unavailable("fleetd is stopping"))
        if self._runner is not None:
            await self._runner.cleanup()
        await asyncio.gather(*self._writes, return_exceptions=True)
        if self._own_listener is not None:
            self._own_listener.remove_file()

    # One request

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        endpoint = ""
        try:
            answer = await self._readiness()
            if answer is None:
                peer = await self._peer(request)
                route = self._service.admit(request.method, request.path, peer)
                endpoint = route.endpoint.value
                if route.endpoint is Endpoint.WATCH:
                    return await self._watch(request)
                answer = await self._answer(request, route, peer)
        except FleetError as error:
            answer = error_answer(error)
            # Not its sentence, which may quote a unit's contents.
            _log.debug("%s %r: %s", request.method, request.path, type(error).__name__)
        except Exception:
            _log.exception("%s %r failed", request.method, request.path)
            answer = json_answer(error_document(500, ""), 500)
        self._service.count(endpoint, answer.status)
        return _response(answer)

    async def _readiness(self) -> Answer | None:
        loop = asyncio.get_running_loop()
        # Nobody tells when the answer to this question changes.
        while (answer := self._service.readiness()) and loop.time() < self._patient_until_s:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        return answer

    async def _answer(self, request: web.Request, route: Route, peer: Peer) -> Answer:
        call = Call(
            route=route,
            peer=peer,
            query={key: request.query.getall(key) for key in request.query},
            content_types=tuple(request.headers.getall("Content-Type", ())),
            body=await _body(request),
        )
        answering = self._service.answer(call)
        if route.endpoint.verb is Verb.WRITE:
            return await self._to_its_end(answering)
        return await answering

    async def _to_its_end(self, answering: Coroutine[Any, Any, Answer]) -> Answer:
        """Do a write that must not stop half-way when whoever asked for it goes away."""
        task = asyncio.create_task(answering, name="api-write")
        self._writes.add(task)
        task.add_done_callback(self._write_ended)
        return await asyncio.shield(task)

    def _write_ended(self, task: asyncio.Task[Answer]) -> None:
        self._writes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("a write failed: %s", type(error).__name__)

    async def _peer(self, request: web.Request) -> Peer:
        transport = request.transport
        connection = transport.get_extra_info("socket") if transport else None
        if transport is None or connection is None:
            raise Refused(400, "the client is gone")
        if connection.family != socket.AF_UNIX:
            return access.remote_peer(transport.get_extra_info("peername"))
        try:
            if access.peer_uid(connection) == 0:
                return access.local_peer(connection)
            async with asyncio.timeout(_WHO_S):
                return await asyncio.to_thread(access.local_peer, connection, self._find_group)
        except OSError as error:
            # TimeoutError is one of them.
            raise Denied(f"this machine cannot tell who you are: {error}") from error

    # Streams

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        units = watched_units(request.query.getall("unit", ()))
        async with self._following.join(units) as follower:
            response = web.StreamResponse(headers={"Content-Type": NDJSON})
            with contextlib.suppress(ConnectionError):  # the client is gone, as clients go
                await response.prepare(request)
                self._service.count(Endpoint.WATCH.value, response.status)
                try:
                    await self._tell(follower, response)
                except Unavailable as error:
                    document = error_document(503, f"{UNABLE}: {error}")
                    await response.write(render(document) + b"\n")
                await response.write_eof()
        return response

    async def _tell(self, follower: Follower, response: web.StreamResponse) -> None:
        """Write what the follower learns, until that ends; raises Unavailable when it does."""
        silent_without_store = 0
        while True:
            reports = await follower.changes(self._sign_of_life_s)
            lost = not reports and not self._following.is_current
            silent_without_store = silent_without_store + 1 if lost else 0
            if silent_without_store == 2:
                raise Unavailable("the store has not answered for some time; watch again later")
            lines = [render(encode_report(told)) + b"\n" for told in reports]
            await response.write(b"".join(lines) or b"\n")

    # Headers and metrics

    async def _set_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """fleet 1.0 named itself in all answers but those it gave while it could not serve."""
        if response.status == 503:
            response.headers.popall("Server", None)
        else:
            response.headers["Server"] = f"fleetd/{self._version}"
        if response.headers.get("Content-Type") == "application/octet-stream":
            del response.headers["Content-Type"]

    def _metrics(self) -> list[Metric]:
        watches = Metric(
            "fleet_api_watches",
            Kind.GAUGE,
            "Clients that follow units at this moment.",
            (Sample(len(self._following)),),
        )
        return [*self._gather(), watches]


def _path_of(listener: socket.socket) -> Path | None:
    """Where a Unix socket stands in the file system; None for any other."""
    name = listener.getsockname() if listener.family == socket.AF_UNIX else ""
    return Path(name) if isinstance(name, str) and name else None


def watched_units(names: Sequence[str]) -> frozenset[UnitName] | None:
    """The units that are to be watched, None for all; raises InvalidRequest."""
    return frozenset(parse_name(name) for name in names) or None


async def _body(request: web.Request) -> bytes:
    """The body of a request; raises Refused if it is too large, too slow or broken."""
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused(413, f"the body of a request has at most {MAX_BODY_BYTES} bytes") from error
    except TimeoutError as error:
        raise Refused(408, f"the body of the request did not come within {_BODY_S:g} s") from error
    except web.RequestPayloadError as error:
        raise Refused(400, "the body of the request cannot be read") from error


def _response(answer: Answer) -> web.Response:
    headers = dict(answer.headers)
    if answer.content_type:
        headers["Content-Type"] = answer.content_type
    return web.Response(status=answer.status, body=answer.body, headers=headers)
