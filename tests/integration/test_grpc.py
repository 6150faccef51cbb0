"""gRPC connections, against servers that do well and servers that do not."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import h2.errors
import h2.events
import h2.settings
import pytest

from fleet.http.connections import Broken, NotConnected, Silent
from fleet.http.grpc import Call, Foreign, GrpcWire, Refused
from tests.integration.authority import Authority
from tests.integration.grpc_peer import Asked, Peer, framed

pytestmark = pytest.mark.realtime

Talk = Callable[[Peer], Awaitable[None]]


def calling(message: bytes = b"x", *, silence_s: float | None = 5.0, is_open: bool = False) -> Call:
    return Call(path="/a.B/C", message=message, silence_s=silence_s, is_open=is_open)


@contextlib.asynccontextmanager
async def served(talk: Talk, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that talks so on each connection and then hangs up."""
    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this
        talks.add(this)
        with contextlib.suppress(EOFError, ConnectionError):
            try:
                await talk(Peer(reader, writer))
            finally:
                writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
    for task in talks:
        task.cancel()
    await asyncio.gather(*talks, return_exceptions=True)


@contextlib.asynccontextmanager
async def a_wire(talk: Talk) -> AsyncIterator[GrpcWire]:
    async with served(talk) as port:
        wire = GrpcWire(f"http://127.0.0.1:{port}", connect_s=5.0)
        try:
            yield wire
        finally:
            await wire.aclose()


async def messages(wire: GrpcWire, call: Call) -> list[bytes]:
    async with wire.exchange(call) as found:
        return [message async for message in found]


class Echo:
    """A server that answers each call with its message; it knows how many connections it had."""

    def __init__(self, *, then: Talk | None = None) -> None:
        """`then` is what it does after its first answer on a connection."""
        self.connections = 0
        self.asked: list[Asked] = []
        self._then = then

    async def __call__(self, peer: Peer) -> None:
        self.connections += 1
        then = self._then
        while True:
            asked = await peer.asked()
            self.asked.append(asked)
            await peer.answer(asked.stream, asked.message)
            if then is not None:
                await asyncio.sleep(0.01)  # the client has read its answer
                await then(peer)
                await peer.flush()
                then = None


async def test_call_is_one_of_grpc() -> None:
    server = Echo()
    async with a_wire(server) as wire:
        call = Call(path="/a.B/C", message=b"hello", metadata=[("token", "t")], silence_s=5.0)
        assert await messages(wire, call) == [b"hello"]
    (asked,) = server.asked
    assert (asked.path, asked.message) == ("/a.B/C", b"hello")
    head = {name: asked.metadata[name] for name in (":method", "te", "content-type", "token")}
    assert head == {
        ":method": "POST",
        "te": "trailers",
        "content-type": "application/grpc",
        "token": "t",
    }


async def test_metadata_reaches_no_log(caplog: pytest.LogCaptureFixture) -> None:
    call = Call(path="/a.B/C", message=b"x", metadata=[("token", "hunter2")], silence_s=5.0)
    with caplog.at_level(logging.DEBUG):
        async with a_wire(Echo()) as wire:
            assert await messages(wire, call) == [b"x"]
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(0, id="nothing"),
        pytest.param(16_384, id="a frame"),
        pytest.param(65_536, id="more than a window"),
        pytest.param(3_000_001, id="many windows"),
    ],
)
async def test_message_of_any_size_goes_and_comes_whole(size: int) -> None:
    message = bytes(index % 251 for index in range(size))
    async with a_wire(Echo()) as wire:
        for _ in range(3):
            assert await messages(wire, calling(message)) == [message]


async def test_connection_is_kept_and_calls_at_a_time_have_one_each() -> None:
    server = Echo()
    async with a_wire(server) as wire:
        for _ in range(5):
            await messages(wire, calling())
        assert server.connections == 1
        await asyncio.gather(*(messages(wire, calling()) for _ in range(3)))
    assert server.connections == 3


async def ask_for_life(peer: Peer) -> None:
    peer.http.ping(b"12345678")
    peer.http.increment_flow_control_window(1000)


async def say_goodbye(peer: Peer) -> None:
    await peer.say_goodbye(last_stream=1)


async def end_it(peer: Peer) -> None:
    peer.writer.close()


async def ask_in_vain(peer: Peer) -> None:
    await ask_for_life(peer)
    await peer.flush()
    await asyncio.sleep(0.02)
    peer.writer.close()


@pytest.mark.parametrize(
    ("then", "connections"),
    [
        pytest.param(ask_for_life, 1, id="it asked for a sign of life"),
        pytest.param(ask_in_vain, 2, id="it asked for one in vain"),
        pytest.param(say_goodbye, 2, id="it takes no more calls"),
        pytest.param(end_it, 2, id="it was closed"),
    ],
)
async def test_kept_connection_is_used_again_if_the_server_takes_more(
    then: Talk, connections: int
) -> None:
    server = Echo(then=then)
    async with a_wire(server) as wire:
        for _ in range(2):
            assert await messages(wire, calling()) == [b"x"]
            await asyncio.sleep(0.05)
    assert server.connections == connections


async def test_sign_of_life_is_given() -> None:
    signs: asyncio.Queue[bytes] = asyncio.Queue()

    async def talk(peer: Peer) -> None:
        asked = await peer.asked()
        await peer.say(asked.stream, framed(b"begun"))
        await ask_for_life(peer)
        while True:
            for event in await peer.hear():
                if isinstance(event, h2.events.PingAckReceived):
                    signs.put_nowait(event.ping_data)

    async with a_wire(talk) as wire, wire.exchange(calling(is_open=True)) as found:
        assert await anext(found) == b"begun"
        listening = asyncio.ensure_future(anext(found))
        assert await asyncio.wait_for(signs.get(), 5) == b"12345678"
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_open_call_brings_message_after_message_until_it_is_left() -> None:
    gone = asyncio.Event()

    async def talk(peer: Peer) -> None:
        asked = await peer.asked()
        for number in range(3):
            await peer.say(asked.stream, framed(bytes([number]) * number))
        try:
            while True:
                assert not any(
                    isinstance(event, h2.events.StreamEnded) for event in await peer.hear()
                )
        finally:
            gone.set()

    async with a_wire(talk) as wire:
        async with wire.exchange(calling(is_open=True, silence_s=None)) as found:
            assert [await anext(found) for _ in range(3)] == [b"", b"\1", b"\2\2"]
        await asyncio.wait_for(gone.wait(), 5)


@pytest.mark.parametrize("before", [b"", framed(b"one")], ids=["at once", "after a message"])
async def test_refusal_says_why(before: bytes) -> None:
    async def talk(peer: Peer) -> None:
        asked = await peer.asked()
        if before:
            await peer.say(asked.stream, before)
        await peer.end(asked.stream, 9, "no%20such%20%E2%82%AC")
        await peer.asked()

    async with a_wire(talk) as wire:
        with pytest.raises(Refused) as caught:
            await messages(wire, calling())
    assert (caught.value.code, caught.value.words) == (9, "no such \N{EURO SIGN}")


async def test_refusal_that_comes_before_all_is_sent_is_heard() -> None:
    async def talk(peer: Peer) -> None:
        while not any(isinstance(e, h2.events.RequestReceived) for e in await peer.hear()):
            pass
        await peer.end(1, 8, "too large")
        peer.http.reset_stream(1, h2.errors.ErrorCodes.NO_ERROR)
        await peer.flush()
        await peer.reader.read()

    async with a_wire(talk) as wire:
        with pytest.raises(Refused, match="too large"):
            await messages(wire, calling(bytes(10**6)))


async def refuse_stream(peer: Peer) -> None:
    asked = await peer.asked()
    peer.http.reset_stream(asked.stream, h2.errors.ErrorCodes.REFUSED_STREAM)
    await peer.flush()
    await peer.reader.read()


async def leave_untaken(peer: Peer) -> None:
    await peer.asked()
    await peer.say_goodbye(last_stream=0)
    await peer.reader.read()


@pytest.mark.parametrize("talk", [refuse_stream, leave_untaken])
async def test_call_that_was_not_taken_surely_did_nothing(talk: Talk) -> None:
    async with a_wire(talk) as wire:
        with pytest.raises(NotConnected, match="takes no more calls"):
            await messages(wire, calling())


async def give_up(peer: Peer) -> None:
    asked = await peer.asked()
    peer.http.reset_stream(asked.stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
    await peer.flush()
    await peer.reader.read()


async def leave_in_it(peer: Peer) -> None:
    await peer.asked()
    await peer.say_goodbye(last_stream=1)


async def hang_up(peer: Peer) -> None:
    await peer.asked()


@pytest.mark.parametrize("talk", [give_up, leave_in_it, hang_up])
async def test_call_that_is_given_up_may_have_been_done(talk: Talk) -> None:
    async with a_wire(talk) as wire:
        with pytest.raises(Broken):
            await messages(wire, calling())


async def test_server_that_leaves_may_still_answer() -> None:
    """As etcd does that is asked to stop: first it takes no more, and then ends what it took."""
    connections = 0

    async def talk(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        asked = await peer.asked()
        await peer.say_goodbye(last_stream=2**31 - 1)
        peer.http.ping(b"12345678")
        await peer.say(asked.stream, framed(asked.message)[:3])
        await peer.say_goodbye(last_stream=asked.stream)
        await peer.say(asked.stream, framed(asked.message)[3:])
        await peer.end(asked.stream)
        await peer.reader.read()

    async with a_wire(talk) as wire:
        for _ in range(2):
            assert await messages(wire, calling()) == [b"x"]
    assert connections == 2


def saying(data: bytes, *, status: str = "200", ended: bool = True) -> Talk:
    async def talk(peer: Peer) -> None:
        asked = await peer.asked()
        await peer.say(asked.stream, data, status=status)
        if ended:
            await peer.end(asked.stream)
        else:
            peer.http.end_stream(asked.stream)
        await peer.asked()

    return talk


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        pytest.param(saying(framed(b"message")[:-1]), "within a message", id="half"),
        pytest.param(saying(b"\0"), "within a message", id="half of a head"),
        pytest.param(saying(b"\1\0\0\0\1x"), "compressed", id="compressed"),
        pytest.param(
            saying(b"Bad Gateway", status="502", ended=False), "HTTP status 502", id="a proxy"
        ),
        pytest.param(saying(framed(b"x"), ended=False), "without a status", id="no end"),
    ],
)
async def test_answer_that_is_none_of_grpc_is_told(talk: Talk, words: str) -> None:
    async with a_wire(talk) as wire:
        with pytest.raises(Foreign, match=words):
            await messages(wire, calling())


@pytest.mark.parametrize("begun", [False, True], ids=["before it answers", "in its answer"])
async def test_server_that_falls_silent_is_given_up(begun: bool) -> None:
    async def talk(peer: Peer) -> None:
        asked = await peer.asked()
        if begun:
            await peer.say(asked.stream, framed(b"one"))
        await peer.asked()

    async with a_wire(talk) as wire:
        with pytest.raises(Silent):
            await messages(wire, calling(silence_s=0.2))


async def test_server_that_takes_nothing_is_given_up() -> None:
    async def talk(peer: Peer) -> None:
        await peer.flush()
        await peer.reader.read()

    async with a_wire(talk) as wire:
        with pytest.raises(Silent):
            await messages(wire, calling(bytes(10**6), silence_s=0.2))


@pytest.mark.parametrize("is_tls", [False, True], ids=["bare", "tls"])
@pytest.mark.parametrize("is_answered", [False, True])
async def test_call_that_is_given_up_is_not_delivered_later(
    tmp_path: Path, is_answered: bool, is_tls: bool
) -> None:
    """What the network had lost so far, the system would send until it arrives."""
    ends: asyncio.Queue[bool] = asyncio.Queue()

    async def talk(peer: Peer) -> None:
        asked = await peer.asked()
        if is_answered:
            await peer.answer(asked.stream, b"x")
        try:
            await peer.reader.read()
        except ConnectionResetError:
            ends.put_nowait(True)
        else:
            ends.put_nowait(False)

    authority = Authority(tmp_path, "authority")
    async with served(talk, tls=authority.server("localhost") if is_tls else None) as port:
        trust = authority.client()
        scheme = "https" if is_tls else "http"
        wire = GrpcWire(f"{scheme}://localhost:{port}", tls=trust, connect_s=5.0)
        with contextlib.suppress(Silent):
            await messages(wire, calling(silence_s=0.2))
        await wire.aclose()
        assert await asyncio.wait_for(ends.get(), 5) is not is_answered


async def test_kept_connection_with_tls_loses_nothing_that_came_in_between(tmp_path: Path) -> None:
    server = Echo(then=ask_for_life)
    authority = Authority(tmp_path, "authority")
    async with served(server, tls=authority.server("localhost")) as port:
        trust = authority.client()
        wire = GrpcWire(f"https://localhost:{port}", tls=trust, connect_s=5.0)
        for _ in range(3):
            assert await messages(wire, calling()) == [b"x"]
            await asyncio.sleep(0.05)
        await wire.aclose()
    assert server.connections == 1
