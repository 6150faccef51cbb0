"""Carries out the plans of verbs: reads stored units, sends changes, waits, and tells the outcome.

Results go to stdout, everything else to stderr, in fleet 1.0's words where it had them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import click

from cli.following import Watched, follow
from cli.plans import Plan
from cli.selection import check_arguments, is_pattern, named_units, select
from cli.together import together
from cli.waiting import Aim, Failed, Goal, Pending, Reached, Verdict, judge
from fleet.api.schema import Unit
from fleet.change import UnitChange
from fleet.errors import FleetError, NotFound
from fleet.names import UnitName

# fleet 1.0 counted its patience in attempts of up to 2 s each.
ATTEMPT_S = 2.0
# Up to this many units are asked for one by one rather than by listing the cluster.
_FEW = 8
_GERUNDS = {
    "destroy": "destroying",
    "load": "loading",
    "restart": "restarting",
    "start": "starting",
    "stop": "stopping",
    "submit": "creating",
    "unload": "unloading",
}


class Cluster(Watched, Protocol):
    """The part of the API's client that the verbs need."""

    async def units(
        self, *, texts: bool = False, contents: bool = True, placed: bool = True
    ) -> Sequence[Unit]: ...

    async def unit(self, name: UnitName) -> Unit: ...

    async def apply(self, changes: Sequence[UnitChange]) -> Mapping[UnitName, bool]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Whether and how long to wait: `attempts` of 2 s, 0 without limit."""

    block: bool = True
    attempts: int = 0


class CommandFailed(FleetError):
    """What a verb could not do, in a sentence that names the verb."""


# Reading


async def each_unit(client: Cluster, names: Collection[UnitName]) -> dict[UnitName, Unit]:
    """Those of the units that exist, with their authors' text, asked for one by one."""

    async def find(name: UnitName) -> Unit | None:
        try:
            return await client.unit(name)
        except NotFound:
            return None

    found = await together(find(name) for name in names)
    return {unit.name: unit for unit in found if unit is not None}


async def stored_units(
    client: Cluster,
    names: Collection[UnitName],
    *,
    texts: bool = False,
    contents: bool = True,
    placed: bool = True,
) -> dict[UnitName, Unit]:
    """Those of the units that exist, by name; what may be left out is as in `FleetClient.units`."""
    if len(names) <= _FEW:
        return await each_unit(client, names)
    wanted = set(names)
    if contents:
        # New units are many and stored ones few, or the other way round: the contents of all may be
        # a great deal, and whether any are wanted is told by much less.
        known = {unit.name for unit in await client.units(contents=False, placed=False)}
        there = [name for name in names if name in known]
        if len(there) <= _FEW:
            return await each_unit(client, there)
    stored = await client.units(texts=texts, contents=contents, placed=placed)
    return {unit.name: unit for unit in stored if unit.name in wanted}


async def selected_units(
    client: Cluster,
    arguments: Sequence[str],
    *,
    templates: bool = False,
    contents: bool = False,
    placed: bool = True,
) -> list[Unit]:
    """The stored units that the arguments mean, templates by pattern only if they are wanted.

    What may be left out of them is as in `FleetClient.units`. Raises InvalidRequest for malformed
    arguments.
    """
    check_arguments(arguments)
    if any(is_pattern(argument) for argument in arguments):
        units = await client.units(contents=contents, placed=placed)
        stored = {unit.name: unit for unit in units}
    else:
        names = named_units(arguments)
        stored = await stored_units(client, names, contents=contents, placed=placed)
    return [stored[name] for name in select(arguments, list(stored), templates=templates)]


# Acting


async def send(client: Cluster, changes: Sequence[UnitChange], *, verb: str) -> None:
    """Have all changes made, in one request; raises CommandFailed with the verb and the reason."""
    if not changes:
        return
    try:
        await client.apply(changes)
    except FleetError as error:
        creates = any(change.file is not None for change in changes)
        what = "creating" if creates else _GERUNDS[verb]
        raise CommandFailed(f"Error {what} units: {error}") from error


async def settle(client: Cluster, plan: Plan, *, verb: str, patience: Patience) -> bool:
    """Wait for the units of a plan that was sent, telling of each; whether all came to their goal.

    With no patience, tell which were set going.
    """
    say(f"Triggered global unit {name} {verb}" for name in plan.triggered)
    if not patience.block:
        say(f"Triggered unit {name} {verb}" for name in plan.loud)
        return True
    verdicts = await wait(client, plan.goals, attempts=patience.attempts)
    return all(isinstance(verdict, Reached) for verdict in verdicts.values())


async def wait(
    client: Cluster, goals: Mapping[UnitName, Goal], *, attempts: int
) -> Mapping[UnitName, Verdict]:
    """Wait for the goals, telling of each unit that comes to its own, fails, or takes too long."""

    def tell(name: UnitName, verdict: Reached | Failed) -> None:
        if isinstance(verdict, Failed):
            warn(verdict.lines)
        elif not goals[name].quiet:
            say([verdict.line])

    limit_s = attempts * ATTEMPT_S if attempts > 0 else None
    verdicts = await follow(client, goals, settled=tell, judge=judge, limit_s=limit_s)
    for name, verdict in verdicts.items():
        if isinstance(verdict, Pending):
            state = "loaded" if goals[name].aim is Aim.STOPPED else goals[name].aim
            timeout = f"timed out waiting for unit {name} to report state {state}"
            warn([f"Error waiting for units: {timeout}", f"    {verdict.reason}"])
    return verdicts


async def take_down(
    client: Cluster, plan: Plan, *, verb: str, done: str, patience: Patience
) -> int:
    """Send and settle a plan to stop or unload units, with fleet 1.0's summary; the exit status."""
    warn(plan.refused)
    await send(client, plan.changes, verb=verb)
    names = f"[{' '.join(plan.goals)}]"
    if not await settle(client, plan, verb=verb, patience=patience):
        warn([f"Failed to {verb} units {names}. err: not all of them came to rest"])
        return 1
    if patience.block and (plan.goals or not plan.refused):
        warn([f"Successfully {done} units {names}."])
    return 1 if plan.refused else 0


# Telling


def say(lines: Iterable[str]) -> None:
    """Results, on stdout."""
    if text := "\n".join(lines):
        click.echo(text)


def warn(lines: Iterable[str]) -> None:
    """What is not a result, on stderr."""
    for line in lines:
        click.echo(line, err=True)
