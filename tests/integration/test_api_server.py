"""The API on real sockets: who is asking, streams that end, and what stopping does."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import struct
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from fleet.api.access import READERS, WRITERS
from fleet.api.client import FleetClient
from fleet.api.endpoint import tls_context
from fleet.api.server import ApiServer
from fleet.errors import Conflict, InvalidRequest, NotFound, Unavailable
from fleet.events import read_events
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.unit import parse_unit
from tests.integration.authority import Authority

pytestmark = pytest.mark.realtime

A, B = UnitName("a.service"), UnitName("b.service")
FILE = parse_unit("# mine\n[Service]\nExecStart=/bin/true\n")
# How long a test waits for what has to come.
DEADLINE_S = 20.0
_T = TypeVar("_T")
GIDS = {WRITERS: 64711, READERS: 64712}


@dataclass(frozen=True)
class Served:
    """A server and its ways in."""

    server: ApiServer
    registry: Registry
    store: MemoryStore
    path: Path
    port: int

    def client(self, **settings: Any) -> FleetClient:
        return FleetClient(f"unix://{self.path}", **settings)

    def http(self) -> httpx.AsyncClient:
        way = httpx.AsyncHTTPTransport(uds=os.fspath(self.path))
        return httpx.AsyncClient(transport=way, base_url="http://fleet", trust_env=False)


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, **settings: Any) -> AsyncIterator[Served]:
    store = MemoryStore()
    registry = Registry(store, Keys())
    given = {"insecure_tcp": True, **settings}
    server = ApiServer(registry, version="2.0.0", hostname="box", find_group=GIDS.get, **given)
    listener = socket.create_server(("127.0.0.1", 0))
    path = tmp_path / "fleet.sock"
    await server.start(unix_path=path, sockets=[listener])
    try:
        yield Served(server, registry, store, path, listener.getsockname()[1])
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await server.stop()
        await store.close()


def launch(*names: UnitName) -> list[UnitChange]:
    return [UnitChange(name=name, file=FILE, target=TargetState.LAUNCHED) for name in names]


async def told(reports: AsyncIterator[_T]) -> _T:
    async with asyncio.timeout(DEADLINE_S):
        return await anext(reports)


async def test_client_and_server_understand_each_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.client() as client:
        name = UnitName("a\\x2db@1.service")
        assert await client.apply(launch(name)) == {name: True}
        assert (await client.unit(name)).text == FILE.text
        assert [unit.name for unit in await client.units()] == [name]
        await client.set_metadata([])
        assert not await client.machines()
        assert not await client.states()
        await client.destroy(name)
        with pytest.raises(NotFound, match="unit does not exist"):
            await client.destroy(name)


async def test_answers_carry_the_headers_of_fleet(tmp_path: Path) -> None:
    reason: list[str] = []
    async with (
        serving(tmp_path, may_serve=lambda: next(iter(reason), None), start_s=0.0) as served,
        served.http() as http,
    ):
        found = await http.get("/fleet/v1/units?alt=json")
        assert found.headers["Server"] == "fleetd/2.0.0"
        assert found.headers["Content-Type"] == "application/json"
        assert found.content == b"{}"
        root = await http.get("/")
        assert root.json() == {"error": {"code": 405, "message": ""}}
        patched = await http.patch("/fleet/v1/machines", content=b"[]")
        assert patched.headers["Content-Type"] == "application/json"
        body = {"options": [{"section": "S", "name": "A", "value": "b"}]}
        made = await http.put("/v1-alpha/units/a%401.service", json=body)
        assert (made.status_code, made.content) == (201, b"")
        assert "Content-Type" not in made.headers
        assert (await http.get("/fleet/v1/units/a%401.service")).status_code == 200
        assert (await http.get("/fleet/v1/units/a%2Fb.service")).status_code == 404
        reason.append("not registered yet")
        away = await http.get("/metrics")
        assert away.status_code == 503
        assert "Server" not in away.headers
        message = "fleet server unable to communicate with etcd"
        assert away.json()["error"]["message"] == message


async def test_metrics_count_what_was_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.http() as http:
        await http.get("/fleet/v1/units")
        await http.get("/nothing")
        text = (await http.get("/metrics")).text
        assert 'fleet_api_requests_total{code="200",endpoint="list_units"} 1' in text
        assert 'fleet_api_requests_total{code="404",endpoint=""} 1' in text
        assert "fleet_api_watches 0" in text


async def test_body_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.http() as http:
        headers = {"Content-Type": "application/json"}
        body = b" " * (16 * 1024 * 1024 + 1)
        answer = await http.patch("/fleet/v1/units", content=body, headers=headers)
        assert answer.status_code == 413
        assert "16777216 bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize("headers", [{"Content-Encoding": "gzip"}, {"Content-Encoding": "deflate"}])
async def test_body_that_is_not_what_it_says_is_refused(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with serving(tmp_path) as served, served.http() as http:
        kind = {"Content-Type": "application/json"}
        answer = await http.patch("/fleet/v1/units", content=b"rubbish", headers=headers | kind)
        assert answer.status_code == 400


async def test_bulk_of_many_megabytes_is_taken(tmp_path: Path) -> None:
    text = FILE.text + "".join(f"Environment=K{number}={'x' * 80}\n" for number in range(100))
    names = [UnitName(f"u{number:04}.service") for number in range(1000)]
    changes = [
        UnitChange(name=name, file=parse_unit(f"# {name}\n{text}"), target=TargetState.LOADED)
        for name in names
    ]
    async with serving(tmp_path) as served, served.client() as client:
        assert len(await client.apply(changes)) == 1000
        assert [unit.name for unit in await client.units()] == names


async def test_unit_beyond_the_limit_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.http() as http:
        body = [{"name": "big.service", "text": "x" * 600_000}]
        answer = await http.patch("/fleet/v1/units", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith("big.service: the unit file has")


# Streams


async def test_watch_tells_at_once_and_of_every_change(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as served,
        served.client() as client,
        contextlib.aclosing(client.watch({A, B})) as reports,
    ):
        assert [(await told(reports)).name for _ in range(2)] == [A, B]
        await client.apply(launch(B))
        report = await told(reports)
        assert (report.name, report.desired) == (B, TargetState.LAUNCHED)
        await client.destroy(B)
        assert not (await told(reports)).exists


async def test_watch_of_a_thousand_units_is_one_request(tmp_path: Path) -> None:
    names = {UnitName(f"a-unit-with-a-longish-name-{number:04}.service") for number in range(1000)}
    async with (
        serving(tmp_path) as served,
        served.client() as client,
        contextlib.aclosing(client.watch(names)) as reports,
    ):
        assert {(await told(reports)).name for _ in range(1000)} == names


async def test_watch_gives_signs_of_life(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, sign_of_life_s=0.05) as served,
        served.http() as http,
        http.stream("GET", "/fleet/v1/watch?unit=a.service") as response,
    ):
        assert response.headers["Content-Type"] == "application/x-ndjson"
        lines = response.aiter_lines()
        async with asyncio.timeout(DEADLINE_S):
            first = [await anext(lines) for _ in range(4)]
    assert json.loads(first[0])["name"] == A
    assert first[1:] == ["", "", ""]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param("unit=a", 400, id="no unit name"),
        pytest.param("unit=a.service&unit=b", 400, id="one bad name among good ones"),
        pytest.param("unit=", 400, id="an empty name"),
    ],
)
async def test_watch_of_what_cannot_be_is_refused(tmp_path: Path, query: str, status: int) -> None:
    async with serving(tmp_path) as served, served.http() as http:
        assert (await http.get(f"/fleet/v1/watch?{query}")).status_code == status


async def test_silent_server_is_given_up(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, sign_of_life_s=60) as served,
        served.client(silence_s=0.2) as client,
    ):
        reports = client.watch({A})
        await told(reports)
        with pytest.raises(Unavailable, match="has not answered GET /fleet/v1/watch"):
            await told(reports)


async def test_watch_ends_on_the_server_when_the_client_goes(tmp_path: Path) -> None:
    async with serving(tmp_path, sign_of_life_s=60) as served, served.client() as client:
        reports = client.watch({A})
        await told(reports)
        assert served.store.watchers == 1
        await reports.aclose()
        async with asyncio.timeout(DEADLINE_S):
            while served.store.watchers:  # noqa: ASYNC110 - there is nobody to tell us
                await asyncio.sleep(0.01)


async def test_watch_ends_with_a_word_when_the_server_stops(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.client() as client:
        reports = client.watch({A})
        await told(reports)
        await served.server.stop()
        with pytest.raises(Unavailable, match="fleetd is stopping"):
            await told(reports)
        assert not served.path.exists()
        with pytest.raises(Unavailable, match="is fleetd running"):
            await client.units()


async def test_watch_says_when_the_store_stays_away(tmp_path: Path) -> None:
    async with serving(tmp_path, sign_of_life_s=0.1) as served, served.client() as client:
        reports = client.watch({A})
        await told(reports)
        served.store.fail_with(Unavailable("no etcd"))
        with pytest.raises(Unavailable, match="fleet server unable to communicate with etcd"):
            await told(reports)
        with pytest.raises(Unavailable, match="no etcd"):
            await told(client.watch({A}))


async def test_changes_are_told_by_their_kinds(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as served,
        served.client() as client,
        contextlib.aclosing(client.changes()) as ticks,
    ):
        first = await told(ticks)
        assert first.changed == frozenset()
        await client.apply(launch(A))
        tick = await told(ticks)
        assert tick.changed == {"units", "files", "events"}
        assert tick.revision > first.revision
        await client.set_metadata([(MachineId("1" * 32), "disk", "ssd")])
        assert (await told(ticks)).changed == {"metadata", "events"}


async def test_changes_give_signs_of_life(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, sign_of_life_s=0.05) as served,
        served.http() as http,
        http.stream("GET", "/fleet/v1/changes") as response,
    ):
        lines = response.aiter_lines()
        async with asyncio.timeout(DEADLINE_S):
            first = [await anext(lines) for _ in range(3)]
    assert json.loads(first[0]).keys() == {"revision"}
    assert first[1:] == ["", ""]


async def test_changes_end_on_the_server_when_the_client_goes(tmp_path: Path) -> None:
    async with serving(tmp_path, sign_of_life_s=60) as served, served.client() as client:
        ticks = client.changes()
        await told(ticks)
        await ticks.aclose()
        async with asyncio.timeout(DEADLINE_S):
            while served.store.watchers:  # noqa: ASYNC110 - there is nobody to tell us
                await asyncio.sleep(0.01)


async def test_changes_end_with_a_word_when_the_server_stops_or_the_store_does(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served, served.client(read_s=0.2) as client:
        ticks = client.changes()
        await told(ticks)
        served.store.fail_with(Unavailable("no etcd"))
        with pytest.raises(Unavailable, match="no etcd"):
            await told(ticks)
        with pytest.raises(Unavailable, match="no etcd"):
            await told(client.changes())
        served.store.recover()
        ticks = client.changes()
        await told(ticks)
        await served.server.stop()
        with pytest.raises(Unavailable, match="fleetd is stopping"):
            await told(ticks)


async def test_write_goes_on_when_the_client_goes(tmp_path: Path) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryStore):
        """Answers writes when it is told to."""

        async def commit(self, guards: Any, operations: Any) -> Any:
            arrived.set()
            await go_on.wait()
            return await super().commit(guards, operations)

    registry = Registry(Slow(), Keys())
    server = ApiServer(registry, version="2.0.0")
    await server.start(unix_path=tmp_path / "fleet.sock")
    client = FleetClient(f"unix://{tmp_path / 'fleet.sock'}")
    applying = asyncio.create_task(client.apply(launch(A)))
    async with asyncio.timeout(DEADLINE_S):
        await arrived.wait()
        applying.cancel()
        await asyncio.gather(applying, return_exceptions=True)
        await client.aclose()
        await asyncio.sleep(0)
        stopping = asyncio.create_task(server.stop())
        go_on.set()
        await stopping
    assert A in (await registry.cluster()).units


# Who is asking


async def test_tcp_listener_that_was_passed_is_anonymous(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        async with FleetClient(f"http://127.0.0.1:{served.port}") as client:
            await client.apply(launch(A))
        events = (await served.store.read(Keys().events)).entries.values()
        assert [told.by for each in events for told in read_events(each)] == ["anonymous@127.0.0.1"]


async def test_events_name_the_local_user(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.client() as client:
        await client.apply(launch(A))
        events = (await served.store.read(Keys().events)).entries.values()
        (by,) = (told.by for each in events for told in read_events(each))
        assert by.endswith("@box")
        assert by == "root@box" or os.geteuid() != 0


# It becomes the user itself: the interpreter may lie where that user does not get to.
ASK = """
import os, socket, sys
path, gids, method, target, body = sys.argv[1:]
os.setgroups([int(gid) for gid in gids.split()])
os.setgid(65534)
os.setuid(65533)
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(path)
    connection.sendall((
        f"{method} /fleet/v1/{target} HTTP/1.1\\r\\nHost: fleet\\r\\nConnection: close\\r\\n"
        f"Content-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}"
    ).encode())
    while data := connection.recv(65536):
        sys.stdout.buffer.write(data)
"""


async def as_user(path: Path, gids: list[int], method: str, target: str) -> tuple[int, str]:
    """What a plain user with these groups is answered; 0 if they cannot even connect."""
    body = json.dumps({"text": FILE.text}) if method == "PUT" else ""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", ASK),
        *(os.fspath(path), " ".join(map(str, gids)), method, target, body),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if b"PermissionError" in errors:
        return 0, ""
    head, _, answer = output.decode().partition("\r\n\r\n")
    return int(head.split()[1]), answer


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")
@pytest.mark.parametrize(
    ("groups", "reads", "writes"),
    [
        pytest.param([WRITERS], 200, 201, id="fleet"),
        pytest.param([READERS], 200, 403, id="fleet-viewers"),
        pytest.param([READERS, WRITERS], 200, 201, id="both"),
        pytest.param([], 0, 0, id="neither gets in"),
    ],
)
async def test_groups_of_the_process_decide(groups: list[str], reads: int, writes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        async with serving(Path(folder)) as served:
            gids = [GIDS[group] for group in groups]
            status, _ = await as_user(served.path, gids, "GET", "machines")
            assert status == reads
            status, body = await as_user(served.path, gids, "PUT", "units/a.service")
            assert status == writes
            if status == 403:
                message = json.loads(body)["error"]["message"]
                assert "uid-65533" in message
                assert "group fleet " in message
            assert (A in (await served.registry.cluster()).units) is (writes == 201)


async def test_who_asks_while_fleetd_starts_waits_for_a_moment(tmp_path: Path) -> None:
    reason = ["this machine is not registered yet"]
    async with (
        serving(tmp_path, may_serve=lambda: next(iter(reason), None), start_s=10.0) as served,
        served.client() as client,
    ):
        asking = asyncio.create_task(client.units())
        await asyncio.sleep(0.2)
        assert not asking.done()
        reason.clear()
        assert await asking == ()


async def test_who_asks_a_fleetd_that_does_not_come_up_is_told_why(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, may_serve=lambda: "no etcd", start_s=0.2) as served,
        served.client() as client,
    ):
        for _ in range(2):
            with pytest.raises(Unavailable, match="communicate with etcd: no etcd"):
                await client.units()


# Reaching a server


async def test_missing_socket_is_said_to_be_missing(tmp_path: Path) -> None:
    async with FleetClient(f"unix://{tmp_path}/none.sock") as client:
        with pytest.raises(Unavailable, match=r"there is no socket .*none\.sock: is fleetd runn"):
            await client.units()


async def test_dead_socket_is_said_to_be_dead(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/dead.sock")
    async with FleetClient(f"unix://{tmp_path}/dead.sock") as client:
        with pytest.raises(Unavailable, match=r"nobody listens on .*dead\.sock"):
            await client.units()


async def test_closed_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with FleetClient(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(Unavailable, match=f"cannot connect to http://127.0.0.1:{port}"):
            await client.units()


async def test_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"{tmp_path}/mute.sock")
        mute.listen()
        async with FleetClient(f"unix://{tmp_path}/mute.sock", read_s=0.2) as client:
            with pytest.raises(
                Unavailable, match=r"has not answered GET /fleet/v1/units for 0\.2 s"
            ):
                await client.units()


async def test_server_that_hangs_up_is_unavailable(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        # A reset instead of an orderly end.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with (
        await asyncio.start_unix_server(hang_up, f"{tmp_path}/rude.sock"),
        FleetClient(f"unix://{tmp_path}/rude.sock") as client,
    ):
        with pytest.raises(Unavailable, match=r"the connection to .* broke"):
            await client.units()


async def test_second_server_does_not_take_the_socket(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.client() as client:
        second = ApiServer(served.registry, version="2.0.0")
        with pytest.raises(Conflict, match="another fleetd"):
            await second.start(unix_path=served.path)
        await second.stop()
        assert await client.units() == ()


async def test_refusals_come_through_as_fleets_errors(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.client() as client:
        with pytest.raises(NotFound, match=r"unit does not exist: a\.service"):
            await client.apply([UnitChange(name=A, target=TargetState.LOADED)])
        template = UnitName("a@.service")
        with pytest.raises(InvalidRequest, match="template"):
            await client.apply(launch(template))


# TLS


@contextlib.asynccontextmanager
async def serving_tls(authority: Authority) -> AsyncIterator[int]:
    """The port of a server that has no units and wants a certificate of its clients."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(*authority.issue("localhost"))
    context.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_https_server_is_verified_and_shown_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    cert, key = map(str, authority.issue("client"))
    tls = tls_context(ca_file=str(authority.file), cert_file=cert, key_file=key)
    async with (
        serving_tls(authority) as port,
        FleetClient(f"https://localhost:{port}", tls=tls) as client,
    ):
        assert await client.units() == ()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_https_server_that_cannot_prove_itself_is_refused(tmp_path: Path, host: str) -> None:
    """By another authority, or under another name; even without a certificate of our own."""
    authority = Authority(tmp_path, "ours")
    trusted = authority if host == "127.0.0.1" else Authority(tmp_path, "theirs")
    tls = tls_context(ca_file=str(trusted.file))
    async with (
        serving_tls(authority) as port,
        FleetClient(f"https://{host}:{port}", tls=tls) as client,
    ):
        with pytest.raises(Unavailable, match="certificate verify failed"):
            await client.units()
