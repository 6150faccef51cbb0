"""The tunnel to fleetd's socket, over a real sshd and over one inside the test."""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from cli.tunnel import open_tunnel

if TYPE_CHECKING:
    from tests.integration.ssh.conftest import HttpServer, ServeSsh, StartSshd, World

pytestmark = pytest.mark.realtime


async def get(path: str, url: str = "http://fleet/state") -> str:
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport) as client:
        return (await client.get(url)).text


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
