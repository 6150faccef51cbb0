"""Sockets on this machine that lead to sockets and ports on the far side of an SSH connection.

Each connection to the local socket becomes one channel. The first channel is opened before anyone
connects, so that a far side that refuses is an error with a reason and not an early end of file;
it then serves the first connection.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import asyncssh

from cli.settings import Settings
from cli.tunnel.dial import Line, dial
from cli.tunnel.faults import explain
from cli.tunnel.inspection import (
    Finding,
    explain_finding,
    helper_command,
    inspection_command,
    parse_inspection,
)
from cli.tunnel.target import FarPort, FarSocket, parse_far_end, parse_target
from cli.tunnel.terminal import Console
from fleet.errors import FleetError, Unavailable

_CHUNK = 65536
# sun_path holds 108 bytes (unix(7)); the socket's own name needs some of them.
_MAX_FOLDER_BYTES = 90


class _Reader(Protocol):
    async def read(self, n: int, /) -> bytes: ...


class _Writer(Protocol):
    def write(self, data: bytes, /) -> Any: ...
    async def drain(self) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Channel:
    """Both directions of one connection on the far side."""

    reader: _Reader
    writer: _Writer


_Opener = Callable[[], Awaitable[_Channel]]


class Tunnel:
    """An open SSH connection to the bastion, and the local sockets that lead through it.

    `line` is for `connect_machine`.
    """

    def __init__(self, line: Line, folder: str) -> None:
        self.line = line
        self._folder = folder
        self._paths: dict[str, str] = {}
        self._fault: FleetError | None = None
        self._servers: list[asyncio.Server] = []
        self._joints: set[asyncio.Task[None]] = set()

    @property
    def place(self) -> str:
        """The bastion as the user named it."""
        return self.line.place

    @property
    def fault(self) -> FleetError | None:
        """Why the last connection through the tunnel came to nothing, None if it did not."""
        return self._fault or self.line.fault

    async def socket_for(self, endpoint: str) -> str:
        """The local socket that leads to the endpoint; it is there until the tunnel is closed.

        Raises FleetError if the far side cannot reach the endpoint.
        """
        if endpoint not in self._paths:
            far = parse_far_end(endpoint)
            opener, first = await self._find_opener(far)
            path = os.path.join(self._folder, f"{len(self._paths)}.sock")
            await self._listen(path, opener, first)
            self._paths[endpoint] = path
        return self._paths[endpoint]

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for joint in self._joints:
            joint.cancel()
        await asyncio.gather(*self._joints, return_exceptions=True)

    async def _find_opener(self, far: FarSocket | FarPort) -> tuple[_Opener, _Channel]:
        """A way to open channels to the far end, and the first of them."""
        if isinstance(far, FarPort):

            async def opener() -> _Channel:
                return await self._open_port(far)

            return opener, await opener()

        path = far.path
        try:
            first = await self._open_socket(path)
        except asyncssh.ChannelOpenError:
            await self._inspect(path)
            return lambda: self._open_helper(path), await self._open_helper(path)
        return lambda: self._open_socket_again(path), first

    async def _inspect(self, path: str) -> None:
        """Return if fleetctl on the far side can reach the socket; raise the reason if not."""
        finding, detail = Finding.UNKNOWN, ""
        doing = f"asking {self.place} about {path}"
        with self._translated(doing):
            async with asyncio.timeout(self.line.limit_s):
                result = await self.line.connection.run(
                    inspection_command(path), request_pty=False, errors="replace"
                )
                finding, detail = parse_inspection(str(result.stdout))
        if finding is not Finding.REACHABLE:
            raise explain_finding(finding, detail, path=path, place=self.place, user=self.line.user)

    async def _open_socket(self, path: str) -> _Channel:
        with self._translated(f"forwarding to {path} there", but=asyncssh.ChannelOpenError):
            async with asyncio.timeout(self.line.limit_s):
                reader, writer = await self.line.connection.open_unix_connection(
                    path, encoding=None
                )
        return _Channel(reader, writer)

    async def _open_socket_again(self, path: str) -> _Channel:
        """Open what could be opened before; if it cannot any more, raise the reason."""
        try:
            return await self._open_socket(path)
        except asyncssh.ChannelOpenError as error:
            await self._inspect(path)
            raise explain(error, self.line.stage(f"forwarding to {path} there")) from error

    async def _open_port(self, far: FarPort) -> _Channel:
        with self._translated(f"connecting on to {far}"):
            async with asyncio.timeout(self.line.limit_s):
                reader, writer = await self.line.connection.open_connection(
                    far.host, far.port, encoding=None
                )
        return _Channel(reader, writer)

    async def _open_helper(self, path: str) -> _Channel:
        with self._translated(f"running fleetctl fd-forward {path} there"):
            async with asyncio.timeout(self.line.limit_s):
                process = await self.line.connection.create_process(
                    helper_command(path), request_pty=False, encoding=None
                )
        return _Channel(process.stdout, process.stdin)

    @contextlib.contextmanager
    def _translated(self, doing: str, but: type[Exception] | tuple[()] = ()) -> Any:
        try:
            yield
        except but:
            raise
        except (OSError, asyncssh.Error) as error:
            raise explain(error, self.line.stage(doing)) from error

    async def _listen(self, path: str, opener: _Opener, first: _Channel) -> None:
        waiting = [first]

        async def join(near: _Channel) -> None:
            try:
                far = waiting.pop() if waiting else await opener()
                self._fault = None
                await _join(near, far)
            except (OSError, asyncssh.Error, FleetError) as error:
                self._fault = explain(error, self.line.stage("forwarding a connection"))
            finally:
                near.writer.close()

        # Not a coroutine: asyncio (3.11.7) reports one of its own that is cancelled as an error.
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            joint = asyncio.create_task(join(_Channel(reader, writer)))
            self._joints.add(joint)
            joint.add_done_callback(self._joints.discard)

        self._servers.append(await asyncio.start_unix_server(accept, path))


async def _join(near: _Channel, far: _Channel) -> None:
    """Carry bytes both ways until the far side has said its last."""
    upward = asyncio.create_task(_carry(near.reader, far.writer))
    try:
        await _carry(far.reader, near.writer)
    finally:
        upward.cancel()
        await asyncio.gather(upward, return_exceptions=True)
        far.writer.close()


async def _carry(source: _Reader, sink: _Writer) -> None:
    while data := await source.read(_CHUNK):
        sink.write(data)
        await sink.drain()
    sink.write_eof()


@asynccontextmanager
async def open_tunnel(settings: Settings, console: Console) -> AsyncIterator[Tunnel]:
    """A tunnel through the bastion that the settings name; see `cli.tunnel.open_tunnel`."""
    target = parse_target(settings.tunnel)
    async with dial(settings, target, console=console) as line:
        folder = _private_folder()
        tunnel = Tunnel(line, folder)
        try:
            yield tunnel
        finally:
            await tunnel.close()
            shutil.rmtree(folder, ignore_errors=True)


def _private_folder() -> str:
    """A new folder of ours alone whose name is short enough for a socket in it."""
    try:
        folder = tempfile.mkdtemp(prefix="fleetctl-")
        if len(os.fsencode(folder)) > _MAX_FOLDER_BYTES:
            os.rmdir(folder)
            folder = tempfile.mkdtemp(prefix="fleetctl-", dir="/tmp")
    except OSError as error:
        raise Unavailable(f"no folder for the tunnel's socket: {error.strerror}") from error
    return folder
