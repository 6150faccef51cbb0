"""The part of fleetd that follows the repository, while the engine of this machine leads.

Each new commit is read, checked as a whole and applied as one change, fenced by the leader key
like all that the engine writes: one that was deposed changes nothing. A commit that cannot be
applied changes nothing either, and is not tried again until somebody asks or there is another.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.cluster import Leader
from fleet.errors import Conflict, FleetError, InvalidRequest, Unavailable
from fleet.folder.assemble import Desired, assemble
from fleet.folder.difference import compare, inventory_of
from fleet.folder.found import BadFolder
from fleet.folder.reading import read_paths
from fleet.registry import Registry
from fleet.store.mirror import Mirror
from fleet.sync.book import SyncBook, SyncState
from fleet.sync.git import GitFailed, Repository, remove_leftovers
from fleet.sync.values import Commit, SyncSettings, SyncStatus, wanted_of
from fleet.sync.wanted import Wanted, check_size

_log = logging.getLogger(__name__)

# How often to look whether this engine leads, without news from the store.
_LOOK_S = 1.0
# How often a commit is compared anew with a cluster that others change meanwhile.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a commit: what to record and, if anything happened, to tell."""

    status: SyncStatus
    wanted: Wanted | None = None
    event: str = ""


class Follower:
    """`run()` follows for ever; `leader` gives this machine's fence while its engine leads."""

    def __init__(
        self, registry: Registry, folder: Path, leader: Callable[[], Leader | None]
    ) -> None:
        self._registry = registry
        self._book = SyncBook(registry)
        self._folder = folder
        self._leader = leader
        self._handled = (0, 0)
        self._next_s = 0.0

    async def run(self) -> None:
        """Follow what the store says is to be followed, for as long as this machine leads."""
        await asyncio.to_thread(remove_leftovers, self._folder)
        mirror = Mirror(self._registry.store, self._book.prefix)
        copying = asyncio.create_task(mirror.run(), name="sync-mirror")
        try:
            while True:
                await mirror.wait(_LOOK_S)
                if copying.done():
                    copying.result()
                leader = self._leader()
                if leader is None:
                    self._next_s = 0.0
                elif mirror.is_current:
                    await self._look_safely(leader, self._book.read_entries(mirror.entries))
        finally:
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)

    async def _look_safely(self, leader: Leader, state: SyncState) -> None:
        try:
            await self._look(leader, state)
        except Exception:
            # The last guard: following a repository must never be the end of fleetd.
            _log.exception("following the repository stumbled, and goes on at the next interval")

    async def _look(self, leader: Leader, state: SyncState) -> None:
        if state.settings is None:
            return
        asked = (state.settings_revision, state.request)
        now_s = asyncio.get_running_loop().time()
        if asked == self._handled and now_s < self._next_s:
            return
        self._handled = asked
        self._next_s = now_s + state.settings.interval_s
        try:
            outcome = await self._follow(leader, state, state.settings)
            await self._book.record(
                leader, state.settings_revision, outcome.status, outcome.wanted, event=outcome.event
            )
        except (Conflict, Unavailable) as error:
            _log.info("the repository is followed later: %s", error)
        else:
            if outcome.event:
                _log.info("sync: %s", outcome.event)

    async def _follow(self, leader: Leader, state: SyncState, settings: SyncSettings) -> _Outcome:
        """Fetch, and apply what is new; what goes wrong with git or the commit is an outcome."""
        old = state.status or SyncStatus()
        status = replace(old, checked_at_s=time.time(), by=str(leader.machine), unreachable="")
        repository = Repository(self._folder, settings)
        try:
            commit = await repository.fetch()
        except (GitFailed, Unavailable) as error:
            event = f"cannot read {settings.url}: {error}" if not old.unreachable else ""
            return _Outcome(replace(status, unreachable=str(error)), event=event)
        if old.tried == commit.id and old.request == state.request:
            return _Outcome(status)
        status = replace(status, request=state.request)
        try:
            async with repository.laid_out(commit) as folder:
                desired = await asyncio.to_thread(read_commit, folder)
        except FleetError as error:
            return _refused(status, commit, error)
        wanted = wanted_of(desired, settings.source)
        try:
            check_size(wanted)
            result = await self._apply(leader, settings, desired, commit)
        except InvalidRequest as error:  # more than one write takes
            return _refused(status, commit, error)
        done = replace(
            status,
            applied=commit,
            applied_at_s=time.time(),
            result=result,
            tried=commit.id,
            problem="",
        )
        is_news = old.applied != commit or result != _NOTHING
        event = f"applied commit {commit}: {result}" if is_news else ""
        return _Outcome(done, wanted, event)

    async def _apply(
        self, leader: Leader, settings: SyncSettings, desired: Desired, commit: Commit
    ) -> str:
        """Make the cluster match, as one fenced change; what was done, in words."""
        by = f"sync of {commit.id[:10]} by {commit.author}"
        for _ in range(_ATTEMPTS):
            units = await self._registry.units()
            found = compare(desired, inventory_of(units), source=settings.source)
            changes = found.changes(prune=settings.prune)
            try:
                await self._registry.apply(changes, by=by, at_revision=found.revision, fence=leader)
            except Conflict:
                if self._leader() != leader:
                    raise
                continue
            created = sum(one.stored is None for one in found.differing)
            destroyed = len(found.orphans) if settings.prune else 0
            counts = [
                (created, "created"),
                (len(found.differing) - created, "changed"),
                (destroyed, "destroyed"),
            ]
            return ", ".join(f"{count} {what}" for count, what in counts if count) or _NOTHING
        raise Conflict("other units change all the time")


_NOTHING = "nothing to change"


def _refused(status: SyncStatus, commit: Commit, error: FleetError) -> _Outcome:
    problem = "; ".join(str(error).splitlines())
    event = f"commit {commit} changes nothing: {problem}"
    return _Outcome(replace(status, tried=commit.id, problem=problem), event=event)


def read_commit(folder: Path) -> Desired:
    """The units of a folder, in whose errors its files are told of by their place within.

    Raises BadFolder, and InvalidRequest if there are none.
    """
    try:
        desired = assemble(read_paths([str(folder)]))
    except BadFolder as error:
        raise BadFolder(text.replace(f"{folder}/", "") for text in error.problems) from error
    if not desired.units:
        raise InvalidRequest("there are no unit files in it")
    return desired
