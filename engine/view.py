"""What the leader sees of the store: the cluster, and what of it cannot be read.

A malformed value is worth less than what runs: a unit whose record cannot be read keeps its rows,
a machine whose registration cannot be read keeps its units, a row that cannot be read is written
anew, and a claim that cannot be read stands. The contents of files are not kept, only which there
are.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from fleet.claims import Claim
from fleet.cluster import Assignment, Cluster, Hold, UnitRecord, decode_cluster
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState
from fleet.store.port import Changes, Commit, Delete, Entry, Guard, LeaseId, Put, Snapshot, Store

UNREADABLE = "its record in the store is malformed: destroy it and submit it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One revision of the cluster as the leader plans on it.

    A `hold` that cannot be read counts as one that is long over.
    """

    cluster: Cluster
    hold: Hold | None
    unreadable_machines: frozenset[MachineId]


def prefixes_of(keys: Keys) -> tuple[str, ...]:
    """Everything that the leader plans on."""
    return (
        keys.units,
        keys.machines,
        keys.metadata,
        keys.schedule,
        keys.states,
        keys.refusals,
        keys.files,
        keys.departures,
        keys.claims,
        keys.changes,
        keys.engine,
    )


def observe(keys: Keys, entries: Mapping[str, Entry], revision: int) -> View:
    """The view of these entries, all of that revision."""
    cluster = decode_cluster(keys, entries.values(), revision)
    unreadable: frozenset[MachineId] = frozenset()
    if cluster.problems:
        unreadable = _unreadable_machines(keys, entries, cluster)
        cluster = replace(
            cluster,
            units={**cluster.units, **_unreadable_units(keys, entries, cluster)},
            schedule=(*cluster.schedule, *_unreadable_rows(keys, entries, cluster)),
            claims=(*cluster.claims, *_unreadable_claims(keys, entries, cluster)),
        )
    hold = cluster.hold
    if hold is None and keys.hold in entries:
        hold = Hold(machines=frozenset(), until_s=0.0)
    return View(cluster=cluster, hold=hold, unreadable_machines=unreadable)


def _below(prefix: str, entries: Mapping[str, Entry]) -> list[tuple[str, Entry]]:
    return [
        (key.removeprefix(prefix), entry)
        for key, entry in sorted(entries.items())
        if key.startswith(prefix)
    ]


def _unreadable_units(
    keys: Keys, entries: Mapping[str, Entry], cluster: Cluster
) -> dict[UnitName, UnitRecord]:
    return {
        UnitName(name): UnitRecord(
            name=UnitName(name),
            hash="",
            file="",
            target=TargetState.LAUNCHED,
            revision=entry.modified,
            created=entry.created,
            problem=UNREADABLE,
        )
        for name, entry in _below(keys.units, entries)
        if name not in cluster.units
    }


def _unreadable_machines(
    keys: Keys, entries: Mapping[str, Entry], cluster: Cluster
) -> frozenset[MachineId]:
    registered = {MachineId(name) for name, _ in _below(keys.machines, entries)}
    return frozenset(registered - cluster.machines.keys())


def _unreadable_rows(
    keys: Keys, entries: Mapping[str, Entry], cluster: Cluster
) -> list[Assignment]:
    read = {(row.machine, row.unit) for row in cluster.schedule}
    rows: list[Assignment] = []
    for rest, entry in _below(keys.schedule, entries):
        machine, _, unit = rest.partition("/")
        place = MachineId(machine), UnitName(unit)
        if unit and place not in read:
            rows.append(
                Assignment(
                    machine=place[0],
                    unit=place[1],
                    hash="",
                    file="",
                    target=TargetState.INACTIVE,
                    revision=entry.modified,
                )
            )
    return rows


def _unreadable_claims(keys: Keys, entries: Mapping[str, Entry], cluster: Cluster) -> list[Claim]:
    """Nobody knows how long those units take to stop, so their machines have to come back."""
    read = {keys.claim(claim.machine, claim.unit) for claim in cluster.claims}
    return [
        Claim(
            unit=UnitName(unit),
            machine=MachineId(machine),
            stop_s=float("inf"),
            revision=entry.modified,
        )
        for rest, entry in _below(keys.claims, entries)
        for machine, _, unit in [rest.partition("/")]
        if unit and f"{keys.claims}{rest}" not in read
    ]


class LeaderStore:
    """The store as the leader copies it: files and lists of writes without contents, no events.

    `decisive` counts the changes that can change a plan by themselves, which those of units'
    states do only while a unit moves.
    """

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self.decisive = 0

    async def read(self, *prefixes: str) -> Snapshot:
        snapshot = await self._store.read(*prefixes)
        self.decisive += 1
        light = {key: self._light(entry) for key, entry in snapshot.entries.items()}
        return Snapshot(snapshot.revision, light)

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        watch = cast("AsyncGenerator[Changes]", self._store.watch(prefix, after))
        async with aclosing(watch):
            async for changes in watch:
                kept = [e for e in changes.events if not e.key.startswith(self._keys.events)]
                self.decisive += any(not e.key.startswith(self._keys.states) for e in kept)
                light = (replace(e, entry=e.entry and self._light(e.entry)) for e in kept)
                yield Changes(changes.revision, tuple(light))

    def _light(self, entry: Entry) -> Entry:
        heavy = (self._keys.files, self._keys.pending_change)
        return replace(entry, value=b"") if entry.key.startswith(heavy) else entry

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Commit:
        return await self._store.commit(guards, operations)

    async def grant(self, ttl_s: float) -> LeaseId:
        return await self._store.grant(ttl_s)

    async def renew(self, lease: LeaseId) -> None:
        await self._store.renew(lease)

    async def remaining(self, lease: LeaseId) -> float:
        return await self._store.remaining(lease)

    async def revoke(self, lease: LeaseId) -> None:
        await self._store.revoke(lease)

    async def close(self) -> None:
        await self._store.close()
