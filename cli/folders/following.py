"""What sync says of the repository that is followed, and waits for."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from cli.carrying import say, warn
from cli.tables import clock_time, render_plain
from fleet.api.syncing import SyncReport
from fleet.errors import NotFound, Unavailable

# git gives up after two minutes (`fleet.sync.git`).
_LOOK_S = 150.0
_ASK_S = 0.3
_MOST_DRIFT = 20


class Cluster(Protocol):
    """The part of the API's client that sync needs."""

    async def sync(self) -> SyncReport: ...


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
        raise NotFound("no repository is followed: fleetctl sync set URL")
    return _tell(report)


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
