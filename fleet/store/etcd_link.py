"""The connection to etcd: servers and failover, time limits, logging in, TLS.

It carries calls and knows nothing of keys. One request goes to one server after the other until
one answers, but a request that must not be done twice goes no further once a server may have done
it. Every wait is bounded: a member that is frozen, or cut off from its peers, holds a connection
open and answers after seven seconds or never. What comes back is checked for being from the same
cluster as ever, and not from its past: a cluster that was emptied looks as if nothing were desired,
and so it counts as one that does not answer until fleetd is restarted.

At most a few requests are under way at a time, so that a storm opens few connections. Watches have
connections of their own. Nothing of a request's contents ever comes into a message.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence

from fleet.errors import InvalidRequest, Unavailable
from fleet.http.connections import NotConnected, WireError
from fleet.http.grpc import Call, Foreign, GrpcWire, Refused
from fleet.store import etcd_messages as api
from fleet.store import etcd_wire as wire
from fleet.store.connect import EtcdSettings
from fleet.store.etcd_faults import EtcdFault, Fault, fault_of_message, foreign_answer
from fleet.store.etcd_messages import Document, Message, Method
from fleet.store.etcd_pulse import Pulse

_log = logging.getLogger(__name__)

IN_FLIGHT = 4
# A watch only listens, so it never learns that the other end rebooted or that a firewall forgot
# the connection. The kernel asks after this many seconds of silence, and then this often.
KEEPALIVE_S = 3
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
# Faults that are no answer: the next server may know better.
_NO_ANSWER = frozenset({Fault.NOT_DONE, Fault.UNKNOWN, Fault.DENIED, Fault.TOKEN})
_LOST = (errno.EPIPE, errno.ECONNRESET)
# Of these answers a member says by itself how far it is; the others come through the quorum.
_LOCAL = frozenset({api.KEEPALIVE, api.WATCH, api.AUTHENTICATE})
# Without it a member that has lost its leader is silent on a watch for ever.
_HAS_LEADER = ("hasleader", "true")


class EtcdLink:
    """Carries requests to whichever server of the cluster answers; used from one event loop."""

    def __init__(self, settings: EtcdSettings, pulse: Pulse | None = None) -> None:
        """Raises InvalidRequest for servers or certificates that cannot work."""
        self.servers = tuple(_server(text) for text in settings.servers)
        if not self.servers:
            raise InvalidRequest("etcd_servers is empty")
        self.timeout_s = settings.request_timeout_s
        self.tries = max(2, len(self.servers))
        self._settings = settings
        self._pulse = pulse or Pulse()
        self._current = 0
        self._turns = asyncio.Semaphore(IN_FLIGHT)
        self._token = ""
        self._logging_in = asyncio.Lock()
        self._horizon = wire.Horizon()
        trust = trust_of(settings, self.servers)
        self._is_closed = False
        self._whole: set[asyncio.Task[Message]] = set()
        self._calls = self._wires(trust)
        self._watches = self._wires(trust)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def order(self) -> Sequence[str]:
        """The servers to try, in order; a single one twice, since a connection may have died."""
        first = self._current
        return [self.servers[(first + step) % len(self.servers)] for step in range(self.tries)]

    def silence_s(self, server: str) -> float:
        """How long ago the server last showed that it reaches its peers."""
        return self._pulse.age_s(server, asyncio.get_running_loop().time())

    def avoid(self, server: str) -> None:
        """Begin with the next server from now on."""
        if self.servers[self._current] == server:
            self._current = (self._current + 1) % len(self.servers)

    async def call(self, method: Method, document: Document, *, may_repeat: bool = True) -> Message:
        """The answer of the first server that gives one.

        Raises Unavailable, which names the servers and their troubles, and EtcdFault for what etcd
        answers otherwise.
        """
        tried: dict[str, str] = {}
        limit_s = (self.tries + 2) * self.timeout_s
        try:
            async with asyncio.timeout(limit_s), self._turns:
                for server in self.order():
                    try:
                        return await self.ask(server, method, document)
                    except EtcdFault as fault:
                        if fault.fault not in _NO_ANSWER:
                            raise
                        tried[server] = str(fault)
                        self.avoid(server)
                        if not may_repeat and fault.fault is Fault.UNKNOWN:
                            break
        except TimeoutError as error:
            raise self.unavailable(tried | {"in all": f"timed out after {limit_s:g} s"}) from error
        raise self.unavailable(tried)

    async def call_whole(self, method: Method, document: Document) -> Message:
        """As `call`, but the request goes on to its end if the caller is cancelled.

        Whoever hangs up on a transaction that only reads crashes an etcd 3.5.0 to 3.5.4 (etcd
        issue 14110).
        """
        task = asyncio.create_task(self.call(method, document))
        self._whole.add(task)
        task.add_done_callback(self._whole.discard)
        return await asyncio.shield(task)

    async def ask(
        self, server: str, method: Method, document: Document, *, for_watch: bool = False
    ) -> Message:
        """The answer of this server; raises EtcdFault, also if there is none."""
        wires = self._watches if for_watch else self._calls
        token = await self._authorize(wires, server)
        try:
            return await self._ask(wires, server, method, document)
        except EtcdFault as fault:
            if fault.fault is not Fault.TOKEN or not self._settings.username:
                raise
        self._forget(token)
        await self._authorize(wires, server)
        return await self._ask(wires, server, method, document)

    @contextlib.asynccontextmanager
    async def stream(self, server: str, document: Document) -> AsyncIterator[AsyncIterator[bytes]]:
        """The messages of a watch; the iterator raises EtcdFault when the connection is lost."""
        await self._authorize(self._watches, server)
        call = Call(
            path=api.WATCH.path,
            message=api.WATCH.request(document),
            metadata=(*self._metadata(), _HAS_LEADER),
            is_open=True,
            silence_s=None,
        )
        try:
            async with contextlib.AsyncExitStack() as stack:
                with _translated(self.timeout_s):
                    async with asyncio.timeout(self.timeout_s):
                        exchange = self._watches[server].exchange(call)
                        messages = await stack.enter_async_context(exchange)
                yield _translated_messages(messages, self.timeout_s)
        except EtcdFault as fault:
            if fault.fault is Fault.TOKEN:
                self._forget(self._token)
            raise

    def unavailable(self, tried: dict[str, str]) -> Unavailable:
        """The error that names each server with its trouble."""
        if self.is_closed:
            return Unavailable("the connection to etcd is closed")
        told = "; ".join(f"{server}: {words}" for server, words in tried.items())
        return Unavailable(f"etcd does not answer: {told}")

    async def close(self) -> None:
        """Let go of the connections, once what must not be hung up on has its answer."""
        self._is_closed = True
        if self._whole:
            await asyncio.wait(self._whole, timeout=self.timeout_s)
        for each in (*self._calls.values(), *self._watches.values()):
            await each.aclose()

    async def _ask(
        self, wires: Mapping[str, GrpcWire], server: str, method: Method, document: Document
    ) -> Message:
        floor = self._horizon.floor
        sent_s = asyncio.get_running_loop().time()
        call = Call(
            path=method.path,
            message=method.request(document),
            metadata=self._metadata(),
            silence_s=self.timeout_s,
        )
        with _translated(self.timeout_s):
            async with wires[server].exchange(call) as messages:
                found = [message async for message in messages]
        if len(found) != 1:
            raise foreign_answer(f"it consists of {len(found)} messages")
        answer = wire.decode_answer(method, found[0])
        header = wire.decode_header(answer)
        self._horizon.check_cluster(header)
        if method not in _LOCAL:
            self._horizon.check(header, floor)
        if method is not api.AUTHENTICATE:
            self._pulse.beat(server, sent_s)
        return answer

    def _metadata(self) -> Sequence[tuple[str, str]]:
        return [("token", self._token)] if self._token else []

    async def _authorize(self, wires: Mapping[str, GrpcWire], server: str) -> str:
        """Log in if that is wanted and has not been done; the token that is then used."""
        settings = self._settings
        if self.is_closed:
            raise EtcdFault(Fault.NOT_DONE, "the connection is closed")
        if not settings.username or self._token:
            return self._token
        async with self._logging_in:
            if not self._token:
                login = wire.encode_login(settings.username, settings.password or "")
                try:
                    answer = await self._ask(wires, server, api.AUTHENTICATE, login)
                    self._token = wire.decode_login(answer)
                except EtcdFault as fault:
                    if fault.fault is not Fault.NO_AUTH:
                        raise
                    _log.debug("%s: the cluster has no users, going on without", server)
        return self._token

    def _forget(self, token: str) -> None:
        if self._token == token:
            self._token = ""

    def _wires(self, trust: ssl.SSLContext) -> Mapping[str, GrpcWire]:
        """Connections to each server, by its URL; no proxy meant for the web comes between."""
        return {
            server: GrpcWire(server, tls=trust, connect_s=self.timeout_s, options=_KEEPALIVE)
            for server in self.servers
        }


async def _translated_messages(
    messages: AsyncIterator[bytes], timeout_s: float
) -> AsyncGenerator[bytes, None]:
    with _translated(timeout_s):
        async for message in messages:
            yield message


@contextlib.contextmanager
def _translated(timeout_s: float) -> Iterator[None]:
    """Within this, what goes wrong with a call is a fault, in plain words."""
    try:
        yield
    except Refused as refusal:
        fallback = f"it answered with gRPC status {refusal.code} without a reason"
        raise fault_of_message(refusal.words, refusal.code, fallback) from refusal
    except Foreign as error:
        raise foreign_answer(str(error)) from error
    except (WireError, TimeoutError) as error:
        fault = Fault.NOT_DONE if isinstance(error, NotConnected) else Fault.UNKNOWN
        raise EtcdFault(fault, _words(error, timeout_s)) from error


def _words(error: BaseException, timeout_s: float) -> str:
    for cause in _causes(error):
        if isinstance(cause, TimeoutError) and cause.errno is None:
            return f"timed out after {timeout_s:g} s"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            reason = (cause.reason or "the handshake failed").lower().replace("_", " ")
            wants = "it asks for another client certificate: " if "certificate" in reason else ""
            return f"TLS: {wants}{reason}"
        if isinstance(cause, socket.gaierror):
            return "its name cannot be resolved"
        if isinstance(cause, OSError) and cause.errno not in (None, *_LOST):
            return os.strerror(cause.errno).lower()
    return "the connection was lost"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error with all it came from, groups included."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    origin = error.__cause__ or error.__context__
    if origin is not None:
        yield from _causes(origin)


def _server(text: str) -> str:
    """The server's URL without a trailing slash; raises InvalidRequest."""
    url = urllib.parse.urlsplit(text.strip())
    try:
        is_complete = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        is_complete = False
    if url.username or url.password:
        shown = f"{url.scheme}://...@{url.hostname}"
        raise InvalidRequest(f"{shown}: give the user in etcd_username and etcd_password instead")
    if not is_complete or url.path.strip("/") or url.query or url.fragment:
        raise InvalidRequest(f"etcd server {text!r} is not a URL like http://10.0.0.1:2379")
    return f"{url.scheme}://{url.netloc}"


def trust_of(settings: EtcdSettings, servers: Sequence[str]) -> ssl.SSLContext:
    """Whom to trust and what to show; certificates of servers are verified always."""
    if bool(settings.certfile) != bool(settings.keyfile):
        raise InvalidRequest("etcd_certfile and etcd_keyfile are only of use together")
    if not any(server.startswith("https://") for server in servers):
        # Trusts nobody, and spares the reading of the system's authorities.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context = ssl.create_default_context(cafile=settings.cafile)
        context.set_alpn_protocols(["h2"])
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(f"etcd_cafile {settings.cafile}: {_file_words(error)}") from error
    if settings.certfile and settings.keyfile:
        try:
            context.load_cert_chain(settings.certfile, settings.keyfile)
        except (OSError, ssl.SSLError) as error:
            pair = f"etcd_certfile {settings.certfile} with etcd_keyfile {settings.keyfile}"
            raise InvalidRequest(f"{pair}: {_file_words(error)}") from error
    return context


def _file_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no usable PEM ({(error.reason or str(error)).lower().replace('_', ' ')})"
    return os.strerror(error.errno).lower() if error.errno else str(error)
