"""The promised numbers of reliability, measured on booted machines with the default settings.

`make reliability` measures all of them. `.venv/bin/python -P -m tests.faults.numbers` takes
`--figure NAME`, as often as wanted, and `--runs N`. It prints a table and puts its rows into
docs/reliability.md between the markers there. It never fails for being slow: people read what
it says.
"""

import asyncio
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import click

from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import Kind
from fleet.api.client import FleetClient
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import UnitChange
from fleet.states import TargetState
from fleet.unit import parse_unit
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator
from tests.faults.stage import Outcome, Stage
from tests.faults.upgrade import replace_fleetd

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
HEAD = "| what | measured | promised | on |\n|---|---|---|---|"
RUNS = 20
UNITS = 6
OUTAGE_S = 600.0
DEADLINE_S = 60.0
_FILE = parse_unit("[Service]\nExecStart=/bin/sleep 100000\n")

Fault = Callable[[Sandbox, str], object]


class Bench:
    """One sandbox of three machines, on which one machine after the other is lost."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self._sandbox = sandbox
        self._machines = [node.name for node in sandbox.spec.of_kind(Kind.MACHINE)]
        self._operator = Operator(sandbox=sandbox, folder=folder)
        self._round = 0

    def failover_s(self, lose: Fault, *, of_leader: bool) -> float:
        """From the fault until all units of the lost machine are active elsewhere."""
        asyncio.run(self._start_others())
        leader = self._operator.leader()
        victim = leader if of_leader else next(m for m in self._machines if m != leader)
        witness = next(m for m in self._machines if m != victim)
        took_s = asyncio.run(self._lose(lose, victim, witness))
        self._mend()
        return took_s

    def takeover_s(self) -> float:
        """From the death of the leader's fleetd until another engine leads."""
        leader = self._operator.leader()
        began_us = time.time_ns() // 1000
        self._sandbox.kill(leader)
        taken_us = eventually(lambda: self._taken_over_us(began_us, leader))
        self._mend()
        return (taken_us - began_us) / 1e6

    def _taken_over_us(self, began_us: int, old: str) -> int:
        """When another engine said that it leads, 0 if none has yet."""
        argv = ["journalctl", "--unit=fleet", "--output=short-unix", "--no-pager"]
        argv.append(f"--since=@{began_us // 1_000_000}")
        said = "".join(self._sandbox.run(m, argv).stdout for m in self._machines if m != old)
        moments = re.findall(r"(?m)^(\d+\.\d+) .* leads the cluster$", said)
        return min((us for m in moments if (us := int(float(m) * 1e6)) > began_us), default=0)

    async def _start_others(self) -> None:
        """Start two units for each machine in place of those of the last time."""
        old, self._round = _names(self._round), self._round + 1
        names = _names(self._round)
        changes = [UnitChange(name=n, file=_FILE, target=TargetState.LAUNCHED) for n in names]
        async with self._api(self._machines[0]) as client, asyncio.timeout(DEADLINE_S):
            if self._round > 1:
                await asyncio.gather(*(client.destroy(name) for name in old))
            await client.apply(changes)
            await _until_up(client, names)

    async def _lose(self, lose: Fault, victim: str, witness: str) -> float:
        victim_id = MachineId(self._sandbox.machine(victim).id)
        async with self._api(witness) as client, asyncio.timeout(DEADLINE_S):
            names = _names(self._round)
            states = [state for state in await client.states() if state.unit in names]
            moved = [state.unit for state in states if state.machine == victim_id]
            assert moved, f"no unit is on {victim}"
            began_s = time.monotonic()
            await asyncio.to_thread(lose, self._sandbox, victim)
            await _until_up(client, moved, not_on=victim_id)
            return time.monotonic() - began_s

    def _api(self, machine: str) -> FleetClient:
        return FleetClient(f"unix://{self._sandbox.socket(machine)}")

    def _mend(self) -> None:
        self._sandbox.heal(*self._machines)
        self._sandbox.boot(*self._machines)
        self._sandbox.wait_until_one_cluster()


def _names(number: int) -> tuple[UnitName, ...]:
    """The units of a round."""
    return tuple(UnitName(f"precious-{number}@{n}.service") for n in range(UNITS))


async def _until_up(
    client: FleetClient, names: Iterable[UnitName], *, not_on: MachineId | None = None
) -> None:
    waiting = set(names)
    async for report in client.watch(list(waiting)):
        if any(state.is_up and state.machine != not_on for state in report.states):
            waiting.discard(report.name)
        if not waiting:
            return


# The figures: each gives what was measured.


def _failover(lose: Fault, *, of_leader: bool = False) -> Callable[[int], str]:
    def measure(runs: int) -> str:
        return _on_bench(runs, lambda bench: bench.failover_s(lose, of_leader=of_leader))

    return measure


def _takeover(runs: int) -> str:
    return _on_bench(runs, Bench.takeover_s)


def _on_bench(runs: int, measure: Callable[[Bench], float]) -> str:
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Sandbox.up(f"n{os.getpid()}") as sandbox:
        bench = Bench(sandbox, Path(folder))
        for _ in range(runs):
            times.append(measure(bench))
            click.echo(f"  {times[-1]:.2f} s")
    median = statistics.median(times)
    return f"median {median:.2f} s, slowest {max(times):.2f} s, {len(times)} runs"


def _upgrade(_: int) -> str:
    def fault(stage: Stage) -> None:
        for version in ("2.0.1+old", "2.0.2+new"):
            for machine in stage.machines:
                replace_fleetd(stage.operator.sandbox, machine, version)

    return _on_stage(fault, asking=True)


def _outage(_: int) -> str:
    def fault(stage: Stage) -> None:
        stage.operator.sandbox.kill(*stage.members)
        time.sleep(OUTAGE_S)
        stage.operator.sandbox.boot(*stage.members)

    return _on_stage(fault, asking=False)


def _on_stage(fault: Callable[[Stage], None], *, asking: bool) -> str:
    told: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, Sandbox.up(f"n{os.getpid()}") as sandbox:
        operator = Operator(sandbox=sandbox, folder=Path(folder))
        stage = Stage(operator=operator, tell=told.append)
        stage.set_up()
        with stage.trial(asking=asking):
            fault(stage)
    (outcome,) = told
    return (
        f"{len(outcome.wrong)} violations on {outcome.units} units, "
        f"in order after {outcome.in_order_s:.1f} s"
    )


def _cut_power(sandbox: Sandbox, machine: str) -> None:
    sandbox.kill(machine)


def _cut_link(sandbox: Sandbox, machine: str) -> None:
    sandbox.cut(machine)


_SOON = "≤ 8 s, median ≤ 7 s"
_FIGURES: Mapping[str, tuple[str, str, Callable[[int], str]]] = {
    "power": ("power cut until active elsewhere", _SOON, _failover(_cut_power)),
    "leader": (
        "the same, of the engine leader's machine",
        _SOON,
        _failover(_cut_power, of_leader=True),
    ),
    "link": ("link silently cut until active elsewhere", _SOON, _failover(_cut_link)),
    "engine": ("power cut of the engine leader until another leads", "≤ 5 s", _takeover),
    "upgrade": ("fleetd upgraded in place on three machines, twice", "0 units touched", _upgrade),
    "outage": (
        f"etcd gone for {OUTAGE_S / 60:.0f} minutes",
        "0 units touched, in order within 10 s",
        _outage,
    ),
}


def render(rows: Sequence[str], page: str) -> str:
    """The page with these rows in its table, each in place of the one about the same thing."""
    head, _, rest = page.partition(BEGIN)
    table, _, tail = rest.partition(END)
    kept = {_first_cell(row): row for row in table.strip().splitlines()[2:]}
    kept |= {_first_cell(row): row for row in rows}
    order = [what for what, _, _ in _FIGURES.values()]
    lines = sorted(kept.values(), key=lambda row: order.index(_first_cell(row)))
    return "\n".join([f"{head}{BEGIN}", HEAD, *lines, f"{END}{tail}"])


def _first_cell(row: str) -> str:
    return row.strip("| ").split(" | ")[0]


@click.command()
@click.option("--figure", "chosen", type=click.Choice(list(_FIGURES)), multiple=True)
@click.option("--runs", type=int, default=RUNS)
def main(chosen: Sequence[str], runs: int) -> None:
    """Measure the figures (all, if none is named), and write them down."""
    where = f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} cores"
    rows = []
    for name in chosen or _FIGURES:
        what, promise, measure = _FIGURES[name]
        click.echo(f"{what} (promised: {promise})")
        rows.append(f"| {what} | {measure(runs)} | {promise} | {where} |")
        click.echo(rows[-1])
        PAGE.write_text(render(rows, PAGE.read_text()))
    click.echo(
        f"\n{HEAD}\n" + "\n".join(rows) + f"\n\nLinux {platform.release()}; written to {PAGE}"
    )


if __name__ == "__main__":
    main()
