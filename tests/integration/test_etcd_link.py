"""The etcd store against servers that misbehave, each played by this test."""

import asyncio
import logging
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import InvalidRequest, Unavailable
from fleet.store import etcd_messages as api
from fleet.store.connect import EtcdSettings, store_factory
from fleet.store.etcd import EtcdStore
from fleet.store.etcd_link import KEEPALIVE_S, trust_of
from fleet.store.etcd_messages import Document, Message, Method
from fleet.store.etcd_pulse import Pulse
from fleet.store.port import Delete, Guard, LeaseId, Put
from tests.integration.grpc_peer import Asked, Peer, framed

pytestmark = pytest.mark.realtime

HEADER = {"cluster_id": 77, "revision": 50, "raft_term": 4}
EMPTY = {"header": HEADER, "succeeded": True, "responses": [{"response_range": {}}]}
DONE = {"header": HEADER, "succeeded": True}
CREATED = {"header": HEADER, "created": True}
METHODS = {method.path: method for method in vars(api).values() if isinstance(method, Method)}

# From linux/tcp.h; Python's socket module lacks it.
_TCP_REPAIR = 19


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that a server answers with."""

    code: int
    words: str


NO_LEADER = Refusal(14, "etcdserver: no leader")

Reply = Document | bytes | Refusal | None
"""The fields of the answer, or its bytes; None hangs up."""
Act = Callable[[Method, Message], Awaitable[Reply]]
Serve = Callable[[Peer], Coroutine[Any, Any, None]]


class Member:
    """One server: answers as `act` says, and remembers what it was asked."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.asked: list[Method] = []
        self.url = ""

    async def serve(self, peer: Peer) -> None:
        while True:
            asked = await peer.asked()
            method = METHODS[asked.path]
            self.asked.append(method)
            reply = await self.act(method, api.make(method.takes, {}).FromString(asked.message))
            if reply is None:
                return
            if isinstance(reply, Refusal):
                await peer.end(asked.stream, reply.code, reply.words)
            else:
                await answer(peer, asked, reply)


async def answer(peer: Peer, asked: Asked, reply: Document | bytes) -> None:
    await peer.answer(asked.stream, encoded(asked, reply))


def encoded(asked: Asked, reply: Document | bytes) -> bytes:
    if isinstance(reply, bytes):
        return reply
    message: bytes = api.make(METHODS[asked.path].gives, reply).SerializeToString()
    return message


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """The URL of a server whose connections are all closed when the block ends."""
    tasks: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(Peer(reader, writer)))
        tasks.add(task)
        await asyncio.wait({task})
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.02)


@asynccontextmanager
async def members(*acts: Act) -> AsyncIterator[list[Member]]:
    found = [Member(act) for act in acts]
    async with AsyncExitStack() as stack:
        for member in found:
            member.url = await stack.enter_async_context(listening(member.serve))
        yield found


@asynccontextmanager
async def connected(servers: Sequence[Member | str], **more: Any) -> AsyncIterator[EtcdStore]:
    urls = [each if isinstance(each, str) else each.url for each in servers]
    store = EtcdStore(EtcdSettings(servers=urls, **{"request_timeout_s": 0.3, **more}))
    try:
        yield store
    finally:
        await store.close()


def answering(reply: Reply) -> Act:
    async def act(method: Method, request: Message) -> Reply:
        return reply

    return act


async def hanging(method: Method, request: Message) -> Reply:
    await asyncio.sleep(3600)
    return None


async def dropping(method: Method, request: Message) -> Reply:
    return None


REFUSED = "http://127.0.0.1:1"


async def test_read_goes_on_to_the_first_server_that_answers() -> None:
    async with (
        members(hanging, dropping, answering(NO_LEADER)) as bad,
        members(answering(EMPTY)) as (good,),
        connected([REFUSED, *bad, good]) as store,
    ):
        assert (await store.read("/a")).revision == 50
        asked = [len(each.asked) for each in bad]
        await store.read("/a")
        assert [len(each.asked) for each in bad] == asked == [1, 1, 1]


async def test_commit_goes_on_from_a_server_whose_tls_fails() -> None:
    async with (
        members(answering(DONE), answering(DONE)) as (plain, good),
        connected([plain.url.replace("http:", "https:"), good]) as store,
    ):
        assert (await store.commit([], [Delete("/a")])).succeeded
        assert (len(plain.asked), len(good.asked)) == (0, 1)


async def test_unavailable_names_every_server_with_its_trouble() -> None:
    lost = answering(NO_LEADER)
    async with (
        members(hanging, dropping, lost) as bad,
        connected([REFUSED, *bad, "http://no-such-host.invalid:2379"]) as store,
    ):
        before_s = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            await store.read("/a")
        assert time.monotonic() - before_s < 3
    told = str(caught.value)
    assert told.startswith("etcd does not answer: ")
    for words in (
        f"{REFUSED}: connection refused",
        f"{bad[0].url}: timed out after 0.3 s",
        f"{bad[1].url}: the connection was lost",
        f"{bad[2].url}: no leader: the etcd cluster has lost its quorum",
        "http://no-such-host.invalid:2379: its name cannot be resolved",
    ):
        assert words in told


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(hanging, id="no answer in time"),
        pytest.param(dropping, id="connection lost"),
        pytest.param(answering(Refusal(2, "context deadline exceeded")), id="too late"),
        pytest.param(answering(b""), id="empty answer"),
    ],
)
async def test_commit_that_may_have_happened_is_not_done_again(act: Act) -> None:
    async with members(act, answering(DONE)) as (bad, good), connected([bad, good]) as store:
        with pytest.raises(Unavailable):
            await store.commit([Guard("/a", created=0)], [Put("/a", b"")])
        assert (len(bad.asked), len(good.asked)) == (1, 0)
        assert (await store.commit([], [Delete("/a")])).succeeded
        assert len(good.asked) == 1


async def test_commit_that_surely_did_not_happen_is_done_by_the_next_server() -> None:
    lost = answering(NO_LEADER)
    async with (
        members(lost, answering(DONE)) as (bad, good),
        connected([REFUSED, bad, good]) as store,
    ):
        assert (await store.commit([], [Put("/a", b"")])).succeeded
        assert len(good.asked) == 1


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param({}, id="nothing"),
        pytest.param(b"<html>login</html>", id="a web page"),
        pytest.param({"header": HEADER}, id="part of an answer"),
        pytest.param(EMPTY | {"header": {"cluster_id": 77}}, id="no revision"),
    ],
)
async def test_strange_answer_is_never_an_empty_store(reply: Reply) -> None:
    async with members(answering(reply)) as servers, connected(servers) as store:
        with pytest.raises(Unavailable, match="its answer is not one of etcd's"):
            await store.read("/a")


@pytest.mark.parametrize("count", [0, 2])
async def test_answer_is_one_message(count: int) -> None:
    async def serve(peer: Peer) -> None:
        while True:
            asked = await peer.asked()
            await peer.say(asked.stream, framed(encoded(asked, EMPTY)) * count)
            await peer.end(asked.stream)

    async with listening(serve) as url, connected([url]) as store:
        with pytest.raises(Unavailable, match=f"it consists of {count} messages"):
            await store.read("/a")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        pytest.param({"revision": 3}, "from the past", id="emptied"),
        pytest.param({"raft_term": 3}, "from the past", id="a member that was cut off"),
        pytest.param({"cluster_id": 78}, "of cluster 78", id="another cluster"),
    ],
)
async def test_answers_from_the_past_do_not_count(header: Any, words: str) -> None:
    now = dict(HEADER)

    async def act(method: Method, request: Message) -> Reply:
        return EMPTY | {"header": now}

    async with members(act) as servers, connected(servers) as store:
        await store.read("/a")
        now.update(header)
        with pytest.raises(Unavailable, match=words):
            await store.read("/a")
        now.update(HEADER)
        await store.read("/a")


async def test_answer_that_trickles_is_cut_short() -> None:
    async def trickle(peer: Peer) -> None:
        asked = await peer.asked()
        await peer.say(asked.stream, framed(bytes(100_000))[:5])
        while True:
            await peer.say(asked.stream, b" ")
            await asyncio.sleep(0.1)

    async with listening(trickle) as url, connected([url]) as store:
        before_s = time.monotonic()
        with pytest.raises(Unavailable, match="timed out"):
            await store.read("/a")
        assert time.monotonic() - before_s < 3


async def test_few_requests_are_under_way_at_a_time() -> None:
    under_way = [0, 0]

    async def act(method: Method, request: Message) -> Reply:
        under_way[0] += 1
        under_way[1] = max(under_way)
        await asyncio.sleep(0.01)
        under_way[0] -= 1
        return EMPTY

    async with members(act) as servers, connected(servers, request_timeout_s=2.0) as store:
        await asyncio.gather(*(store.read("/a") for _ in range(40)))
        assert under_way[1] == 4


async def test_silent_watch_is_probed_and_moves_on_when_nobody_answers() -> None:
    """The first server opens a watch and then falls silent, as a frozen machine does."""

    probes: list[Asked] = []

    async def watch_then_hang(peer: Peer) -> None:
        asked = await peer.asked()
        if asked.path == api.WATCH.path:
            assert asked.metadata["hasleader"] == "true"
            await peer.say(asked.stream, framed(encoded(asked, CREATED)))
        elif not probes:
            probes.append(asked)
            await answer(peer, asked, {"header": HEADER})
        await asyncio.sleep(3600)

    async with listening(watch_then_hang) as url:
        settings = EtcdSettings(servers=[url, REFUSED], request_timeout_s=0.3)
        store = EtcdStore(settings, probe_s=0.2)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable) as caught:
                assert [changes.events async for changes in store.watch("/a", 50)] == []
        await store.close()
    assert len(probes) == 1
    assert f"{url}: timed out after 0.3 s" in str(caught.value)
    assert f"{REFUSED}: connection refused" in str(caught.value)


async def test_watch_that_ends_with_an_error_says_which() -> None:
    async with members(answering(NO_LEADER)) as servers, connected(servers) as store:
        with pytest.raises(Unavailable, match="the etcd cluster has lost its quorum"):
            await anext(store.watch("/a", 50))


async def test_silent_watch_is_not_probed_while_other_requests_are_answered() -> None:
    """Not even if those are of another store of the process, as the heartbeat's are."""
    asked_for: list[str] = []

    async def watch_only(peer: Peer) -> None:
        asked = await peer.asked()
        asked_for.append(asked.path)
        if asked.path == api.WATCH.path:
            await peer.say(asked.stream, framed(encoded(asked, CREATED)))
        else:
            await answer(peer, asked, {"header": HEADER})
        await asyncio.sleep(3600)

    clock = asyncio.get_running_loop().time
    pulse = Pulse()
    async with members(answering({"header": HEADER, "TTL": 6})) as (server,):
        store = EtcdStore(EtcdSettings(servers=[server.url]), pulse=pulse)
        await store.renew(LeaseId("7"))
        await store.close()
    assert pulse.age_s(server.url, clock()) < 60
    async with listening(watch_only) as url:
        pulse.beat(url, clock() + 3600)  # others are answered all the time
        store = EtcdStore(EtcdSettings(servers=[url]), probe_s=0.05, pulse=pulse)
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                assert [changes.events async for changes in store.watch("/a", 50)] == []
        await store.close()
    assert asked_for == [api.WATCH.path, api.RANGE.path]  # every watch begins with one question


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a socket vanish")
async def test_watch_whose_other_end_is_gone_without_a_word_is_begun_anew() -> None:
    """As after a power cut and a quick boot: nobody says goodbye, and probes find a server."""
    watches = 0

    async def vanish(peer: Peer) -> None:
        nonlocal watches
        while (asked := await peer.asked()).path != api.WATCH.path:
            await answer(peer, asked, {"header": HEADER})
        watches += 1
        await peer.say(asked.stream, framed(encoded(asked, CREATED)))
        if watches == 1:
            await asyncio.sleep(0.2)
            # A socket in this mode is closed without telling the other end.
            connection = peer.writer.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
            peer.writer.transport.abort()
        await asyncio.sleep(3600)

    async with listening(vanish) as url:
        store = EtcdStore(EtcdSettings(servers=[url], request_timeout_s=1.0), probe_s=0.2)
        changes = store.watch("/a", 50)
        async with asyncio.timeout(KEEPALIVE_S + 3):
            while watches < 2:
                await anext(changes)
        await store.close()


async def test_contents_and_passwords_reach_no_log_and_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusal = answering(Refusal(3, "etcdserver: request is too large"))
    secret = EtcdSettings(servers=[REFUSED], username="root", password="hunter2")
    assert "hunter2" not in repr(secret)
    with caplog.at_level(logging.DEBUG):
        async with members(refusal) as servers, connected(servers) as store:
            with pytest.raises(InvalidRequest) as caught:
                await store.commit([], [Put("/a", b"my secret contents")])
        store = EtcdStore(secret)
        with pytest.raises(Unavailable) as refused:
            await store.read("/a")
        await store.close()
    for text in (caplog.text, str(caught.value), str(refused.value)):
        assert "secret contents" not in text
        assert "hunter2" not in text


# Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"servers": []}, "empty", id="no servers"),
        pytest.param({"servers": ["10.0.0.1:2379"]}, "is not a URL like", id="no scheme"),
        pytest.param({"servers": ["ftp://a"]}, "is not a URL like", id="another scheme"),
        pytest.param({"servers": ["http://a/v3"]}, "is not a URL like", id="a path"),
        pytest.param({"servers": ["http://a:b"]}, "is not a URL like", id="no port"),
        pytest.param(
            {"servers": ["http://u:hunter2@a"]}, "give the user in etcd_username", id="a password"
        ),
        pytest.param(
            {"servers": ["https://a"], "certfile": "/x"}, "only of use together", id="no key"
        ),
        pytest.param(
            {"servers": ["https://a"], "cafile": "/no/such"}, "no such file", id="no such file"
        ),
        pytest.param(
            {"servers": ["https://a"], "cafile": "/etc/hostname"}, "no usable PEM", id="no PEM"
        ),
        pytest.param(
            {"servers": ["https://a"], "certfile": "/no/such", "keyfile": "/no/such"},
            "etcd_certfile /no/such with etcd_keyfile /no/such: no such file",
            id="no such certificate",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        EtcdStore(EtcdSettings(**settings))
    assert "hunter2" not in str(caught.value)


async def test_server_that_speaks_another_protocol_is_told_of() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connected([url]) as store:
            with pytest.raises(Unavailable, match="it does not speak HTTP/2"):
                await store.read("/a")


def test_etcd_is_verified_and_old_protocols_are_not_spoken() -> None:
    servers = ["https://a"]
    context = trust_of(EtcdSettings(servers=servers), servers)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED


async def test_factory_takes_etcd_where_servers_are_named_and_a_file_else(tmp_path: Path) -> None:
    async with members(answering(EMPTY)) as (server,):
        factory = store_factory(EtcdSettings(servers=[server.url]), tmp_path / "a.db")
        store = factory.connect()
        assert (await store.read("/a")).revision == 50
        await store.close()
        factory.close()
    assert not (tmp_path / "a.db").exists()
    for none in (None, EtcdSettings(servers=[])):
        factory = store_factory(none, tmp_path / "a.db")
        one, other = factory.connect(), factory.connect()
        await one.commit([], [Put("/a", b"x")])
        assert list((await other.read("/")).entries) == ["/a"]
        await one.close()
        await other.close()
        factory.close()
    assert (tmp_path / "a.db").exists()
