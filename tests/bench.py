"""`make bench`: fleet's promised numbers, measured in one run on booted machines.

Prints a table and writes it into docs/performance.md between its markers. It never fails for
being slow: a number that misses its promise is shown as such, and people read it.
"""

import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from cli.sandbox import host
from cli.sandbox.cluster import Sandbox
from fleet.api.client import FleetClient
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import UnitChange
from fleet.states import TargetState
from fleet.unit import parse_unit

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
SLEEPER = "[Service]\nExecStart=/bin/sleep 100000\n"
STARTS = 15
FAILOVERS = 3
SANDBOXES = 3
MANY = 300
IDLE_S = 20.0
DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table; `promise` and `original` are as the documents have them."""

    what: str
    measured: str
    promise: str
    original: str


def main() -> int:
    if os.geteuid() != 0:
        click.echo("make bench boots real machines, which takes root", err=True)
        return 1
    figures: list[Figure] = []
    for figure in _measure():
        click.echo(f"{figure.what}: {figure.measured} (promise {figure.promise or '-'})")
        figures.append(figure)
    table = render(figures)
    click.echo(f"\n{table}")
    _write(table)
    return 0


def render(figures: Sequence[Figure]) -> str:
    """The table in Markdown."""
    rows = ["| what | measured | promised | fleet 1.0 |", "|---|---|---|---|"]
    rows += [f"| {f.what} | {f.measured} | {f.promise} | {f.original} |" for f in figures]
    return "\n".join(rows)


def _measure() -> Iterator[Figure]:
    ups = [_timed(_sandbox_up) for _ in range(SANDBOXES)]
    with Sandbox.up("bench") as sandbox:
        yield Figure("sandbox of three machines ready", _spread(ups), "≤ 5 s", "")
        yield from _commands(sandbox)
        yield from _many(sandbox)
    yield from _failovers()


def _sandbox_up() -> None:
    Sandbox.up("bench").down()


def _commands(sandbox: Sandbox) -> Iterator[Figure]:
    machine = sandbox.machines[0]
    for index in range(STARTS * 2):
        sandbox.run("fleet1", ["tee", f"/root/b{index}.service"], stdin=SLEEPER, check=True)
    local = [
        _timed(lambda i=i: sandbox.run("fleet1", _fleetctl("start", f"/root/b{i}"), check=True))  # type: ignore[misc]
        for i in range(STARTS)
    ]
    yield Figure("`fleetctl start` of one unit, locally", _spread(local), "≤ 0.5 s", "4.0-6.8 s")
    tunnel = ["--ssh-config", str(sandbox.ssh_config), "--tunnel", machine.address]
    for index in range(STARTS, STARTS * 2):
        Path(f"/run/fleet-sandbox/bench/b{index}.service").write_text(SLEEPER)
    through = [
        _timed(lambda i=i: _in_hub(sandbox, *tunnel, "start", f"/run/fleet-sandbox/bench/b{i}"))  # type: ignore[misc]
        for i in range(STARTS, STARTS * 2)
    ]
    yield Figure("`fleetctl start` through a tunnel", _spread(through), "≤ 1 s", "")
    for verb in ("list-machines", "list-units", "version"):
        times = [
            _timed(lambda v=verb: sandbox.run("fleet1", _fleetctl(v), check=True))  # type: ignore[misc]
            for _ in range(STARTS)
        ]
        yield Figure(f"`fleetctl {verb}`", _spread(times), "≤ 0.35 s", "")


def _many(sandbox: Sandbox) -> Iterator[Figure]:
    names = [UnitName(f"many@{index}.service") for index in range(MANY)]
    took_s = asyncio.run(_start_all(sandbox.socket("fleet1"), names))
    yield Figure(f"{MANY} units started until all are active", f"{took_s:.1f} s", "", "")
    listed = [
        _timed(lambda: sandbox.run("fleet1", _fleetctl("list-units"), check=True)) for _ in range(5)
    ]
    yield Figure(f"`fleetctl list-units` of {MANY + STARTS * 2} units", _spread(listed), "", "")
    time.sleep(3.0)
    before = {m.name: _cpu_s(sandbox, m.name) for m in sandbox.machines}
    time.sleep(IDLE_S)
    idle = [100 * (_cpu_s(sandbox, name) - spent) / IDLE_S for name, spent in before.items()]
    yield Figure(
        f"fleetd idle with {(MANY + STARTS * 2) // 3} units a machine, of one core",
        f"{statistics.median(idle):.1f} % (leader {max(idle):.1f} %)",
        "",
        "47 % (333 units)",
    )
    memory = [_memory_mb(sandbox, m.name) for m in sandbox.machines]
    yield Figure("fleetd resident, the same", f"{max(memory):.0f} MB", "≤ 60 MB", "24 MB")


def _failovers() -> Iterator[Figure]:
    times = []
    for _ in range(FAILOVERS):
        with Sandbox.up("bench") as sandbox:
            times.append(asyncio.run(_failover(sandbox)))
    yield Figure("power cut until active elsewhere", _spread(times), "≤ 8 s", "21.2 s")


async def _start_all(socket: Path, names: Sequence[UnitName]) -> float:
    file = parse_unit(SLEEPER)
    async with FleetClient(f"unix://{socket}") as client, asyncio.timeout(DEADLINE_S):
        began = time.monotonic()
        await client.apply(
            [UnitChange(name=n, file=file, target=TargetState.LAUNCHED) for n in names]
        )
        waiting = set(names)
        async for report in client.watch(names):
            if any(state.is_up for state in report.states):
                waiting.discard(report.name)
            if not waiting:
                break
        return time.monotonic() - began


async def _failover(sandbox: Sandbox) -> float:
    unit = UnitName("precious.service")
    await _start_all(sandbox.socket("fleet1"), [unit])
    async with FleetClient(f"unix://{sandbox.socket('fleet1')}") as client:
        home = (await client.unit(unit)).machine
    victim = next(machine for machine in sandbox.machines if machine.id == home)
    other = next(machine for machine in sandbox.machines if machine.id != home)
    async with (
        FleetClient(f"unix://{sandbox.socket(other.name)}") as client,
        asyncio.timeout(DEADLINE_S),
    ):
        began = time.monotonic()
        await asyncio.to_thread(sandbox.kill, victim.name)
        return await _up_elsewhere(client, unit, MachineId(victim.id)) - began


async def _up_elsewhere(client: FleetClient, unit: UnitName, victim: MachineId) -> float:
    async for report in client.watch([unit]):
        if any(state.is_up and state.machine != victim for state in report.states):
            return time.monotonic()
    raise RuntimeError("the stream of reports ended")


def _fleetctl(*words: str) -> list[str]:
    return [f"{sys.prefix}/bin/fleetctl", *words]


def _in_hub(sandbox: Sandbox, *words: str) -> None:
    """Run fleetctl on the sandbox's network, as a workstation beside the machines would."""
    hub = sandbox.ssh_config.parent / "net" / "hub"
    host.run(["nsenter", f"--net={hub}", "--", *_fleetctl(*words)])


def _main_pid(sandbox: Sandbox, machine: str) -> str:
    show = ["systemctl", "show", "--value", "--property=MainPID", "fleet.service"]
    return sandbox.run(machine, show, check=True).stdout.strip()


def _cpu_s(sandbox: Sandbox, machine: str) -> float:
    """User and system time of fleetd so far; proc(5), fields 14 and 15 of stat."""
    path = f"/proc/{_main_pid(sandbox, machine)}/stat"
    fields = sandbox.run(machine, ["cat", path], check=True).stdout.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(sandbox: Sandbox, machine: str) -> float:
    path = f"/proc/{_main_pid(sandbox, machine)}/status"
    status = sandbox.run(machine, ["cat", path], check=True).stdout
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1000


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _spread(times_s: Sequence[float]) -> str:
    median = statistics.median(times_s)
    return f"{median:.2f} s ({min(times_s):.2f}-{max(times_s):.2f}, {len(times_s)} runs)"


def _write(table: str) -> None:
    where = f"{os.cpu_count()} cores, Linux {platform.release().partition('-')[0]}"
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    stamp = time.strftime("%Y-%m-%d", time.gmtime())
    PAGE.write_text(f"{head}{BEGIN}\nMeasured {stamp} on {where}.\n\n{table}\n{END}{tail}")
    click.echo(f"written to {PAGE}")


if __name__ == "__main__":
    sys.exit(main())
