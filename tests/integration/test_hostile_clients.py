"""Clients that mean harm, or just do harm: each gets one clear answer, and nobody else suffers.

The server is a process of its own, and its memory is measured: whatever comes, its peak stays below
what all bodies that it may hold at a time can take.
"""

import asyncio
import contextlib
import gzip
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet.api.client import FleetClient
from fleet.errors import Unavailable
from tests.integration.api_process import ApiProcess, api_process

pytestmark = pytest.mark.realtime

DEADLINE_S = 60.0
# An idle server has about 60 MiB.
MODEST_MIB = 150
GENEROUS_MIB = 400
MIB = 1024 * 1024
JSON = b"Content-Type: application/json\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiProcess]:
    with api_process(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """A server for the many tests that measure nothing."""
    with api_process(tmp_path_factory.mktemp("lasting")) as running:
        yield running


@contextlib.asynccontextmanager
async def connections(server: ApiProcess, count: int):  # type: ignore[no-untyped-def]
    """So many open connections; the whole has a deadline."""
    async with asyncio.timeout(DEADLINE_S), contextlib.AsyncExitStack() as stack:
        made: list[Streams] = []
        for _ in range(count):
            made.append(await asyncio.open_unix_connection(server.path))
            stack.callback(made[-1][1].close)
        yield made


async def is_served(server: ApiProcess) -> bool:
    """Whether somebody who behaves is answered."""
    async with FleetClient(f"unix://{server.path}") as client:
        return await client.machines() == ()


async def answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """The status and the sentence of one error answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert "\r\ncontent-type: application/json" in head, head
    size = int(head.partition("content-length: ")[2].partition("\r")[0])
    document = json.loads(await reader.readexactly(size))
    status = int(head.split()[1])
    assert document["error"]["code"] == status
    return status, document["error"]["message"]


async def ask(server: ApiProcess, request: bytes) -> tuple[int, str]:
    async with connections(server, 1) as ((reader, writer),):
        with contextlib.suppress(ConnectionError):
            writer.write(request)
            await writer.drain()
        return await answer(reader)


def patch(body: bytes, headers: bytes = b"") -> bytes:
    size = f"Content-Length: {len(body)}\r\n".encode()
    return b"PATCH /fleet/v1/units HTTP/1.1\r\nHost: f\r\n" + JSON + headers + size + b"\r\n" + body


async def test_thousand_idle_connections_are_in_nobodys_way(server: ApiProcess) -> None:
    async with connections(server, 1000):
        assert await is_served(server)
        assert server.descriptors < 400
        assert server.peak_mib < MODEST_MIB


async def test_connections_at_work_are_not_closed_for_others(tmp_path: Path) -> None:
    watch = b"GET /fleet/v1/watch HTTP/1.1\r\nHost: f\r\n\r\n"
    with api_process(tmp_path, connections=20, idle_s=4.0) as server:
        async with connections(server, 20) as watching:
            for _, writer in watching:
                writer.write(watch)
            for reader, _ in watching:
                assert b"200" in await reader.readline()
            with pytest.raises(Unavailable, match="all connections of this API are at work"):
                await is_served(server)
            # Longer than an idle connection has, and the watches go on.
            await asyncio.sleep(5)
            assert not any(reader.at_eof() for reader, _ in watching)
            watching[0][1].close()
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(Unavailable):
                        assert await is_served(server)
                        break


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"", id="no request"),
        pytest.param(b"GET /fleet/v1/units HTTP/1.1\r\nHost: f\r\n", id="half a head"),
        pytest.param(b"GET /", id="half a line"),
    ],
)
async def test_who_never_comes_to_the_point_is_hung_up_on(tmp_path: Path, begun: bytes) -> None:
    with api_process(tmp_path, idle_s=0.5) as server:
        async with connections(server, 1) as ((reader, writer),):
            writer.write(begun)
            assert await reader.read() == b""


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(
            b"PATCH /fleet/v1/units HTTP/1.1\r\nHost: f\r\n"
            + JSON
            + b"Content-Length: 99\r\n\r\n[",
            id="a length that is a lie",
        ),
        pytest.param(
            b"PATCH /fleet/v1/units HTTP/1.1\r\nHost: f\r\n"
            + JSON
            + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n",
            id="chunks without an end",
        ),
    ],
)
async def test_body_that_does_not_come_to_its_end_is_given_up(tmp_path: Path, begun: bytes) -> None:
    with api_process(tmp_path, body_s=0.5) as server:
        status, message = await ask(server, begun)
        assert (status, message) == (408, "the body of the request did not come within 0.5 s")
        assert await is_served(server)


async def test_many_bodies_that_drip_are_in_nobodys_way(server: ApiProcess) -> None:
    head = patch(b"")[:-4] + b"Transfer-Encoding: chunked\r\n\r\n"
    head = head.replace(b"Content-Length: 0\r\n", b"")
    async with connections(server, 200) as dripping:
        for _, writer in dripping:
            writer.write(head)
        for _ in range(20):
            for _, writer in dripping:
                writer.write(b"1\r\n[\r\n")
            assert await is_served(server)
        assert server.peak_mib < MODEST_MIB


async def test_body_without_end_is_cut_at_the_limit(server: ApiProcess) -> None:
    head = b"PATCH /fleet/v1/units HTTP/1.1\r\nHost: f\r\n" + JSON
    chunk = b"100000\r\n" + b"[" * MIB + b"\r\n"
    async with connections(server, 1) as ((reader, writer),):
        writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
        answering = asyncio.create_task(answer(reader))
        with contextlib.suppress(ConnectionError):
            while not answering.done():
                writer.write(chunk)
                await writer.drain()
        assert (await answering)[0] == 413
    assert await is_served(server)
    assert server.peak_mib < MODEST_MIB


async def test_bodies_together_have_a_limit(tmp_path: Path) -> None:
    size = b"Content-Length: 15000000\r\n\r\n"
    head = b"PATCH /fleet/v1/units HTTP/1.1\r\nHost: f\r\n" + JSON + size
    with api_process(tmp_path, bodies_bytes=40 * MIB) as server:
        async with connections(server, 6) as senders:

            async def send(streams: Streams) -> tuple[int, str]:
                streams[1].write(head + b"[" * 14_999_999)
                return await answer(streams[0])

            sending = [asyncio.create_task(send(streams)) for streams in senders]
            done, _ = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            status, message = done.pop().result()
            assert (status, message[:28]) == (503, "too many large requests are ")
            assert await is_served(server)
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        assert server.peak_mib < GENEROUS_MIB


# Made when their test runs: every process that only looks for tests reads this file too.
_GROWING: dict[str, Callable[[], bytes]] = {
    "nested without end": lambda: b"[" * 15 * MIB,
    "objects nested without end": lambda: b'{"a":' * 3 * MIB,
    "millions of empty objects": lambda: b"[" + b"{}," * 5 * MIB + b"{}]",
    "millions of texts": lambda: b"[" + b'"ab",' * 3 * MIB + b"1]",
    "a number of millions of digits": lambda: b"[" + b"9" * 15 * MIB + b"]",
    "wide characters": lambda: b'["' + "\U0001f600".encode() * 3 * MIB + b'"]',
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in _GROWING.items()])
async def test_body_that_grows_when_it_is_read_is_refused(
    server: ApiProcess, body: Callable[[], bytes]
) -> None:
    await _is_refused(server, patch(body()))


async def test_zip_bomb_is_refused(server: ApiProcess) -> None:
    bomb = gzip.compress(b" " * 500 * MIB)
    await _is_refused(server, patch(bomb, b"Content-Encoding: gzip\r\n"))


async def _is_refused(server: ApiProcess, request_bytes: bytes) -> None:
    status, message = await ask(server, request_bytes)
    assert status == 400
    assert len(message) < 300
    assert await is_served(server)
    assert server.peak_mib < GENEROUS_MIB


async def test_unread_answers_are_cut_off(tmp_path: Path) -> None:
    ask_all = b"GET /fleet/v1/units?whole=true HTTP/1.1\r\nHost: f\r\n\r\n"
    with api_process(tmp_path, units=1000, reader_s=1.0) as server:
        async with connections(server, 20) as deaf:
            for _, writer in deaf:
                writer.transport.pause_reading()
                writer.write(ask_all * 100)
            await asyncio.sleep(3)
            assert await is_served(server)
            assert server.descriptors < 20
            assert server.peak_mib < MODEST_MIB


async def test_requests_sent_ahead_are_answered_in_order_and_not_hoarded(
    server: ApiProcess,
) -> None:
    count = 2000
    request = (
        b"GET /fleet/v1/units/u%d.service HTTP/1.1\r\nHost: f\r\nX: " + b"x" * 4000 + b"\r\n\r\n"
    )
    async with connections(server, 1) as ((reader, writer),):
        sending = asyncio.create_task(_send_all(writer, [request % n for n in range(count)]))
        for _ in range(count):
            assert await answer(reader) == (404, "unit does not exist")
        await sending
    assert server.peak_mib < MODEST_MIB


async def _send_all(writer: asyncio.StreamWriter, requests: list[bytes]) -> None:
    for request in requests:
        writer.write(request)
        await writer.drain()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, id="TLS"),
        pytest.param(b"hello\r\n\r\n", 400, id="no HTTP"),
        pytest.param(b"GET\r\n\r\n", 400, id="half a request line"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", 400, id="a protocol of the future"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
        pytest.param(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", 400, id="a long line"),
        pytest.param(
            b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 400, id="a long header"
        ),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 1000 + b"\r\n", 400, id="many headers"),
        pytest.param(b"GET / HTTP/1.1\r\nX : a\r\n\r\n", 400, id="a blank in a header's name"),
        pytest.param(b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="negative length"),
        pytest.param(
            b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            400,
            id="two lengths",
        ),
        pytest.param(
            b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="two kinds of body",
        ),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: f\r\n\r\n", 404, id="no path"),
        pytest.param(b"CONNECT f:1 HTTP/1.1\r\nHost: f\r\n\r\n", 404, id="CONNECT"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: f\r\nExpect: cake\r\n\r\n", 417, id="Expect"),
        pytest.param(
            b"GET /fleet/v1/units/%ff%00%2e%2e%2f HTTP/1.1\r\nHost: f\r\n\r\n",
            404,
            id="bad escapes",
        ),
    ],
)
async def test_what_is_no_request_of_ours_is_answered_as_any_error(
    lasting: ApiProcess, request_bytes: bytes, status: int
) -> None:
    assert (await ask(lasting, request_bytes))[0] == status
    assert await is_served(lasting)


_PIECES = [
    *(b"GET ", b"PUT ", b"/fleet/v1/units", b"/fleet/v1/watch?unit=", b" HTTP/1.1", b"\r\n", b"\r"),
    *(b"\n", b"Host: f\r\n", b"Content-Length: ", b"5", b"-1", b"Transfer-Encoding: chunked\r\n"),
    *(b"Content-Type: application/json\r\n", b"Expect: 100-continue\r\n", b"{", b"[]", b"\0"),
    *(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"%ff", b": ", b"\xff", b"0\r\n\r\n"),
]
wire = st.lists(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=4)), max_size=20)


@pytest.mark.fuzz
@given(wire.map(b"".join))
@example(b"GET /fleet/v1/units")  # as HTTP/0.9 had it
def test_any_bytes_are_answered_with_http_or_not_at_all(lasting: ApiProcess, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0.2)
        connection.connect(os.fspath(lasting.path))
        connection.sendall(sent + b"\r\n\r\n")
        received = b""
        # It may well wait for the rest of a body.
        with contextlib.suppress(TimeoutError):
            while data := connection.recv(65536):
                received += data
    while received:
        head, blank, rest = received.partition(b"\r\n\r\n")
        assert blank
        status = int(head.split()[1])
        assert head.startswith(b"HTTP/1.") or b" HTTP/" not in sent
        assert status < 500
        if b"ndjson" in head:
            break
        found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        size = int(found[1]) if found else 0
        if status >= 400:
            assert json.loads(rest[:size])["error"]["code"] == status
        received = rest[size:]
