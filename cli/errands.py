"""Commands where the units are: on this machine directly, on others over SSH."""

import asyncio
import contextlib
import shlex
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cli.connect import NoClient, connect
from cli.places import Sight, address_of
from cli.selection import is_global
from cli.settings import Settings
from fleet.errors import InvalidRequest, NotFound
from fleet.machine import Machine, MachineId

if TYPE_CHECKING:
    from cli.tunnel.forward import Tunnel
    from cli.tunnel.session import MachineLine
    from fleet.api.client import FleetClient
    from fleet.api.schema import Unit
    from fleet.names import UnitName

MACHINE_ID = Path("/etc/machine-id")
# As ssh(1) does when the connection, and not the command, failed.
EXIT_NO_SSH = 255
_CHUNK = 65536

Output = Callable[[bytes], Awaitable[None]]


@asynccontextmanager
async def open_cluster(
    settings: Settings,
) -> "AsyncIterator[tuple[FleetClient, Tunnel | None]]":
    """A client of the API, and the tunnel it goes through, for SSH to go through as well."""
    from cli.tunnel import open_tunnel

    async with AsyncExitStack() as stack:
        tunnel = None
        if settings.tunnel:
            try:
                tunnel = await stack.enter_async_context(open_tunnel(settings))
            except InvalidRequest as error:
                raise NoClient(error) from error
        yield await stack.enter_async_context(connect(settings, tunnel)), tunnel


async def look_at(client: "FleetClient", name: "UnitName | None") -> Sight:
    """The machines, and the unit of that name with its states, if there is one."""
    if name is None:
        return Sight(machines=await client.machines())
    machines = await client.machines()
    unit = await _unit(client, name)
    states = await client.states(unit=name) if unit and is_global(unit) else ()
    return Sight(machines=machines, unit=unit, states=states)


async def _unit(client: "FleetClient", name: "UnitName") -> "Unit | None":
    with contextlib.suppress(NotFound):
        return await client.unit(name)
    return None


def local_machine_id() -> MachineId | None:
    """This machine's id, None if it has none."""
    with contextlib.suppress(OSError):
        return MachineId(MACHINE_ID.read_text().strip()) or None
    return None


class Errands:
    """Runs commands on machines; one SSH connection serves all that go to the same machine."""

    def __init__(
        self,
        settings: Settings,
        tunnel: "Tunnel | None",
        stack: AsyncExitStack,
        *,
        ssh_port: int | None,
        here: MachineId | None,
    ) -> None:
        self._settings = settings
        self._tunnel = tunnel
        self._stack = stack
        self._ssh_port = ssh_port
        self._here = here
        self._lines: dict[MachineId, MachineLine] = {}
        self._connecting = asyncio.Lock()

    async def run(
        self, machine: Machine, argv: Sequence[str], *, output: Output | None = None
    ) -> int:
        """Run the command there and return its exit status; `output` takes its stdout instead.

        Raises FleetError if there is no way there, NoPlace for a machine without an address.
        """
        if machine.id == self._here:
            return await run_here(argv, output)
        from cli.tunnel.terminal import Streams

        line = await self._line(machine)
        if output is None and Streams().are_terminal:
            return await line.run(shlex.join(argv))
        streams = Streams(stdin=None)
        return await line.run(shlex.join(argv), streams=streams, output=output)

    async def _line(self, machine: Machine) -> "MachineLine":
        """The connection to the machine; one is opened at a time, for each may ask a question."""
        from cli.tunnel import connect_machine

        async with self._connecting:
            if machine.id not in self._lines:
                way = connect_machine(
                    self._settings, address_of(machine), self._ssh_port, via=self._tunnel
                )
                self._lines[machine.id] = await self._stack.enter_async_context(way)
        return self._lines[machine.id]


async def run_here(argv: Sequence[str], output: Output | None = None) -> int:
    """Run a command of this machine on the terminal, or with its stdout to `output`."""
    stdout = None if output is None else asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdout=stdout)
    except FileNotFoundError as error:
        raise NotFound(f"{argv[0]} is not installed on this machine") from error
    try:
        if process.stdout is not None and output is not None:
            while data := await process.stdout.read(_CHUNK):
                await output(data)
        status = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()
        raise
    return status if status >= 0 else 128 - status


def prefixed(prefix: str, write: Callable[[bytes], Awaitable[None]]) -> Output:
    """An output that puts the prefix before every line, and writes whole lines only."""
    kept = bytearray()
    head = prefix.encode()

    async def take(data: bytes) -> None:
        kept.extend(data)
        whole, newline, rest = bytes(kept).rpartition(b"\n")
        kept[:] = rest
        if newline:
            await write(b"".join(head + line + b"\n" for line in whole.split(b"\n")))

    return take
