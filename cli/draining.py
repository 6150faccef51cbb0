"""Follows the units of machines that are drained until they run elsewhere, or cannot.

What is judged is the machine: a unit has left when nothing of it is there any more, so that the
machine may be switched off.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cli.carrying import say, warn
from cli.following import Judge, follow
from cli.selection import is_global
from cli.tables import legend
from cli.waiting import (
    JOB_FOLLOWS_S,
    LEADERLESS_STANDS_S,
    REFUSAL_STANDS_S,
    Failed,
    Pending,
    Reached,
    Verdict,
    refusal_lines,
)
from fleet.api.reports import UnitReport
from fleet.api.schema import ListedState, Unit
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.states import TargetState

if TYPE_CHECKING:
    from fleet.api.client import FleetClient

Leavers = dict[UnitName, MachineId]


def judge_leaving(report: UnitReport, machine: MachineId) -> Verdict:
    """Whether the unit has left the machine, on its way to another one if it is still wanted."""
    verdict = _judge(report, machine)
    if isinstance(verdict, Pending) and report.leaderless:
        lines = (f"Unit {report.name} stays where it is, because no engine leads the cluster",)
        return Failed(lines, LEADERLESS_STANDS_S)
    return verdict


def _judge(report: UnitReport, machine: MachineId) -> Verdict:
    where = _legend(report, machine)
    row = next((row for row in report.assignments if row.machine == machine), None)
    if row is not None and row.leaving:
        return _judge_arrival(report, where)
    if row is not None:
        if not report.refusals:
            return Pending("no other machine has been chosen for it yet")
        stays = f"Unit {report.name} stays on {where}, because no other machine can take it:"
        return Failed((stays, *refusal_lines(report)), REFUSAL_STANDS_S)
    if any(state.machine == machine for state in report.states):
        return Pending(f"it stops on {where}")
    if report.fence:
        return Pending(report.fence)
    if report.machine is None:
        return Reached(f"Unit {report.name} is not wanted on {where} any more")
    return _judge_start(report, report.machine, where)


def _judge_start(report: UnitReport, home: MachineId, where: str) -> Verdict:
    """A unit that had to stop first, being fenced, has yet to start in its new place."""
    there = _legend(report, home)
    if report.desired is TargetState.LOADED:
        return Reached(f"Unit {report.name} loaded on {there}")
    state = next((state for state in report.states if state.machine == home), None)
    if state is None or state.current is not TargetState.LAUNCHED:
        return Pending(f"it starts on {there}")
    if state.has_failed:
        words = f"and fails on {there}: fleetctl status {report.name}"
        return Reached(f"Unit {report.name} has left {where}, {words}")
    return Reached(f"Unit {report.name} launched on {there}")


def _judge_arrival(report: UnitReport, where: str) -> Verdict:
    if report.machine is None:
        return Pending("no other machine has been chosen for it yet")
    there = _legend(report, report.machine)
    for state in report.states:
        if state.machine == report.machine and state.has_failed:
            stays = f"Unit {report.name} stays on {where}, because it fails on {there}:"
            cause = state.told_health or state.result or state.load
            words = f"    {cause}: fleetctl status {report.name}"
            lines = (stays, *(f"    {line}" for line in state.journal), words)
            return Failed(lines, JOB_FOLLOWS_S)
    return Pending(f"it goes when it is up on {there}")


def _legend(report: UnitReport, machine: MachineId) -> str:
    return legend(machine, report.addresses.get(machine, ""))


def find_leavers(
    units: Iterable[Unit], states: Iterable[ListedState], machines: Iterable[MachineId]
) -> Leavers:
    """The units that are to leave the machines, each with its machine; global units stay."""
    drained = set(machines)
    moving = {unit.name: unit for unit in units if not is_global(unit)}
    found = {s.unit: s.machine for s in states if s.unit in moving and s.machine in drained}
    found |= {unit.name: unit.machine for unit in moving.values() if unit.machine in drained}
    return {name: found[name] for name in sorted(found)}


async def drain(
    client: "FleetClient", machines: Sequence[Machine], *, why: str, limit_s: float | None
) -> int:
    """Have the machines drained, and wait until all has left them that can; the exit status."""
    verdicts: dict[UnitName, Verdict] = {}
    leavers: Leavers = {}
    coming = await _newcomers(client, machines, leavers)
    for machine in machines:
        await client.cordon(machine.id, why=why, drain=True)
    while coming := coming | await _newcomers(client, machines, leavers | coming):
        leavers |= coming
        verdicts |= await follow_leavers(client, coming, judge=judge_leaving, limit_s=limit_s)
        coming = {}
    for machine in machines:
        mine = {name: v for name, v in verdicts.items() if leavers[name] == machine.id}
        _tell(machine, mine)
    return 0 if all(isinstance(verdict, Reached) for verdict in verdicts.values()) else 1


async def _newcomers(client: "FleetClient", machines: Sequence[Machine], known: Leavers) -> Leavers:
    """Who is on the machines and not known: one may have come at the very moment of the drain."""
    units, states = await client.units(), await client.states()
    found = find_leavers(units, states, (machine.id for machine in machines))
    return {name: machine for name, machine in found.items() if name not in known}


async def follow_leavers(
    client: "FleetClient",
    leavers: Leavers,
    *,
    judge: Judge[MachineId],
    limit_s: float | None,
) -> Mapping[UnitName, Verdict]:
    """The verdict of every unit on leaving its machine, each told as soon as it stands."""

    def tell(name: UnitName, verdict: Reached | Failed) -> None:
        if isinstance(verdict, Reached):
            say([verdict.line])
        else:
            warn(verdict.lines)

    verdicts = await follow(client, leavers, settled=tell, judge=judge, limit_s=limit_s)
    for name, verdict in verdicts.items():
        if isinstance(verdict, Pending):
            warn([f"Unit {name} has not left within the time: {verdict.reason}"])
    return verdicts


def _tell(machine: Machine, verdicts: Mapping[UnitName, Verdict]) -> None:
    gone = sum(isinstance(verdict, Reached) for verdict in verdicts.values())
    where = legend(machine.id, machine.address)
    if gone == len(verdicts):
        say([f"Drained {where}: {count_units(gone)} left it"])
    else:
        stay = len(verdicts) - gone
        warn([f"Not drained {where}: {count_units(gone)} left it, {stay} still there"])


def count_units(count: int) -> str:
    return f"{count} unit{'' if count == 1 else 's'}"
