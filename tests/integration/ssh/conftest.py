"""An SSH world of a test's own: keys, ssh_config, known_hosts, servers on free loopback ports."""

import asyncio
import contextlib
import gc
import getpass
import io
import os
import socket
import subprocess
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from cli.settings import Settings
from cli.tunnel.terminal import Console

SSHD = "/usr/sbin/sshd"
USER = getpass.getuser()


@dataclass
class World:
    """The client's side: a home of files that replaces everything a user has in ~/.ssh."""

    folder: Path
    said: io.StringIO = field(default_factory=io.StringIO)

    @property
    def key(self) -> Path:
        return self.folder / "id_test"

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "dot-fleetctl" / "known_hosts"

    @property
    def user_known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def configure(self, text: str) -> None:
        """Put the text before the defaults in ssh_config: the first value counts."""
        self.config.write_text(f"{text}\n{self.defaults()}")

    def defaults(self) -> str:
        return (
            "Host *\n"
            f"  IdentityFile {self.key}\n"
            "  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.user_known_hosts}\n"
            f"  GlobalKnownHostsFile {self.folder}/global_known_hosts\n"
        )

    def settings(self, **changes: Any) -> Settings:
        values: dict[str, Any] = {
            "ssh_username": USER,
            "ssh_config": str(self.config),
            "known_hosts_file": str(self.known_hosts),
            "strict_host_key_checking": False,
            "ssh_timeout_s": 10.0,
        }
        return Settings(**{**values, **changes})

    def console(self, answer: str | None = None) -> Console:
        """A console where the answer has been typed already, and its end follows."""
        reading, writing = os.pipe()
        os.write(writing, (answer or "").encode())
        os.close(writing)
        return Console(stdin=reading, stderr=self.said)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(made.key)
    made.key.chmod(0o600)
    key.write_public_key(f"{made.key}.pub")
    made.config.write_text(made.defaults())
    return made


@dataclass(frozen=True)
class Sshd:
    """A real sshd on loopback."""

    port: int
    host_key: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


StartSshd = Callable[..., Sshd]


@pytest.fixture
def start_sshd(world: World) -> Iterator[StartSshd]:
    """Start a real sshd with extra lines of configuration; it ends with the test.

    Its sessions look for programs in the folders of `path`. Their home is a folder of the test,
    so that no start-up file of whoever runs the tests has a say in what a shell prints.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(*lines: str, path: str = os.defpath) -> Sshd:
        folder = world.folder / f"sshd{len(started)}"
        folder.mkdir()
        port = free_port()
        host_key = folder / "host_key"
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(host_key)
        host_key.chmod(0o600)
        key.write_public_key(f"{host_key}.pub")
        (folder / "sshd_config").write_text(
            "\n".join(
                (
                    *lines,
                    f"Port {port}",
                    "ListenAddress 127.0.0.1",
                    f"HostKey {host_key}",
                    f"AuthorizedKeysFile {world.key}.pub",
                    "StrictModes no",
                    "UsePAM no",
                    "PermitRootLogin yes",
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    f"PidFile {folder}/pid",
                    f"SetEnv HOME={folder} PATH={path}",
                    "",
                )
            )
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        arguments = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        log = (folder / "log").open("wb")
        started.append(subprocess.Popen(arguments, stderr=log, stdin=subprocess.DEVNULL))
        log.close()
        wait_until_open(port)
        return Sshd(port=port, host_key=host_key)

    yield start
    for process in started:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        assert time.monotonic() < deadline, "sshd does not listen"
        time.sleep(0.01)


@asynccontextmanager
async def serve_ssh(
    world: World,
    *,
    factory: type[asyncssh.SSHServer] = asyncssh.SSHServer,
    host_keys: list[asyncssh.SSHKey] | None = None,
    **options: Any,
) -> AsyncIterator[int]:
    connections: list[asyncssh.SSHServerConnection] = []

    class Tracked(factory):  # type: ignore[valid-type, misc]
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            connections.append(conn)
            super().connection_made(conn)

    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Tracked,
        server_host_keys=host_keys or [asyncssh.generate_private_key("ssh-ed25519")],
        authorized_client_keys=f"{world.key}.pub",
        **options,
    )
    async with server:
        yield server.get_port()
    for connection in connections:
        connection.close()
        await connection.wait_closed()


ServeSsh = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture
def serve(world: World) -> ServeSsh:
    """Run an SSH server inside the test; the context is its port."""

    def start(**options: Any) -> AbstractAsyncContextManager[int]:
        return serve_ssh(world, **options)

    return start


@asynccontextmanager
async def _http_server(path: str) -> AsyncIterator[list[str]]:
    requests: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                requests.append(head.splitlines()[0])
                body = f"answer {len(requests)}".encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    try:
        yield requests
    finally:
        server.close()
        await server.wait_closed()


HttpServer = Callable[[str], AbstractAsyncContextManager[list[str]]]


@pytest.fixture
def http_server() -> HttpServer:
    """Serve HTTP on a Unix socket; the list is the requests it got."""
    return _http_server


@pytest.fixture(autouse=True)
def _let_go_of_broken_handshakes() -> Iterator[None]:
    """asyncssh's server forgets to close the socket of a client that leaves mid-handshake.

    Such sockets are collected here, where no other test is blamed for them.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
