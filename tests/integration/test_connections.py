"""Places for connections, on a real socket."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.api.connections import Connections
from fleet.api.limits import Limits

pytestmark = pytest.mark.realtime

PLACES = 8


@contextlib.asynccontextmanager
async def listening(path: Path) -> AsyncIterator[None]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(PLACES)
    served = Connections(listener, asyncio.Protocol, limits=Limits(connections=PLACES))
    try:
        yield
    finally:
        await served.close()


def is_open(client: socket.socket) -> bool:
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


@pytest.mark.parametrize("steps", range(10))
async def test_as_many_as_there_are_places_stay_however_soon_the_last_comes(
    tmp_path: Path, steps: int
) -> None:
    """The last comes so many steps of the server's loop after the one before it."""
    async with listening(tmp_path / "s"):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(PLACES)]
            for client in clients[:-2]:
                client.connect(str(tmp_path / "s"))
            await asyncio.sleep(0.05)
            clients[-2].connect(str(tmp_path / "s"))
            for _ in range(steps):
                await asyncio.sleep(0)
            clients[-1].connect(str(tmp_path / "s"))
            await asyncio.sleep(0.05)
            for client in clients:
                client.setblocking(False)
            assert [is_open(client) for client in clients] == [True] * PLACES
