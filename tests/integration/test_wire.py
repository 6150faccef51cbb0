"""Connections to an HTTP server, against servers that do well and servers that do not."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from fleet.http.connections import Broken, NotConnected, Silent
from fleet.http.wire import HttpWire, Request
from tests.integration.authority import Authority

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
REFUSAL = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def asking(
    target: str = "/x", content: bytes | None = None, silence_s: float | None = 10.0
) -> Request:
    method = "POST" if content else "GET"
    return Request(method=method, target=target, content=content, silence_s=silence_s)


@contextlib.asynccontextmanager
async def served(
    talk: Talk, *, path: str | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[asyncio.Server]:
    """A server that talks so on each connection and then hangs up."""
    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk_of_this = asyncio.current_task()
        assert talk_of_this
        talks.add(talk_of_this)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            try:
                await talk(reader, writer)
            finally:
                writer.close()

    start = (
        asyncio.start_unix_server(serve, path)
        if path
        else asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    )
    async with await start as server:
        yield server
    for task in talks:
        task.cancel()
    await asyncio.gather(*talks, return_exceptions=True)


@contextlib.asynccontextmanager
async def a_wire(folder: Path, talk: Talk) -> AsyncIterator[HttpWire]:
    """A wire to a server that talks so on each connection and then hangs up."""
    path = f"{folder}/s"
    async with served(talk, path=path):
        wire = HttpWire("http://fleet", local=path, connect_s=5.0)
        try:
            yield wire
        finally:
            await wire.aclose()


async def whole(wire: HttpWire, request: Request) -> tuple[int, bytes]:
    async with wire.exchange(request) as reply:
        return reply.status, await reply.whole()


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


class Counted:
    """A server that answers so many times a connection; it knows how many connections it had."""

    def __init__(
        self, *, most: int, pause_s: float = 0.0, answer: bytes = OK, unasked: bool = False
    ) -> None:
        """`unasked` has it say more a moment after each answer."""
        self.connections = 0
        self._most, self._pause_s, self._answer = most, pause_s, answer
        self._unasked = unasked

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for _ in range(self._most):
            await head(reader)
            await asyncio.sleep(self._pause_s)
            writer.write(self._answer)
            if self._unasked:
                await asyncio.sleep(0.03)
                writer.write(OK)


async def test_connection_is_kept_for_what_is_asked_next(tmp_path: Path) -> None:
    server = Counted(most=9)
    async with a_wire(tmp_path, server) as wire:
        assert [await whole(wire, asking()) for _ in range(3)] == [(200, b"ok")] * 3
    assert server.connections == 1


async def test_requests_at_a_time_have_a_connection_each(tmp_path: Path) -> None:
    server = Counted(most=9, pause_s=0.05)
    async with a_wire(tmp_path, server) as wire:
        assert await asyncio.gather(*(whole(wire, asking()) for _ in range(3)))
        await whole(wire, asking())
    assert server.connections == 3


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(Counted(most=1), id="it was closed since"),
        pytest.param(Counted(most=9, answer=LAST), id="the server said so"),
        pytest.param(Counted(most=9, answer=OK + LAST), id="there is an answer nobody asked for"),
        pytest.param(Counted(most=9, unasked=True), id="such an answer comes later"),
    ],
)
async def test_connection_that_cannot_be_used_again_is_not(tmp_path: Path, server: Counted) -> None:
    async with a_wire(tmp_path, server) as wire:
        assert await whole(wire, asking()) == (200, b"ok")
        await asyncio.sleep(0.05)
        assert await whole(wire, asking()) == (200, b"ok")
    assert server.connections == 2


async def test_answer_that_is_left_early_ends_its_connection(tmp_path: Path) -> None:
    server = Counted(most=9)
    async with a_wire(tmp_path, server) as wire:
        async with wire.exchange(asking()) as reply:
            assert reply.status == 200
        assert await whole(wire, asking()) == (200, b"ok")
    assert server.connections == 2


class Left:
    """A server that answers once, and knows when its client has gone."""

    def __init__(self, *, pause_s: float = 0.0) -> None:
        self._pause_s = pause_s
        self._gone = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        await asyncio.sleep(self._pause_s)
        writer.write(OK)
        await reader.read()
        self._gone.set()

    async def wait(self) -> None:
        async with asyncio.timeout(10):
            await self._gone.wait()


async def test_closed_wire_leaves_no_connection_open(tmp_path: Path) -> None:
    server = Left(pause_s=0.05)
    async with a_wire(tmp_path, server) as wire:
        under_way = asyncio.create_task(whole(wire, asking()))
        await asyncio.sleep(0.02)
        await wire.aclose()
        assert await under_way == (200, b"ok")
        await server.wait()


async def test_request_that_is_cancelled_leaves_no_connection_open(tmp_path: Path) -> None:
    server = Left()
    async with a_wire(tmp_path, server) as wire:
        await whole(wire, asking())
        second = asyncio.create_task(whole(wire, asking()))
        await asyncio.sleep(0)  # it looks whether the connection is still good
        second.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await second
        await server.wait()


async def test_task_that_is_being_cancelled_may_still_ask(tmp_path: Path) -> None:
    server = Counted(most=9)
    last_word = []

    async def work(wire: HttpWire) -> None:
        try:
            await whole(wire, asking())
            await asyncio.sleep(3600)
        finally:
            last_word.append(await whole(wire, asking()))

    async with a_wire(tmp_path, server) as wire:
        task = asyncio.create_task(work(wire))
        await asyncio.sleep(0.05)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert (last_word, server.connections) == ([(200, b"ok")], 1)


@contextlib.contextmanager
def full_queue(path: str) -> Iterator[socket.socket]:
    """A Unix socket that listens, with so many newcomers that it takes no more of them."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        while True:
            newcomer = stack.enter_context(socket.socket(socket.AF_UNIX))
            newcomer.setblocking(False)
            try:
                newcomer.connect(path)
            except BlockingIOError:
                break
        yield listener


async def test_socket_with_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    wire = HttpWire("http://fleet", local=path, connect_s=5.0)
    with full_queue(path) as listener:
        asked = asyncio.create_task(whole(wire, asking()))
        await asyncio.sleep(0.05)
        served = asyncio.create_task(serve_last(listener))
        assert await asked == (200, b"ok")
        await served
    await wire.aclose()


async def serve_last(listener: socket.socket) -> None:
    """Take the newcomers until one asks for something, and answer that."""
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    told = b""
    while not told:
        newcomer, _ = await loop.sock_accept(listener)
        with newcomer, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                told = await loop.sock_recv(newcomer, 4096)
                await loop.sock_sendall(newcomer, OK)


async def test_socket_whose_queue_stays_full_is_given_up(tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    wire = HttpWire("http://fleet", local=path, connect_s=0.2)
    with (
        full_queue(path),
        pytest.raises(NotConnected) as caught,
    ):
        await whole(wire, asking())
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_body_comes_piece_by_piece(tmp_path: Path) -> None:
    heard = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(CHUNKED + b"3\r\none\r\n")
        await heard.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with a_wire(tmp_path, talk) as wire, wire.exchange(asking()) as reply:
        assert await anext(reply.parts) == b"one"
        heard.set()
        assert [part async for part in reply.parts] == [b"two"]


async def test_large_contents_arrive_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told = await head(reader)
        assert f"Content-Length: {len(content)}".encode() in told
        assert b"Content-Type: application/json" in told
        writer.write(OK if await reader.readexactly(len(content)) == content else REFUSAL)

    async with a_wire(tmp_path, talk) as wire:
        assert await whole(wire, asking(content=content)) == (200, b"ok")


async def test_refusal_that_comes_before_all_is_sent_is_read(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(REFUSAL)
        await reader.read()

    async with a_wire(tmp_path, talk) as wire:
        assert await whole(wire, asking(content=b"x" * 10**6)) == (413, b"no")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        pytest.param(b"", "it was closed without an answer$", id="nothing"),
        pytest.param(b"SSH-2.0-x\r\n\r\n", "illegal status line", id="another protocol"),
        pytest.param(OK[:-1], r"peer closed .* \(received 1 bytes, expected 2", id="half"),
        pytest.param(CHUNKED + b"3\r\non", "peer closed .* chunked", id="half a chunk"),
        pytest.param(CHUNKED + b"zz\r\n", "illegal chunk header", id="no chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10**5, ".*", id="an endless head"),
    ],
)
async def test_answer_that_is_none_is_told(tmp_path: Path, said: bytes, message: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(said)

    async with a_wire(tmp_path, talk) as wire:
        with pytest.raises(Broken, match=f"^{message}"):
            await whole(wire, asking())


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="before it answers"),
        pytest.param(CHUNKED + b"3\r\none\r\n", id="in its answer"),
    ],
)
async def test_server_that_falls_silent_is_given_up(tmp_path: Path, said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(said)
        await reader.read()

    async with a_wire(tmp_path, talk) as wire:
        with pytest.raises(Silent):
            await whole(wire, asking(silence_s=0.2))


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("said", "is_reset"),
    [
        pytest.param(b"", True, id="without an answer"),
        pytest.param(CHUNKED, True, id="in its answer"),
        pytest.param(LAST, False, id="after its answer"),
    ],
)
@pytest.mark.parametrize("is_tls", [False, True], ids=["bare", "tls"])
async def test_request_that_is_given_up_is_not_delivered_later(
    tmp_path: Path, said: bytes, is_reset: bool, is_tls: bool
) -> None:
    """What the network had lost so far, the system would send until it arrives."""
    ends: asyncio.Queue[bool] = asyncio.Queue()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(said)
        try:
            await reader.read()
        except ConnectionResetError:
            ends.put_nowait(True)
        else:
            ends.put_nowait(False)

    authority = Authority(tmp_path, "authority")
    async with served(talk, tls=authority.server("localhost") if is_tls else None) as listening:
        port = listening.sockets[0].getsockname()[1]
        trust = authority.client() if is_tls else None
        scheme = "https" if is_tls else "http"
        wire = HttpWire(f"{scheme}://localhost:{port}", tls=trust, connect_s=5.0)
        with contextlib.suppress(Silent):
            await whole(wire, asking(silence_s=0.2))
        assert await asyncio.wait_for(ends.get(), 5) is is_reset


async def test_server_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    async def talk(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)

    async with a_wire(tmp_path, talk) as wire:
        with pytest.raises(Silent):
            await whole(wire, asking(content=b"x" * 10**7, silence_s=0.2))


def test_server_of_https_is_never_asked_in_the_clear() -> None:
    with pytest.raises(ValueError, match="to verify https://localhost by"):
        HttpWire("https://localhost", connect_s=5.0)


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("server", "connections"),
    [
        pytest.param(Counted(most=9), 1, id="it is as it was left"),
        pytest.param(Counted(most=1), 2, id="it was closed since"),
        pytest.param(Counted(most=9, unasked=True), 2, id="there is more than was asked for"),
    ],
)
async def test_connection_with_tls_is_kept_if_it_is_good(
    tmp_path: Path, server: Counted, connections: int
) -> None:
    authority = Authority(tmp_path, "authority")
    async with served(server, tls=authority.server("localhost")) as listening:
        port = listening.sockets[0].getsockname()[1]
        trust = authority.client()
        wire = HttpWire(f"https://localhost:{port}", tls=trust, connect_s=5.0)
        for _ in range(2):
            assert await whole(wire, asking()) == (200, b"ok")
            await asyncio.sleep(0.1)
        await wire.aclose()
    assert server.connections == connections


@pytest.mark.realtime
async def test_host_is_reached_at_whichever_address_answers() -> None:
    server = Counted(most=9)
    async with served(server) as listening:
        port = listening.sockets[0].getsockname()[1]
        wire = HttpWire(f"http://localhost:{port}", connect_s=5.0)
        assert await whole(wire, asking()) == (200, b"ok")
        await wire.aclose()
    with pytest.raises(NotConnected) as caught:
        await whole(wire, asking())
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_answer_may_take_for_ever_if_the_request_allows_it(tmp_path: Path) -> None:
    async with a_wire(tmp_path, Counted(most=1, pause_s=0.05)) as wire:
        assert await whole(wire, asking(silence_s=None)) == (200, b"ok")


async def test_headers_of_a_request_are_sent(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK if b"\r\nX-More: yes\r\n" in await head(reader) else REFUSAL)

    request = Request(method="GET", target="/", headers=[("X-More", "yes")], silence_s=5.0)
    async with a_wire(tmp_path, talk) as wire:
        assert await whole(wire, request) == (200, b"ok")
