"""Where a cluster's store says what is followed and how far that came: `sync/…`."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fleet.cluster import Leader, UnitRecord
from fleet.errors import MALFORMED, Conflict, NotFound
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.store.port import Delete, Entry, Guard, Put
from fleet.sync.values import (
    Drift,
    SyncSettings,
    SyncStatus,
    decode_settings,
    decode_status,
    encode_settings,
    encode_status,
    find_drift,
    tell_texts,
)
from fleet.sync.wanted import Wanted, decode_wanted, encode_wanted
from fleet.writes import decode_stored_unit

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncState:
    """All that is said of it; `request` is the revision at which somebody last asked for a look."""

    settings: SyncSettings | None = None
    settings_revision: int = 0
    status: SyncStatus | None = None
    wanted: Wanted | None = None
    request: int = 0


class SyncBook:
    """The pages of one cluster's store. Methods raise Unavailable with it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        root = registry.keys.sync
        self.prefix = root
        self._settings = f"{root}settings"
        self._status = f"{root}status"
        self._wanted = registry.keys.sync_wanted
        self._request = f"{root}request"

    def read_entries(self, entries: Mapping[str, Entry]) -> SyncState:
        """The state in these entries; what is malformed is as if it were not there."""
        settings, request = entries.get(self._settings), entries.get(self._request)
        return SyncState(
            settings=_read(settings, lambda value: decode_settings(json.loads(value))),
            settings_revision=settings.modified if settings else 0,
            status=_read(entries.get(self._status), lambda value: decode_status(json.loads(value))),
            wanted=_read(entries.get(self._wanted), decode_wanted),
            request=request.modified if request else 0,
        )

    async def state(self, *, texts: bool = False) -> tuple[SyncState, tuple[Drift, ...]]:
        """What is followed, how far it came, what has drifted since, from which texts if asked."""
        keys = self._registry.keys
        snapshot = await self._registry.transactions.settled(self.prefix, keys.units)
        state = self.read_entries(snapshot.entries)
        if state.wanted is None:
            return state, ()
        records = _records(keys.units, snapshot.entries)
        prune = state.settings is None or state.settings.prune
        drift = tuple(find_drift(state.wanted, records, prune=prune))
        if texts:
            units = state.wanted.units
            digests = {units[one.unit][1] for one in drift if one.unit in units}
            files = await self._registry.files(digests)
            drift = tuple(tell_texts(drift, state.wanted, files))
        return state, drift

    async def set(self, settings: SyncSettings, *, by: str) -> None:
        """Follow this from now on, from the beginning."""
        value = json.dumps(encode_settings(settings)).encode()
        what = f"follows branch {settings.branch} of {settings.url}"
        event = self._registry.event_put(by=by, what=what)
        anew = (Delete(self._status), Delete(self._wanted))
        await self._registry.store.commit([], [Put(self._settings, value), *anew, event])

    async def stop(self, *, by: str) -> None:
        """Follow nothing; units stay as they are. Raises NotFound if nothing is followed."""
        entry = (await self._registry.store.read(self._settings)).entries.get(self._settings)
        if entry is None:
            raise NotFound("no repository is followed")
        event = self._registry.event_put(by=by, what="follows no repository any more")
        gone = (self._settings, self._status, self._wanted, self._request)
        await self._registry.store.commit([], [*(Delete(key) for key in gone), event])

    async def request(self, *, by: str) -> None:
        """Have the leader look at the repository now; raises NotFound if none is followed."""
        if not (await self._registry.store.read(self._settings)).entries:
            raise NotFound("no repository is followed")
        await self._registry.store.commit([], [Put(self._request, by.encode())])

    async def record(
        self, leader: Leader, seen: int, status: SyncStatus, wanted: Wanted | None, *, event: str
    ) -> None:
        """Write how far it came, as that leader, about the settings of revision `seen`.

        Raises Conflict if it leads no longer or the settings are others by now.
        """
        keys = self._registry.keys
        guards = [Guard(keys.engine, created=leader.created), Guard(self._settings, modified=seen)]
        writes: list[Put | Delete] = [Put(self._status, json.dumps(encode_status(status)).encode())]
        if wanted is not None:
            writes.append(Put(self._wanted, encode_wanted(wanted)))
        if event:
            writes.append(self._registry.event_put(by=f"sync on {leader.machine}", what=event))
        if not (await self._registry.store.commit(guards, writes)).succeeded:
            raise Conflict("another engine leads, or another repository is followed")


def _records(prefix: str, entries: Mapping[str, Entry]) -> dict[UnitName, UnitRecord]:
    records: dict[UnitName, UnitRecord] = {}
    for key, entry in entries.items():
        if key.startswith(prefix):
            name = UnitName(key.removeprefix(prefix))
            try:
                records[name] = decode_stored_unit(name, entry)
            except Conflict:
                continue
    return records


def _read(entry: Entry | None, decode: Callable[[bytes], _T]) -> _T | None:
    if entry is None:
        return None
    try:
        return decode(entry.value)
    except MALFORMED as error:
        _log.warning("%s holds a malformed value: %s", entry.key, type(error).__name__)
        return None
