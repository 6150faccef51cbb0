"""Commands and shells on machines, over a real sshd: streams, statuses, terminals."""

import asyncio
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

from cli.tunnel import connect_machine, open_tunnel
from cli.tunnel.session import MachineLine
from cli.tunnel.terminal import Streams, wait_readable
from fleet.errors import Denied, FleetError, Unavailable

if TYPE_CHECKING:
    from tests.integration.ssh.conftest import ServeSsh, StartSshd, World

pytestmark = pytest.mark.realtime


@dataclass
class Files:
    """A command's streams as files of the test."""

    folder: Path
    stdin: bytes | None = b""

    @property
    def out(self) -> bytes:
        return (self.folder / "out").read_bytes()

    @property
    def err(self) -> bytes:
        return (self.folder / "err").read_bytes()

    def open(self) -> Streams:
        (self.folder / "in").write_bytes(self.stdin or b"")
        write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        return Streams(
            stdin=None if self.stdin is None else os.open(self.folder / "in", os.O_RDONLY),
            stdout=os.open(self.folder / "out", write),
            stderr=os.open(self.folder / "err", write),
        )


async def run(machine: MachineLine, command: str | None, files: Files) -> int:
    streams = files.open()
    try:
        return await machine.run(command, streams=streams)
    finally:
        for descriptor in (streams.stdin, streams.stdout, streams.stderr):
            if descriptor is not None:
                os.close(descriptor)


@asynccontextmanager
async def machine_at(world: "World", address: str) -> AsyncIterator[MachineLine]:
    async with connect_machine(world.settings(), address) as machine:
        yield machine


@pytest.mark.parametrize(
    ("command", "stdin", "status", "out", "err"),
    [
        pytest.param("echo one; echo two >&2; exit 3", b"", 3, b"one\n", b"two\n", id="streams"),
        pytest.param("true", b"", 0, b"", b"", id="success"),
        pytest.param("kill -TERM $$", b"", 143, b"", b"", id="death by SIGTERM is 128 and 15"),
        pytest.param("kill -KILL $$", b"", 137, b"", b"", id="death by SIGKILL is 128 and 9"),
        pytest.param("cat", b"all of this\n", 0, b"all of this\n", b"", id="stdin from a file"),
        pytest.param("cat", None, 0, b"", b"", id="no stdin is one at its end"),
        pytest.param("wc -c", b"x" * 3_000_000, 0, b"3000000\n", b"", id="much on stdin"),
        pytest.param(None, b"exit 7\n", 7, b"", b"", id="a shell's own status"),
    ],
)
async def test_command_is_run(
    world: "World",
    start_sshd: "StartSshd",
    tmp_path: Path,
    command: str | None,
    stdin: bytes | None,
    status: int,
    out: bytes,
    err: bytes,
) -> None:
    files = Files(tmp_path, stdin)
    async with machine_at(world, start_sshd().address) as machine:
        assert await run(machine, command, files) == status
    assert (files.out, files.err) == (out, err)


async def test_output_can_be_taken_instead_of_printed(
    world: "World", start_sshd: "StartSshd"
) -> None:
    taken = bytearray()

    async def take(data: bytes) -> None:
        taken.extend(data)

    async with machine_at(world, start_sshd().address) as machine:
        streams = Streams(stdin=None)
        assert await machine.run("seq 200000", streams=streams, output=take) == 0
    assert bytes(taken) == b"".join(b"%d\n" % number for number in range(1, 200001))


async def test_reader_that_leaves_ends_the_command(world: "World", start_sshd: "StartSshd") -> None:
    reading, writing = os.pipe()
    os.close(reading)
    async with machine_at(world, start_sshd().address) as machine:
        status = await machine.run("yes", streams=Streams(stdin=None, stdout=writing))
    os.close(writing)
    assert status == 128 + signal.SIGPIPE


async def test_machine_is_reached_through_the_tunnel(
    world: "World", start_sshd: "StartSshd", tmp_path: Path
) -> None:
    bastion, inner = start_sshd(), start_sshd()
    settings = world.settings(tunnel=bastion.address)
    files = Files(tmp_path)
    async with (
        open_tunnel(settings) as tunnel,
        connect_machine(settings, "127.0.0.1", inner.port, via=tunnel) as machine,
    ):
        assert await run(machine, "echo $SSH_CONNECTION", files) == 0
    assert files.out.split()[3] == str(inner.port).encode()


async def test_machine_behind_the_tunnel_that_is_down_is_named(
    world: "World", start_sshd: "StartSshd"
) -> None:
    settings = world.settings(tunnel=start_sshd().address)
    async with open_tunnel(settings) as tunnel:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 through 127.*Connection refused"):
            async with connect_machine(settings, "127.0.0.1", 1, via=tunnel):
                pass


async def test_silent_machine_behind_the_tunnel_times_out(
    world: "World", start_sshd: "StartSshd"
) -> None:
    """fleet 1.0 waited for ever for the inner handshake."""
    settings = world.settings(tunnel=start_sshd().address, ssh_timeout_s=0.5)
    talks: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: talks.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent, open_tunnel(world.settings(tunnel=settings.tunnel)) as tunnel:
        with pytest.raises(Unavailable, match=r"timed out after 0\.5 s .* through 127"):
            async with connect_machine(settings, "127.0.0.1", port, via=tunnel):
                pass
        for writer in talks:
            writer.close()
            await writer.wait_closed()


async def test_lost_connection_is_an_error_and_not_a_status(
    world: "World", serve: "ServeSsh"
) -> None:
    def drop(process: asyncssh.SSHServerProcess[str]) -> None:
        process.channel.get_connection().abort()

    async with serve(process_factory=drop) as port, machine_at(world, f"127.0.0.1:{port}") as far:
        with pytest.raises(FleetError, match=r"127\.0\.0\.1"):
            await far.run("anything", streams=Streams(stdin=None))


async def test_forwarding_an_agent_needs_one(world: "World", start_sshd: "StartSshd") -> None:
    address = start_sshd().address
    with pytest.raises(Unavailable, match="no agent to forward: SSH_AUTH_SOCK"):
        async with connect_machine(world.settings(), address, forward_agent=True):
            pass


@pytest.fixture
def agent(world: "World") -> Iterator[str]:
    path = str(world.folder / "agent.sock")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    while not os.path.exists(path):
        time.sleep(0.01)
    environment = {**os.environ, "SSH_AUTH_SOCK": path}
    subprocess.run(["ssh-add", "-q", world.key], env=environment, check=True, capture_output=True)
    yield path
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize(("forward", "status"), [(True, 0), (False, 2)])
async def test_agent_is_forwarded_only_when_asked(
    world: "World",
    start_sshd: "StartSshd",
    agent: str,
    tmp_path: Path,
    forward: bool,
    status: int,
) -> None:
    world.configure(f"Host *\n IdentityAgent {agent}\n ForwardAgent yes")
    files = Files(tmp_path)
    address = start_sshd().address
    async with connect_machine(world.settings(), address, forward_agent=forward) as machine:
        assert await run(machine, "unset X; ssh-add -l", files) == status


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal of 101 columns and 42 lines: ours, and the user's."""
    ours, theirs = os.openpty()
    resize(ours, 101, 42)
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def resize(descriptor: int, columns: int, lines: int) -> None:
    size = struct.pack("HHHH", lines, columns, 0, 0)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)


async def read_until(descriptor: int, wanted: bytes) -> bytes:
    """What the terminal shows up to the wanted text."""
    shown = bytearray()
    async with asyncio.timeout(10):
        while wanted not in shown:
            await wait_readable(descriptor)
            shown += os.read(descriptor, 65536)
    return bytes(shown)


async def test_terminal_has_the_users_size_and_follows_it(
    world: "World", start_sshd: "StartSshd", terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    before = termios.tcgetattr(theirs)
    streams = Streams(stdin=theirs, stdout=theirs, stderr=theirs)
    script = "stty size; read line; stty size; read line; exit 5"
    async with machine_at(world, start_sshd().address) as machine:
        running = asyncio.create_task(machine.run(f"sh -c '{script}'", streams=streams))
        await read_until(ours, b"42 101\r\n")
        assert not termios.tcgetattr(theirs)[3] & termios.ICANON
        resize(ours, 77, 33)
        os.kill(os.getpid(), signal.SIGWINCH)
        await asyncio.sleep(0.1)
        os.write(ours, b"\r")
        await read_until(ours, b"33 77\r\n")
        os.write(ours, b"\r")
        assert await running == 5
    assert termios.tcgetattr(theirs) == before


async def test_control_c_goes_to_the_far_side(
    world: "World", start_sshd: "StartSshd", terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    streams = Streams(stdin=theirs, stdout=theirs, stderr=theirs)
    async with machine_at(world, start_sshd().address) as machine:
        command = "sh -c 'trap \"exit 9\" INT; echo ready; while :; do sleep 0.05; done'"
        running = asyncio.create_task(machine.run(command, streams=streams))
        await read_until(ours, b"ready")
        os.write(ours, b"\x03")
        assert await running == 9


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
async def test_terminal_is_put_back_when_a_signal_ends_fleetctl(
    world: "World", start_sshd: "StartSshd", terminal: tuple[int, int], ending: signal.Signals
) -> None:
    ours, theirs = terminal
    before = termios.tcgetattr(theirs)
    streams = Streams(stdin=theirs, stdout=theirs, stderr=theirs)
    async with machine_at(world, start_sshd().address) as machine:
        running = asyncio.create_task(machine.run("echo ready; cat", streams=streams))
        await read_until(ours, b"ready")
        os.kill(os.getpid(), ending)
        assert await running == 128 + ending
    assert termios.tcgetattr(theirs) == before


async def test_terminal_is_put_back_when_the_connection_is_lost(
    world: "World", start_sshd: "StartSshd", terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    before = termios.tcgetattr(theirs)
    streams = Streams(stdin=theirs, stdout=theirs, stderr=theirs)
    async with machine_at(world, start_sshd().address) as machine:
        running = asyncio.create_task(machine.run("echo ready; cat", streams=streams))
        await read_until(ours, b"ready")
        machine.line.connection.abort()
        with pytest.raises(FleetError):
            await running
    assert termios.tcgetattr(theirs) == before


async def test_shell_of_a_terminal_gives_its_status(
    world: "World", start_sshd: "StartSshd", terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    streams = Streams(stdin=theirs, stdout=theirs, stderr=theirs)
    async with machine_at(world, start_sshd().address) as machine:
        running = asyncio.create_task(machine.run(None, streams=streams))
        os.write(ours, b"echo $((40+2))\r")
        await read_until(ours, b"42\r\n")
        os.write(ours, b"exit 4\r")
        assert await running == 4


async def test_wrong_key_for_the_machine_is_told(world: "World", start_sshd: "StartSshd") -> None:
    authorized = world.folder / "authorized"
    shutil.copy(f"{world.key}.pub", authorized)
    sshd = start_sshd(f"AuthorizedKeysFile {authorized}")
    authorized.write_text("")
    with pytest.raises(Denied, match="does not let"):
        async with machine_at(world, sshd.address):
            pass
