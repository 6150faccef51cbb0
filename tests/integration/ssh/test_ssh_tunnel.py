"""The tunnel to fleetd's socket, over a real sshd and over one inside the test."""

import asyncio
import contextlib
import os
import socket
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh
import httpx
import pytest

from cli.tunnel import open_tunnel
from fleet.errors import Denied, FleetError, InvalidRequest, NotFound, Unavailable

if TYPE_CHECKING:
    from tests.integration.ssh.conftest import HttpServer, ServeSsh, StartSshd, World

pytestmark = pytest.mark.realtime
CHECKOUT = Path(__file__).parents[3]


async def get(path: str, url: str = "http://fleet/state") -> str:
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport) as client:
        return (await client.get(url)).text


def with_fleetctl(world: "World") -> str:
    """The folders where sessions of an sshd look for programs: one has a fleetctl."""
    folder = world.folder / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / "fleetctl"
    program.write_text(f'#!/bin/sh\nexec {CHECKOUT}/.venv/bin/fleetctl "$@"\n')
    program.chmod(0o755)
    return f"{folder}:{os.defpath}"


async def test_tunnel_leads_to_a_far_socket(
    world: "World", start_sshd: "StartSshd", http_server: "HttpServer"
) -> None:
    sshd = start_sshd()
    far = str(world.folder / "fleet.sock")
    async with (
        http_server(far) as requests,
        open_tunnel(world.settings(tunnel=sshd.address)) as tunnel,
    ):
        near = await tunnel.socket_for(f"unix://{far}")
        assert stat.S_IMODE(os.stat(Path(near).parent).st_mode) == 0o700
        assert await get(near) == "answer 1"
        assert await get(near, "http://fleet/again") == "answer 2"
        assert await tunnel.socket_for(f"unix://{far}") == near
    assert requests == ["GET /state HTTP/1.1", "GET /again HTTP/1.1"]
    assert not Path(near).parent.exists()


async def test_tunnel_leads_to_a_port_that_the_bastion_sees(
    world: "World", start_sshd: "StartSshd"
) -> None:
    sshd = start_sshd()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_tunnel(world.settings(tunnel=sshd.address)) as tunnel:
            near = await tunnel.socket_for(f"http://localhost:{port}")
            assert await get(near) == "ok"


async def test_tunnel_carries_large_answers_and_many_connections_at_once(
    world: "World", serve: "ServeSsh", tmp_path: Path
) -> None:
    far = str(tmp_path / "far.sock")
    body = os.urandom(3_000_000)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(3) == b"ask"
        writer.write(body)
        writer.close()

    async def ask(path: str) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"ask")
        received = await reader.read()
        writer.close()
        return received

    server = await asyncio.start_unix_server(answer, far)
    async with (
        server,
        serve(factory=Forwarder) as port,
        open_tunnel(world.settings(tunnel=f"127.0.0.1:{port}")) as tunnel,
    ):
        near = await tunnel.socket_for(f"unix://{far}")
        answers = await asyncio.gather(*(ask(near) for _ in range(5)))
    assert answers == [body] * 5


class Forwarder(asyncssh.SSHServer):
    """Lets clients through to every socket and port."""

    def unix_connection_requested(self, dest_path: str) -> bool:
        return True

    def connection_requested(self, *arguments: Any) -> bool:
        return True


async def test_tunnel_without_stream_forwarding_runs_fd_forward_there(
    world: "World", start_sshd: "StartSshd", http_server: "HttpServer"
) -> None:
    sshd = start_sshd("AllowStreamLocalForwarding no", path=with_fleetctl(world))
    far = str(world.folder / "fleet.sock")
    async with (
        http_server(far) as requests,
        open_tunnel(world.settings(tunnel=sshd.address)) as tunnel,
    ):
        near = await tunnel.socket_for(f"unix://{far}")
        assert await get(near) == "answer 1"
        assert await get(near) == "answer 2"
    assert len(requests) == 2


async def test_tunnel_without_any_way_forward_names_both(
    world: "World", start_sshd: "StartSshd", http_server: "HttpServer"
) -> None:
    sshd = start_sshd("AllowStreamLocalForwarding no")
    far = str(world.folder / "fleet.sock")
    async with http_server(far), open_tunnel(world.settings(tunnel=sshd.address)) as tunnel:
        with pytest.raises(Unavailable, match=r"AllowStreamLocalForwarding.*no fleetctl"):
            await tunnel.socket_for(f"unix://{far}")


async def test_missing_far_socket_is_named(world: "World", start_sshd: "StartSshd") -> None:
    sshd = start_sshd()
    async with open_tunnel(world.settings(tunnel=sshd.address)) as tunnel:
        with pytest.raises(NotFound) as caught:
            await tunnel.socket_for("unix:///no/such.sock")
    assert str(caught.value) == (
        f"/no/such.sock on {sshd.address}: no such file; is fleetd running there?"
    )


async def test_far_socket_that_nobody_serves_is_told(
    world: "World", start_sshd: "StartSshd"
) -> None:
    sshd = start_sshd(path=with_fleetctl(world))
    far = str(world.folder / "dead.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(far)
    async with open_tunnel(world.settings(tunnel=sshd.address)) as tunnel:
        with pytest.raises(Unavailable, match="nothing answers; is fleetd running"):
            await tunnel.socket_for(f"unix://{far}")


async def test_far_file_that_is_no_socket_is_told(world: "World", start_sshd: "StartSshd") -> None:
    sshd = start_sshd()
    async with open_tunnel(world.settings(tunnel=sshd.address)) as tunnel:
        with pytest.raises(NotFound, match="is not a socket"):
            await tunnel.socket_for("unix:///etc/passwd")


async def test_refused_far_port_is_told(world: "World", start_sshd: "StartSshd") -> None:
    sshd = start_sshd()
    async with open_tunnel(world.settings(tunnel=sshd.address)) as tunnel:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1: .*refused"):
            await tunnel.socket_for("http://127.0.0.1:1")


async def test_socket_that_goes_away_leaves_its_fault(
    world: "World", start_sshd: "StartSshd", http_server: "HttpServer"
) -> None:
    sshd = start_sshd()
    far = str(world.folder / "fleet.sock")
    async with open_tunnel(world.settings(tunnel=sshd.address)) as tunnel:
        async with http_server(far):
            near = await tunnel.socket_for(f"unix://{far}")
            await get(near)
        os.unlink(far)
        assert tunnel.fault is None
        with pytest.raises(httpx.HTTPError):
            await get(near)
        assert isinstance(tunnel.fault, FleetError)
        assert far in str(tunnel.fault)


async def test_unknown_user_is_refused_in_one_sentence(
    world: "World", start_sshd: "StartSshd"
) -> None:
    sshd = start_sshd()
    with pytest.raises(Denied) as caught:
        async with open_tunnel(world.settings(tunnel=f"nobody-here@{sshd.address}")):
            pass
    assert "does not let 'nobody-here' in" in str(caught.value)
    assert str(world.key) in str(caught.value)
    assert "--ssh-username" in str(caught.value)


async def test_no_keys_at_all_is_refused_before_connecting(world: "World") -> None:
    world.key.unlink()
    with pytest.raises(Denied, match=r"no SSH key to show to 127.0.0.1:1: start ssh-agent"):
        async with open_tunnel(world.settings(tunnel="127.0.0.1:1")):
            pass


def encrypt(key: Path) -> None:
    change = ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(key)]
    subprocess.run(change, check=True, capture_output=True)


async def test_key_with_a_passphrase_is_named(world: "World") -> None:
    encrypt(world.key)
    with pytest.raises(Denied, match="needs a passphrase: ssh-add it"):
        async with open_tunnel(world.settings(tunnel="127.0.0.1:1")):
            pass


async def test_closed_port_is_told(world: "World") -> None:
    with pytest.raises(Unavailable, match=r"127.0.0.1:1 refuses connections"):
        async with open_tunnel(world.settings(tunnel="127.0.0.1:1")):
            pass


async def test_host_without_address_is_told(world: "World") -> None:
    with pytest.raises(Unavailable, match=r"cannot resolve the host 'no-such-host\.invalid'"):
        async with open_tunnel(world.settings(tunnel="no-such-host.invalid")):
            pass


@asynccontextmanager
async def raw_server(greeting: bytes) -> AsyncIterator[str]:
    """Something on a port that says its greeting, and then nothing; yields its address."""
    talks: list[asyncio.StreamWriter] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(writer)
        writer.write(greeting)

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for writer in talks:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_silent_host_times_out_with_the_stage(world: "World") -> None:
    async with raw_server(b"") as address:
        settings = world.settings(tunnel=address, ssh_timeout_s=0.2)
        with pytest.raises(Unavailable, match=r"timed out after 0\.2 s while initiating the SSH"):
            async with open_tunnel(settings):
                pass


async def test_port_that_speaks_no_ssh_is_told(world: "World") -> None:
    async with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 2000) as address:
        with pytest.raises(Unavailable, match="does not speak SSH"):
            async with open_tunnel(world.settings(tunnel=address)):
                pass


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param("unix://var/run/fleet.sock", id="two slashes make a host of var"),
        pytest.param("ftp://host/", id="a scheme that fleetd does not speak"),
        pytest.param("/run/fleet.sock", id="no scheme"),
    ],
)
async def test_endpoint_that_cannot_be_tunnelled_is_refused(
    world: "World", serve: "ServeSsh", endpoint: str
) -> None:
    async with (
        serve() as port,
        open_tunnel(world.settings(tunnel=f"127.0.0.1:{port}")) as tunnel,
    ):
        with pytest.raises(InvalidRequest):
            await tunnel.socket_for(endpoint)
