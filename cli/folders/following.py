"""What sync says of the repository that is followed, and waits for."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from cli.carrying import say, warn
from cli.folders.applying import Cluster as Units
from cli.folders.applying import show_difference
from cli.tables import clock_time, render_plain
from fleet.api.syncing import SyncReport
from fleet.errors import NotFound, Unavailable
from fleet.folder.assemble import Desired, DesiredUnit
from fleet.folder.difference import compare
from fleet.names import UnitName
from fleet.sync.values import Commit, Drift
from fleet.unit import parse_unit

# git gives up after two minutes (`fleet.sync.git`).
_LOOK_S = 150.0
_ASK_S = 0.3
_MOST_DRIFT = 20
_NOTHING = "no repository is followed: fleetctl sync set URL"


class Cluster(Protocol):
    """The part of the API's client that sync needs."""

    async def sync(self, *, texts: bool = False) -> SyncReport: ...


class Differing(Units, Cluster, Protocol):
    """The part of it that sync diff needs."""


async def follow_now(client: Cluster, ask: Callable[[], Awaitable[None]], *, block: bool) -> int:
    """Ask, wait until the leader has looked at the repository, and show how that went."""
    before = await client.sync()
    looked_s = before.status.checked_at_s if before.status else 0.0
    await ask()
    if not block:
        return 0
    try:
        async with asyncio.timeout(_LOOK_S):
            while True:
                report = await client.sync()
                if report.status and report.status.checked_at_s > looked_s:
                    return _tell(report)
                await asyncio.sleep(_ASK_S)
    except TimeoutError as error:
        raise Unavailable(
            f"no leader has looked at the repository for {_LOOK_S:g} s; "
            "fleetctl sync status says how far it is"
        ) from error


async def show_status(client: Cluster) -> int:
    """Show what is followed and how far it came; 1 if anything is not as it should be."""
    report = await client.sync()
    if report.settings is None:
        raise NotFound(_NOTHING)
    return _tell(report)


async def show_drift(client: Differing) -> int:
    """Show what sync now would put right; 1 if anything, 0 if nothing."""
    report = await client.sync(texts=True)
    if report.settings is None:
        raise NotFound(_NOTHING)
    commit = report.status.applied if report.status else None
    if commit is None:
        raise NotFound("no commit is applied yet; fleetctl sync status says why")
    if not report.drift:
        say([f"Nothing has drifted from commit {commit}"])
        return 0
    units = {one.unit: one for one in report.drift if one.text is not None}
    if units:
        desired = Desired(units=dict(_desired(units.values(), commit)))
        inventory = await client.inventory()
        stored = {name: unit for name, unit in inventory.units.items() if name in units}
        drifted = replace(inventory, units=stored)
        difference = compare(desired, drifted, source=report.settings.source)
        await show_difference(client, difference, prune=report.settings.prune)
    untold = [one for one in report.drift if one.text is None]
    warn(f"drift: {one.unit}: {one.what}" for one in untold)
    if untold:
        warn(["The store lacks the text of these. To put them right: fleetctl sync now"])
    return 1


def _desired(drift: Iterable[Drift], commit: Commit) -> Iterator[tuple[UnitName, DesiredUnit]]:
    for one in drift:
        if one.text and one.target:
            path = f"{one.unit} in commit {commit.id[:10]}"
            file = parse_unit(one.text, path=path)
            yield one.unit, DesiredUnit(name=one.unit, file=file, target=one.target, path=path)


def _tell(report: SyncReport) -> int:
    say(render_plain(list(_rows(report))).splitlines())
    warn(f"drift: {one.unit}: {one.what}" for one in report.drift[:_MOST_DRIFT])
    if len(report.drift) > _MOST_DRIFT:
        warn([f"drift: and {len(report.drift) - _MOST_DRIFT} units more"])
    if report.drift:
        warn(["To put that right: fleetctl sync now"])
    status = report.status
    is_well = status is not None and not status.problem and not status.unreachable
    return 0 if is_well and not report.drift else 1


def _rows(report: SyncReport) -> Iterator[tuple[str, str]]:
    settings, status = report.settings, report.status
    if settings is not None:
        folder = f", folder {settings.path}" if settings.path else ""
        yield "follows", f"{settings.url}, branch {settings.branch}{folder}"
        yield "every", f"{settings.interval_s:g} s" + ("" if settings.prune else ", without prune")
    if status is None:
        yield "state", "no leader has looked at it yet"
        return
    if status.applied is not None:
        yield "applied", f"{status.applied} at {clock_time(status.applied_at_s)}"
        yield "result", status.result
    if status.problem:
        yield "refused", f"{status.tried[:10]}: {status.problem}"
    if status.unreachable:
        yield "unreachable", status.unreachable
    yield "checked", f"{clock_time(status.checked_at_s)} by machine {status.by[:8]}"
