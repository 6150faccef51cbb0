"""The API over HTTP: sockets, who is asking, requests and streams.

What a request means and what is answered is decided in `service`; how much a client may send, and
how slowly, in `exchange` and `connections`. A write goes on to its end even if its sender goes
away; anything else is let go then.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

from fleet.api import access, exchange, tcp
from fleet.api.access import Peer, Verb
from fleet.api.answers import UNABLE, Answer, Refused, error_answer, error_document, json_answer
from fleet.api.call import Call
from fleet.api.connections import Connections
from fleet.api.exchange import Exchange, Intake, Writer
from fleet.api.follow import Follower, Following
from fleet.api.limits import Limits
from fleet.api.listen import Listener, admit_readers, listen_at
from fleet.api.members import render
from fleet.api.metrics import Kind, Metric, Sample
from fleet.api.pages import DEFAULT_LIMIT
from fleet.api.reports import encode_report
from fleet.api.routes import Endpoint, Route
from fleet.api.service import ApiService
from fleet.api.ticks import Ticks, watching
from fleet.errors import Denied, FleetError, Unavailable
from fleet.foresight import Foresee, Rebalancer
from fleet.names import UnitName, parse_name
from fleet.registry import Registry

_log = logging.getLogger(__name__)

SIGN_OF_LIFE_S = 5.0
# fleetd registers its machine within half a second where its store answers.
START_S = 2.0
_LOOK_S = 0.05
NDJSON = "application/x-ndjson"
# How long stop() waits for requests under way.
_STOP_S = 5.0
# How long the machine's user and group database may take.
_WHO_S = 5.0
_LIMITS = Limits()
_BUSY = exchange.raw_answer(
    503, "Service Unavailable", "all connections of this API are at work: try again later"
)


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
        foresee: Foresee | None = None,
        rebalancer: Rebalancer | None = None,
        hostname: str | None = None,
        find_group: Callable[[str], int | None] = access.find_group,
        sign_of_life_s: float = SIGN_OF_LIFE_S,
        start_s: float = START_S,
        tls: ssl.SSLContext | None = None,
        insecure_tcp: bool = False,
        limits: Limits = _LIMITS,
    ) -> None:
        """`may_serve` gives the reason for answering nothing just now, or None.

        Whoever asks within `start_s` of the start waits until then rather than hear that reason:
        systemd may have started fleetd for this very request.

        `gather` gives the metrics of the rest of the process, `foresee` the scheduler's answer to
        changes that are not made, `rebalancer` that to an uneven load; `hostname` stands after the
        user's name beside what they write.
        `tls` is what TCP sockets are served with; without it they are only served if `insecure_tcp`
        says so.
        """
        self._version = version
        self._sign_of_life_s = sign_of_life_s
        self._start_s = start_s
        self._patient_until_s = 0.0
        self._find_group = find_group
        self._gather = gather
        self._registry = registry
        self._following = Following(registry)
        self._ticks: set[Ticks] = set()
        self._service = ApiService(
            registry,
            version=version,
            token_limit=token_limit,
            hostname=hostname or socket.gethostname(),
            owner=os.geteuid(),
            may_serve=may_serve,
            gather=self._metrics,
            foresee=foresee,
            rebalancer=rebalancer,
        )
        self._tls = tls
        self._insecure_tcp = insecure_tcp
        self._limits = limits
        self._intake = Intake(limits)
        self._connections: list[Connections] = []
        self._writes: set[asyncio.Task[Answer]] = set()
        self._own_listener: Listener | None = None
        self._runner: web.AppRunner | None = None

    async def start(
        self, *, unix_path: Path | None = None, sockets: Sequence[socket.socket] = ()
    ) -> None:
        """Serve on a Unix socket at the path, or on sockets that listen already, or on both.

        Raises Conflict, InvalidRequest or Unavailable if the path cannot be listened on, and
        InvalidRequest for a TCP socket that is not to be served.
        """
        for each in sockets:
            tcp.check_listener(each, has_tls=self._tls is not None, insecure=self._insecure_tcp)
        for path in map(_path_of, sockets):
            if path is not None:
                admit_readers(path, self._find_group)
        listeners = list(sockets)
        if unix_path is not None:
            self._own_listener = listen_at(unix_path, self._find_group)
            listeners.append(self._own_listener.socket)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(self._set_headers)
        self._runner = web.AppRunner(
            app, handle_signals=False, handler_cancellation=True, shutdown_timeout=_STOP_S
        )
        await self._runner.setup()
        self._patient_until_s = asyncio.get_running_loop().time() + self._start_s
        self._connections = [self._serve(self._runner, each) for each in listeners]

    def _serve(self, runner: web.AppRunner, listener: socket.socket) -> Connections:
        server = runner.server
        if server is None:
            raise AssertionError("the runner is set up")
        tls = self._tls if tcp.is_tcp(listener) else None
        if tcp.is_tcp(listener) and tls is None:
            _log.warning(
                "whoever reaches the TCP socket %s may change the cluster: api_insecure is set",
                tcp.address_of(listener),
            )
        return Connections(
            listener,
            lambda: Exchange(server, self._limits),
            tls=tls,
            busy_answer=_BUSY,
            limits=self._limits,
        )

    async def stop(self) -> None:
        """End all streams, let requests under way come to their end, and close the sockets."""
        for connections in self._connections:
            await connections.close()
        stopping = Unavailable("fleetd is stopping")
        await self._following.close(stopping)
        for ticks in self._ticks:
            ticks.fail(stopping)
        if self._runner is not None:
            await self._runner.cleanup()
        await asyncio.gather(*self._writes, return_exceptions=True)
        if self._own_listener is not None:
            self._own_listener.remove_file()

    # One request

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        async with contextlib.AsyncExitStack() as stack:
            if request.transport is not None:
                for connections in self._connections:
                    stack.enter_context(connections.work(request.transport))
            return await self._reply(request)

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        endpoint = ""
        try:
            answer = await self._readiness()
            if answer is None:
                peer = await self._peer(request)
                route = self._service.admit(request.method, request.path, peer)
                endpoint = route.endpoint.value
                if route.endpoint is Endpoint.WATCH:
                    return await self._watch(request)
                if route.endpoint is Endpoint.CHANGES:
                    return await self._changes(request)
                answer = await self._answer(request, route, peer)
        except FleetError as error:
            answer = error_answer(error)
            # Not its sentence, which may quote a unit's contents.
            _log.debug("%s %r: %s", request.method, request.path, type(error).__name__)
        except Exception:
            _log.exception("%s %r failed", request.method, request.path)
            answer = json_answer(error_document(500, ""), 500)
        self._service.count(endpoint, answer.status)
        return await Writer(request, self._limits).send(answer)

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
        )
        if not route.endpoint.takes_body:
            return await self._service.answer(call)
        async with self._intake.body_of(request) as body:
            answering = self._service.answer(replace(call, body=body))
            if route.endpoint.verb is Verb.READ:
                return await answering
            return await self._to_its_end(answering)

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
            return self._remote_peer(transport)
        try:
            if access.peer_uid(connection) == 0:
                return access.local_peer(connection)
            async with asyncio.timeout(_WHO_S):
                return await asyncio.to_thread(access.local_peer, connection, self._find_group)
        except OSError as error:
            # TimeoutError is one of them.
            raise Denied(f"this machine cannot tell who you are: {error}") from error

    def _remote_peer(self, transport: asyncio.BaseTransport) -> Peer:
        address = transport.get_extra_info("peername")
        if self._tls is None:
            return access.anonymous_peer(address)
        return access.certified_peer(transport.get_extra_info("peercert"), address)

    # Streams

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        units = watched_units(request.query.getall("unit", ()))
        async with self._following.join(units) as follower:
            return await self._stream(request, Endpoint.WATCH, self._reports(follower))

    async def _reports(self, follower: Follower) -> AsyncGenerator[bytes, None]:
        """What the follower learns, until that ends; raises Unavailable when it does."""
        silent_without_store = 0
        while True:
            reports = await follower.changes(self._sign_of_life_s)
            lost = not reports and not self._following.is_current
            silent_without_store = silent_without_store + 1 if lost else 0
            if silent_without_store == 2:
                raise Unavailable("the store has not answered for some time; watch again later")
            yield b"".join(render(encode_report(told)) + b"\n" for told in reports)

    async def _changes(self, request: web.Request) -> web.StreamResponse:
        async with watching(self._registry) as ticks:
            self._ticks.add(ticks)
            try:
                return await self._stream(request, Endpoint.CHANGES, self._news(ticks))
            finally:
                self._ticks.discard(ticks)

    async def _news(self, ticks: Ticks) -> AsyncGenerator[bytes, None]:
        """What kinds of things change, until that ends; raises Unavailable when it does."""
        yield render({"revision": ticks.revision}) + b"\n"
        while True:
            kinds = await ticks.next(self._sign_of_life_s)
            tick = {"revision": ticks.revision, "changed": sorted(kinds)}
            yield render(tick) + b"\n" if kinds else b""

    async def _stream(
        self, request: web.Request, endpoint: Endpoint, lines: AsyncGenerator[bytes, None]
    ) -> web.StreamResponse:
        """Send the lines as they come, empty ones for a sign of life, and why there are no more."""
        response = web.StreamResponse(headers={"Content-Type": NDJSON})
        writer = Writer(request, self._limits)
        with contextlib.suppress(ConnectionError):  # the client is gone, as clients go
            await response.prepare(request)
            self._service.count(endpoint.value, response.status)
            try:
                async with contextlib.aclosing(lines):
                    async for line in lines:
                        await writer.write(response, line or b"\n")
            except Unavailable as error:
                document = error_document(503, f"{UNABLE}: {error}")
                await writer.write(response, render(document) + b"\n")
            await response.write_eof()
        return response

    # Headers and metrics

    async def _set_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """fleet 1.0 named itself in all answers but those it gave while it could not serve."""
        exchange.make_own(response)
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
