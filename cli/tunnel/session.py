"""Commands and shells on a machine, joined to this terminal or to descriptors."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncssh

from cli.settings import Settings
from cli.tunnel.dial import Line, dial
from cli.tunnel.faults import explain
from cli.tunnel.forward import Tunnel
from cli.tunnel.target import Target
from cli.tunnel.terminal import Console, Streams, raw_mode, read_chunk, size_of, write_all
from fleet.errors import FleetError, Unavailable

_CHUNK = 65536
# As ssh(1) does when the connection, and not the command, failed.
EXIT_LOST = 255
_EXIT_BY_SIGNAL = 128

Sink = Callable[[bytes], Awaitable[None]]


class MachineLine:
    """An SSH connection to a machine."""

    def __init__(self, line: Line) -> None:
        self.line = line

    @property
    def place(self) -> str:
        """The machine's address, as it was given."""
        return self.line.place

    async def run(
        self,
        command: str | None,
        *,
        streams: Streams | None = None,
        terminal: bool | None = None,
        output: Sink | None = None,
    ) -> int:
        """Run the command, or a shell for None, and return its exit status.

        `terminal` asks for a pseudo-terminal; by default there is one if stdin and stdout are
        one. `output` takes what the command writes to stdout instead of `streams`. A command that
        a signal ends gives 128 and the signal's number. Raises FleetError; Unavailable if the
        connection is lost while the command runs.
        """
        joined = streams or Streams()
        wants_terminal = joined.are_terminal if terminal is None else terminal
        process = await self._start(command, joined, wants_terminal)
        with contextlib.closing(process):
            if not wants_terminal:
                return await self._attend(process, joined, output)
            with _terminal(joined, process) as ending:
                return await ending.status_of(self._attend(process, joined, output))

    async def _start(
        self, command: str | None, streams: Streams, terminal: bool
    ) -> asyncssh.SSHClientProcess[bytes]:
        pty: dict[str, Any] = {"request_pty": False}
        if terminal:
            pty = {
                "request_pty": "force",
                "term_type": os.environ.get("TERM") or "xterm",
                "term_size": size_of(streams.stdout),
            }
        try:
            async with asyncio.timeout(self.line.limit_s):
                process: asyncssh.SSHClientProcess[bytes]
                process = await self.line.connection.create_process(command, encoding=None, **pty)
                return process
        except (OSError, asyncssh.Error) as error:
            raise explain(error, self.line.stage("starting a command there")) from error

    async def _attend(
        self, process: asyncssh.SSHClientProcess[bytes], streams: Streams, output: Sink | None
    ) -> int:
        feeding = asyncio.create_task(_feed(streams.stdin, process.stdin))
        draining = (
            asyncio.create_task(_drain(process.stdout, output or _to(streams.stdout))),
            asyncio.create_task(_drain(process.stderr, _to(streams.stderr))),
        )
        try:
            await asyncio.gather(*draining)
            await process.wait_closed()
        except _ReaderGone:
            return _EXIT_BY_SIGNAL + signal.SIGPIPE
        except (OSError, asyncssh.Error) as error:
            raise explain(error, self.line.stage("a command ran there")) from error
        finally:
            for task in (feeding, *draining):
                task.cancel()
            await asyncio.gather(feeding, *draining, return_exceptions=True)
        return self._status(process)

    def _status(self, process: asyncssh.SSHClientProcess[bytes]) -> int:
        if process.exit_signal is not None:
            return signal_status(process.exit_signal[0])
        if process.exit_status is None:
            raise self._lost()
        return process.exit_status

    def _lost(self) -> FleetError:
        return self.line.fault or Unavailable(
            f"{self.place} ended the session without an exit status"
        )


class _ReaderGone(Exception):
    """Nobody reads here any more; the connection, which may break likewise, stands."""


def signal_status(name: str) -> int:
    """The exit status of a command that the signal of that name (without SIG) ended."""
    try:
        return _EXIT_BY_SIGNAL + signal.Signals[f"SIG{name.removeprefix('SIG')}"]
    except KeyError:
        return EXIT_LOST


def _to(descriptor: int) -> Sink:
    async def write(data: bytes) -> None:
        await write_all(descriptor, data)

    return write


async def _feed(descriptor: int | None, stdin: asyncssh.SSHWriter[bytes]) -> None:
    """Carry what the user types, or pipes in, to the command."""
    try:
        while descriptor is not None and (data := await read_chunk(descriptor)):
            stdin.write(data)
            await stdin.drain()
        stdin.write_eof()
    except (OSError, asyncssh.Error):
        return  # the command has ended, or no longer reads: its status tells


async def _drain(source: asyncssh.SSHReader[bytes], sink: Sink) -> None:
    while data := await source.read(_CHUNK):
        try:
            await sink(data)
        except BrokenPipeError as error:
            raise _ReaderGone from error


class _Ending:
    """A signal that would end fleetctl ends the command first: the terminal must be put back."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._task: asyncio.Task[int] | None = None

    def come(self, number: int) -> None:
        self._signal = number
        if self._task:
            self._task.cancel()

    async def status_of(self, work: Coroutine[Any, Any, int]) -> int:
        """The work's status, or that of the signal that ended it."""
        self._task = asyncio.create_task(work)
        try:
            return await self._task
        except asyncio.CancelledError:
            if self._signal is None:
                raise
            return _EXIT_BY_SIGNAL + self._signal


@contextlib.contextmanager
def _terminal(streams: Streams, process: asyncssh.SSHClientProcess[bytes]) -> Iterator[_Ending]:
    """Raw mode, and the far terminal as large as this one, until the command ends."""
    loop = asyncio.get_running_loop()
    ending = _Ending()
    changes = process.change_terminal_size
    loop.add_signal_handler(signal.SIGWINCH, lambda: changes(*size_of(streams.stdout)))
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ending.come, number)
    try:
        with raw_mode(streams.stdin) if streams.stdin is not None else contextlib.nullcontext():
            yield ending
    finally:
        for number in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def connect_machine(
    settings: Settings,
    target: Target,
    *,
    via: Tunnel | None,
    forward_agent: bool,
    console: Console,
) -> AsyncIterator[MachineLine]:
    """An SSH connection to a machine; see `cli.tunnel.connect_machine`."""
    line = via.line if via else None
    async with dial(
        settings, target, console=console, via=line, forward_agent=forward_agent
    ) as own:
        yield MachineLine(own)
