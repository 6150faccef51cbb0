"""fleetctl ssh, status and journal as their users run them, through a tunnel and without."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.api.server import ApiServer
from fleet.cluster import Assignment, Refusal
from fleet.keys import Keys
from fleet.machine import Machine, MachineId, encode_machine
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState, UnitState, encode_state
from fleet.store.memory import MemoryStore
from fleet.store.port import Put
from fleet.unit import parse_unit

if TYPE_CHECKING:
    from tests.integration.ssh.conftest import Sshd, StartSshd, World

pytestmark = pytest.mark.realtime
FLEETCTL = Path(sys.executable).parent / "fleetctl"
A, B = MachineId("aaaa0000" * 4), MachineId("bbbb0000" * 4)
WEB, EVERYWHERE = UnitName("web.service"), UnitName("everywhere.service")
STUCK = UnitName("stuck.service")
FILE = parse_unit("[Service]\nExecStart=/bin/true\n")
GLOBAL = parse_unit("[Service]\nExecStart=/bin/true\n[X-Fleet]\nGlobal=true\n")
# What the machines have for systemctl and journalctl: it says how it was called.
STAND_IN = '#!/bin/sh\necho "${0##*/} $*"\nexit "$(cat %s/exit)"\n'


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Scene:
    """Two machines behind one sshd, and a fleetd behind it too."""

    world: "World"
    sshd: "Sshd"
    endpoint: str

    def exit_with(self, status: int) -> None:
        (self.world.folder / "exit").write_text(str(status))

    async def fleetctl(self, *argv: str, tunnel: bool = True, stdin: str = "") -> Outcome:
        flags = ["--ssh-config", str(self.world.config), "--no-strict-host-key-checking"]
        flags += ["--ssh-username", "root", "--endpoint", self.endpoint]
        flags += ["--tunnel", self.sshd.address] if tunnel else []
        process = await asyncio.create_subprocess_exec(
            str(FLEETCTL),
            *flags,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": str(self.world.folder)},
        )
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Outcome(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def scene(world: "World", start_sshd: "StartSshd") -> AsyncIterator[Scene]:
    programs = world.folder / "programs"
    programs.mkdir()
    for name in ("systemctl", "journalctl"):
        program = programs / name
        program.write_text(STAND_IN % world.folder)
        program.chmod(0o755)
    sshd = start_sshd(path=f"{programs}:{os.defpath}")
    world.configure(f"Host 127.0.0.1\n Port {sshd.port}")
    registry = Registry(MemoryStore(), Keys())
    await fill(registry)
    server = ApiServer(registry, version="2.0.0", hostname="here")
    path = world.folder / "fleet.sock"
    await server.start(unix_path=path)
    (world.folder / "exit").write_text("0")
    yield Scene(world, sshd, f"unix://{path}")
    await server.stop()
    await registry.store.close()


async def fill(registry: Registry) -> None:
    files = {WEB: FILE, EVERYWHERE: GLOBAL, STUCK: FILE}
    changes = [
        UnitChange(name=name, file=file, target=TargetState.LAUNCHED)
        for name, file in files.items()
    ]
    await registry.apply(changes, by="test")
    records = (await registry.cluster()).units
    puts = []
    for machine in (A, B):
        document = encode_machine(Machine(id=machine, address="127.0.0.1"))
        puts.append(Put(registry.keys.machine(machine), json.dumps(document).encode()))
    for name, machine in ((WEB, A), (EVERYWHERE, A), (EVERYWHERE, B)):
        record = records[name]
        row = Assignment(
            unit=name,
            machine=machine,
            hash=record.hash,
            file=record.file,
            target=TargetState.LAUNCHED,
        )
        state = UnitState(
            unit=name,
            machine=machine,
            hash=record.hash,
            current=TargetState.LAUNCHED,
            load="loaded",
            active="active",
            sub="running",
        )
        key = registry.keys.state(machine, name)
        puts += [registry.assignment_put(row), Put(key, json.dumps(encode_state(state)).encode())]
    refusal = Refusal(unit=STUCK, reasons={A: "it has no tape", B: "it has no tape"})
    await registry.store.commit([], [*puts, registry.refusal_put(refusal)])


@pytest.mark.parametrize("tunnel", [pytest.param(True, id="tunnel"), pytest.param(False, id="no")])
async def test_ssh_runs_a_command_where_the_unit_is(
    world: "World", start_sshd: "StartSshd", tunnel: bool
) -> None:
    async with scene(world, start_sshd) as here:
        ran = await here.fleetctl(
            "ssh", "web", "echo", "-l;", "cat;", "exit", "3", tunnel=tunnel, stdin="in"
        )
    assert ran == Outcome(3, "-l\nin", "")


async def test_ssh_opens_a_shell(world: "World", start_sshd: "StartSshd") -> None:
    async with scene(world, start_sshd) as here:
        ran = await here.fleetctl("ssh", "--machine", "bb", stdin="echo $((40+2)); exit 6\n")
    assert (ran.status, ran.out) == (6, "42\n")


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("nothing", "ls"), "could not find matching unit or machine"),
        ((), "one machine or unit must be provided"),
        (("--machine", "cc", "ls"), "machine does not exist"),
        (("--unit", "cc", "ls"), "unit does not exist"),
        (("--unit", "everywhere", "ls"), "global units unsupported"),
        (("stuck",), "stuck.service is on no machine now"),
    ],
)
async def test_ssh_to_nowhere_is_told(
    world: "World", start_sshd: "StartSshd", argv: tuple[str, ...], problem: str
) -> None:
    async with scene(world, start_sshd) as here:
        ran = await here.fleetctl("ssh", *argv, tunnel=False)
    assert ran.status == 1
    assert ran.err.startswith(f"Unable to proceed: {problem}")


async def test_status_is_systemctls(world: "World", start_sshd: "StartSshd") -> None:
    async with scene(world, start_sshd) as here:
        ran = await here.fleetctl("status", "web", "web.service", "everywhere")
        assert ran.status == 0
        assert ran.out.splitlines() == [
            "systemctl status --no-pager -l -- web.service",
            "",
            "==> everywhere.service on aaaa0000.../127.0.0.1 <==",
            "systemctl status --no-pager -l -- everywhere.service",
            "",
            "==> everywhere.service on bbbb0000.../127.0.0.1 <==",
            "systemctl status --no-pager -l -- everywhere.service",
        ]
        here.exit_with(3)
        ran = await here.fleetctl("status", "web", "everywhere", tunnel=False)
        assert (ran.status, len(ran.out.splitlines())) == (3, 1)
        ran = await here.fleetctl("status", "every*", "--machine", "bb")
        assert (ran.status, len(ran.out.splitlines())) == (3, 1)


async def test_status_of_what_is_nowhere_says_why(world: "World", start_sshd: "StartSshd") -> None:
    async with scene(world, start_sshd) as here:
        stuck = await here.fleetctl("status", "stuck", "web", tunnel=False)
        missing = await here.fleetctl("status", "missing", tunnel=False)
    assert (stuck.status, stuck.out) == (3, "")
    assert stuck.err.splitlines() == [
        "Unit stuck.service does not appear to be loaded.",
        "No machine takes it:",
        "  aaaa0000.../127.0.0.1  it has no tape",
        "  bbbb0000.../127.0.0.1  it has no tape",
    ]
    assert missing == Outcome(4, "", "Unit missing.service does not exist.\n")


async def test_journal_is_journalctls(world: "World", start_sshd: "StartSshd") -> None:
    async with scene(world, start_sshd) as here:
        one = await here.fleetctl("journal", "--lines", "3", "-o", "cat", "web")
        said = "journalctl --unit web.service --no-pager -n 3 --output cat\n"
        assert one == Outcome(0, said, "")
        here.exit_with(4)
        both = await here.fleetctl("journal", "-f", "everywhere", tunnel=False)
    said = "journalctl --unit everywhere.service --no-pager -n 10 --output short -f"
    assert both.status == 4
    assert sorted(both.out.splitlines()) == [f"aaaa0000: {said}", f"bbbb0000: {said}"]


async def test_ssh_that_fails_under_status_and_journal_is_255(
    world: "World", start_sshd: "StartSshd"
) -> None:
    async with scene(world, start_sshd) as here:
        for verb in ("status", "journal"):
            ran = await here.fleetctl(verb, "--ssh-port", "1", "web")
            assert ran.status == 255
            assert "127.0.0.1:1" in ran.err
        ran = await here.fleetctl("ssh", "--ssh-port", "1", "web", "ls")
        assert ran.status == 1


async def test_unreachable_bastion_is_one_sentence(world: "World") -> None:
    process = await asyncio.create_subprocess_exec(
        *(FLEETCTL, "--tunnel", "127.0.0.1:1", "--ssh-config", world.config, "list-machines"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.decode() == (
        "127.0.0.1:1 refuses connections: check that sshd runs there, and its port\n"
    )
