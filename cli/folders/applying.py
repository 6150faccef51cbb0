"""Carries out diff and apply: read, compare, foresee, send as one change, wait."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import click

from cli.carrying import Cluster as Units
from cli.carrying import Patience, each_unit, say, wait, warn
from cli.folders.desired import read_desired, source_of
from cli.folders.showing import Line, Tone, done_lines, done_summary, names_of, show
from cli.selection import is_global_file
from cli.waiting import Aim, Goal, Reached
from fleet.change import UnitChange
from fleet.errors import Conflict, InvalidRequest
from fleet.folder.assemble import Desired
from fleet.folder.difference import Difference, Inventory, UnitDifference, compare
from fleet.foresight import Foreseen
from fleet.names import UnitName
from fleet.states import TargetState

# Up to this many stored texts are asked for one by one rather than all of the cluster's.
_FEW_TEXTS = 8
# Destroying more than this at once is asked about.
_FEW_DESTROYED = 5
# How often the cluster may move between the look and a change that destroys what was seen.
_ATTEMPTS = 5
_AIMS = {
    TargetState.LAUNCHED: Aim.LAUNCHED,
    TargetState.LOADED: Aim.LOADED,
    TargetState.INACTIVE: Aim.INACTIVE,
}
_COLOURS: Mapping[Tone, dict[str, object]] = {
    Tone.PLAIN: {},
    Tone.HEADING: {"bold": True},
    Tone.ADDED: {"fg": "green"},
    Tone.REMOVED: {"fg": "red"},
    Tone.PLACE: {"fg": "cyan"},
}


class Cluster(Units, Protocol):
    """The part of the API's client that folders need."""

    async def inventory(self, *, texts: bool = False) -> Inventory: ...

    async def plan(self, changes: Sequence[UnitChange]) -> Foreseen: ...

    async def apply(
        self, changes: Sequence[UnitChange], *, at_revision: int | None = None
    ) -> Mapping[UnitName, bool]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A command line: what to match the cluster to, and how."""

    paths: tuple[str, ...]
    name: str = ""
    source: str | None = None
    prune: bool = False
    at_revision: int | None = None
    is_sure: bool = False
    max_unavailable: int = 0


class _Session:
    """The folder of one command line, read."""

    def __init__(self, wish: Wish) -> None:
        if not wish.paths:
            raise InvalidRequest("no folder or unit file is given")
        self.wish = wish
        self.desired: Desired = read_desired(wish.paths, name=wish.name)
        self.source = source_of(wish.paths, self.desired, wish.source)
        warn(f"WARNING: {warning}" for warning in self.desired.warnings)
        if wish.prune and not self.source:
            raise InvalidRequest(
                "--prune needs to know what the units belong to: give one folder, or --source NAME"
            )
        if not self.desired.units and not wish.prune:
            raise InvalidRequest(f"there are no unit files in {', '.join(wish.paths)}")

    async def difference(self, client: Cluster) -> Difference:
        """What differs now; raises Conflict if the cluster has moved since the given revision."""
        inventory = await client.inventory()
        at = self.wish.at_revision
        if at not in (None, inventory.revision):
            raise Conflict(
                f"the units have changed since revision {at} (it is {inventory.revision} now); "
                "look at the difference again"
            )
        return compare(self.desired, inventory, source=self.source)


async def diff(client: Cluster, wish: Wish) -> int:
    """Show what apply would do; 1 if anything, 0 if nothing."""
    difference = await _Session(wish).difference(client)
    await show_difference(client, difference, prune=wish.prune)
    return 1 if difference.differing or (wish.prune and difference.orphans) else 0


async def show_difference(client: Cluster, difference: Difference, *, prune: bool) -> None:
    """Print it, with the texts that the cluster has and where units would run."""
    changes = difference.changes(prune=prune)
    foreseen = await client.plan(changes) if changes else Foreseen()
    _print(show(await _with_texts(client, difference), foreseen, prune=prune))


async def apply(client: Cluster, wish: Wish, patience: Patience) -> int:
    """Make the cluster match, as one change, and wait; the exit status."""
    session = _Session(wish)
    difference = await _send(client, session)
    say(done_lines(difference, prune=wish.prune))
    if difference.orphans and not wish.prune:
        warn(
            [
                f"No longer here, and left alone (--prune destroys them): "
                f"{names_of(difference.orphans)}"
            ]
        )
    goals = _goals(difference, prune=wish.prune)
    reached = True
    if patience.block and goals:
        verdicts = await wait(client, goals, attempts=patience.attempts)
        reached = all(isinstance(verdict, Reached) for verdict in verdicts.values())
    say([done_summary(difference, prune=wish.prune)])
    return 0 if reached else 1


async def _send(client: Cluster, session: _Session) -> Difference:
    """Have the difference made; what is destroyed is what was seen, and nothing else.

    Changes that only bring units where the folder wants them are right whatever others do
    meanwhile; one that destroys is decided on anew if anything has changed.
    """
    wish = session.wish
    for attempt in range(_ATTEMPTS):
        difference = await session.difference(client)
        changes = difference.changes(prune=wish.prune, max_unavailable=wish.max_unavailable)
        destroys = wish.prune and bool(difference.orphans)
        if attempt == 0 and destroys and not wish.is_sure:
            _ask(session, difference)
        guard = difference.revision if destroys else wish.at_revision
        try:
            await client.apply(changes, at_revision=guard)
        except Conflict:
            if wish.at_revision is not None or not destroys or attempt == _ATTEMPTS - 1:
                raise
        else:
            return difference
    raise AssertionError("unreachable")


def _ask(session: _Session, difference: Difference) -> None:
    """Have much destruction confirmed; raises InvalidRequest where there is nobody to ask."""
    all_of_it = not session.desired.units
    if len(difference.orphans) <= _FEW_DESTROYED and not all_of_it:
        return
    which = f"{len(difference.orphans)} units of {session.source}"
    what = f"--prune destroys {'all ' if all_of_it else ''}{which}: {names_of(difference.orphans)}"
    if sys.stdin.isatty() and sys.stderr.isatty() and "-" not in session.wish.paths:
        click.confirm(f"{what}. Go on?", abort=True, err=True)
        return
    raise InvalidRequest(f"{what}. Say --yes if that is meant; nothing has been changed")


def _goals(difference: Difference, *, prune: bool) -> dict[UnitName, Goal]:
    goals = {one.name: goal for one in difference.differing if (goal := _goal(one)) is not None}
    if prune:
        goals |= {one.name: Goal(aim=Aim.GONE) for one in difference.orphans}
    return goals


def _goal(one: UnitDifference) -> Goal | None:
    """What to wait for; nothing for global units, and for those that only are stored."""
    desired = one.desired
    if desired is None or is_global_file(desired.file, one.name):
        return None
    was = one.stored.target if one.stored else TargetState.INACTIVE
    if desired.target is TargetState.INACTIVE and was is TargetState.INACTIVE:
        return None
    return Goal(aim=_AIMS[desired.target], hash=desired.file.hash)


async def _with_texts(client: Cluster, difference: Difference) -> Difference:
    """The difference with the stored texts of units whose contents change."""
    wanted = [one.name for one in difference.differing if one.stored and one.rewrites]
    if len(wanted) <= _FEW_TEXTS:
        texts = {name: unit.text for name, unit in (await each_unit(client, wanted)).items()}
    else:
        stored = (await client.inventory(texts=True)).units
        texts = {name: stored[name].text for name in wanted if name in stored}
    return replace(
        difference,
        differing=tuple(
            replace(one, stored=replace(one.stored, text=texts.get(one.name)))
            if one.stored
            else one
            for one in difference.differing
        ),
    )


def _print(lines: Iterable[Line]) -> None:
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in lines:
        styled = click.style(line.text, **_COLOURS[line.tone]) if coloured else line.text  # type: ignore[arg-type]
        click.echo(styled, color=coloured)
