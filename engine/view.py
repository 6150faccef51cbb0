"""What the leader sees of the store: the cluster, and what of it cannot be read.

A malformed value is worth less than what runs: a unit whose record cannot be read keeps its rows,
a machine whose registration cannot be read keeps its units, a row that cannot be read is written
anew, and a claim that cannot be read stands. The contents of files are not kept, only which there
are. Each key is read once, when it has changed.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from sys import intern
from typing import cast

from engine.facts import Facts
from fleet.claims import Claim, read_claim
from fleet.cluster import (
    Assignment,
    Leader,
    UnitRecord,
    decode_assignment,
    decode_refusal,
    decode_unit,
)
from fleet.errors import MALFORMED
from fleet.hold import Hold, decode_hold
from fleet.keys import Keys
from fleet.machine import Cordon, Machine, MachineId, decode_cordon, decode_machine, merge_metadata
from fleet.names import UnitName, parse_name
from fleet.snapshot import describe_malformed, split_key
from fleet.states import TargetState, decode_state
from fleet.store.port import (
    Changes,
    Commit,
    Delete,
    Entry,
    Event,
    Guard,
    LeaseId,
    Put,
    Snapshot,
    Store,
)
from fleet.sync.wanted import decode_wanted

UNREADABLE = "its record in the store is malformed: destroy it and submit it again"


def prefixes_of(keys: Keys) -> tuple[str, ...]:
    """Everything that the leader plans on."""
    return (
        keys.units,
        keys.machines,
        keys.metadata,
        keys.cordons,
        keys.schedule,
        keys.states,
        keys.refusals,
        keys.files,
        keys.departures,
        keys.claims,
        keys.changes,
        keys.sync_wanted,
        keys.engine,
    )


class View:
    """The cluster as the leader plans on it, kept from the entries of its copy of the store.

    A `hold` that cannot be read counts as one that is long over. `pending_change` is the revision
    of a change of units that is made but not completed, 0 without one; `latest_rows` is that of the
    last write of an engine's decisions. `uploads` are marks of those who write files that units
    will name. `problems` are sentences on what cannot be read, by key.
    """

    def __init__(self, keys: Keys) -> None:
        self.facts = Facts()
        self.leader: Leader | None = None
        self.hold: Hold | None = None
        self.departures: set[MachineId] = set()
        self.pending_change = 0
        self.latest_rows = 0
        self.uploads: set[str] = set()
        self.unreadable_machines: set[MachineId] = set()
        self.problems: dict[str, str] = {}
        self._seen: dict[str, Entry] = {}
        self._registered: dict[MachineId, Machine] = {}
        self._metadata: dict[MachineId, dict[str, str]] = {}
        self._cordons: dict[MachineId, Cordon] = {}
        self._readers: tuple[tuple[str, _Reader], ...] = (
            (keys.states, self._read_state),
            (keys.schedule, self._read_row),
            (keys.units, self._read_unit),
            (keys.machines, self._read_machine),
            (keys.metadata, self._read_metadatum),
            (keys.cordons, self._read_cordon),
            (keys.refusals, self._read_refusal),
            (keys.files, self._read_file),
            (keys.departures, self._read_departure),
            (keys.claims, self._read_claim),
            (keys.pending_change, self._read_pending_change),
            (keys.latest_rows, self._read_latest_rows),
            (keys.uploads, self._read_upload),
            (keys.sync_wanted, self._read_sync_wanted),
            (keys.hold, self._read_hold),
            (keys.engine, self._read_leader),
        )

    def update(self, entries: Mapping[str, Entry], changed: Collection[str] | None) -> None:
        """See the entries as they are now; only these keys have changed, or, with None, any may."""
        if changed is None:
            changed = [key for key, entry in entries.items() if self._is_new(key, entry)]
            changed += self._seen.keys() - entries.keys()
        for key in changed:
            self._look(key, entries.get(key))

    def _is_new(self, key: str, entry: Entry) -> bool:
        seen = self._seen.get(key)
        return seen is None or seen.modified != entry.modified or seen.value != entry.value

    def _look(self, key: str, entry: Entry | None) -> None:
        self.problems.pop(key, None)
        if entry is None:
            self._seen.pop(key, None)
        else:
            self._seen[key] = entry
        for prefix, read in self._readers:
            if key.startswith(prefix):
                try:
                    read(key.removeprefix(prefix), entry)
                except MALFORMED as error:
                    if entry is not None:
                        self.problems[key] = describe_malformed(key, error)
                return

    # Each forgets what it knew of the key before it reads the entry, which may be malformed.

    def _read_unit(self, rest: str, entry: Entry | None) -> None:
        unit = UnitName(intern(parse_name(rest)))  # a key that names no unit is about none
        if entry is None:
            self.facts.drop_unit(unit)
            return
        record = _unreadable_unit(unit)
        try:
            record = decode_unit(unit, entry.value)
        finally:
            self.facts.set_unit(replace(record, revision=entry.modified, created=entry.created))

    def _read_row(self, rest: str, entry: Entry | None) -> None:
        machine, unit = _split_place(rest)
        if entry is None:
            self.facts.drop_row(unit, machine)
            return
        row = _unreadable_row(unit, machine, entry.modified)
        try:
            row = decode_assignment(machine, unit, entry.value, entry.modified)
        finally:
            self.facts.set_row(row)

    def _read_state(self, rest: str, entry: Entry | None) -> None:
        machine, unit = _split_place(rest)
        self.facts.drop_state(unit, machine)
        if entry is not None:
            self.facts.set_state(decode_state(unit, machine, json.loads(entry.value)))

    def _read_machine(self, rest: str, entry: Entry | None) -> None:
        machine = MachineId(rest)
        self.unreadable_machines.discard(machine)
        try:
            if entry is None:
                self._registered.pop(machine, None)
            else:
                self._register(machine, entry)
        finally:
            self._merge(machine)

    def _register(self, machine: MachineId, entry: Entry) -> None:
        self._registered.pop(machine, None)
        self.unreadable_machines.add(machine)
        read = decode_machine(json.loads(entry.value))
        if read.id != machine:
            raise ValueError(f"it names machine {read.id}")
        self._registered[machine] = read
        self.unreadable_machines.discard(machine)

    def _read_metadatum(self, rest: str, entry: Entry | None) -> None:
        machine, key = split_key(rest)
        set_by_operator = self._metadata.setdefault(MachineId(machine), {})
        set_by_operator.pop(key, None)
        try:
            if entry is not None:
                set_by_operator[key] = entry.value.decode()
        finally:
            self._merge(MachineId(machine))

    def _read_cordon(self, rest: str, entry: Entry | None) -> None:
        machine = MachineId(rest)
        self._cordons.pop(machine, None)
        try:
            if entry is not None:
                self._cordons[machine] = decode_cordon(json.loads(entry.value))
        finally:
            self._merge(machine)

    def _merge(self, machine: MachineId) -> None:
        """Tell of the machine with what operators say of it."""
        read = self._registered.get(machine)
        if read is None:
            self.facts.drop_machine(machine)
        else:
            merged = merge_metadata(read.metadata, self._metadata.get(machine, {}))
            cordon = self._cordons.get(machine)
            self.facts.set_machine(replace(read, metadata=merged, cordon=cordon))

    def _read_refusal(self, rest: str, entry: Entry | None) -> None:
        self.facts.drop_refusal(UnitName(rest))
        if entry is not None:
            self.facts.set_refusal(decode_refusal(parse_name(rest), entry))

    def _read_file(self, rest: str, entry: Entry | None) -> None:
        if entry is None:
            self.facts.drop_file(rest)
        else:
            self.facts.set_file(rest, entry.modified)

    def _read_departure(self, rest: str, entry: Entry | None) -> None:
        self.departures.discard(MachineId(rest))
        if entry is not None:
            self.departures.add(MachineId(rest))

    def _read_claim(self, rest: str, entry: Entry | None) -> None:
        machine, unit = _split_place(rest)
        self.facts.drop_claim(unit, machine)
        if entry is None:
            return
        # Nobody knows how long a unit takes to stop whose claim cannot be read.
        endless = float("inf")
        claim = Claim(unit=unit, machine=machine, stop_s=endless, revision=entry.modified)
        try:
            claim = read_claim(rest, entry)
        finally:
            self.facts.set_claim(claim)

    def _read_pending_change(self, rest: str, entry: Entry | None) -> None:
        self.pending_change = entry.created if entry else 0

    def _read_latest_rows(self, rest: str, entry: Entry | None) -> None:
        self.latest_rows = entry.modified if entry else 0

    def _read_upload(self, rest: str, entry: Entry | None) -> None:
        self.uploads.discard(rest)
        if entry is not None:
            self.uploads.add(rest)

    def _read_sync_wanted(self, rest: str, entry: Entry | None) -> None:
        self.facts.keep_files(frozenset())  # should what is there now be malformed
        if entry is not None:
            self.facts.keep_files(decode_wanted(entry.value).files)

    def _read_hold(self, rest: str, entry: Entry | None) -> None:
        if rest:
            return
        self.hold = None
        if entry is not None:
            self.hold = Hold(machines=frozenset(), until_s=0.0)
            self.hold = decode_hold(json.loads(entry.value))

    def _read_leader(self, rest: str, entry: Entry | None) -> None:
        if rest:
            return
        self.leader = None
        if entry is not None:
            machine = MachineId(str(json.loads(entry.value)["machine"]))
            self.leader = Leader(machine=machine, created=entry.created)


_Reader = Callable[[str, Entry | None], None]


def _split_place(rest: str) -> tuple[MachineId, UnitName]:
    machine, unit = split_key(rest)
    # A key that names no unit is about none: what is guarded by its record could never be written.
    return MachineId(intern(machine)), UnitName(intern(parse_name(unit)))


def _unreadable_unit(unit: UnitName) -> UnitRecord:
    target = TargetState.LAUNCHED
    return UnitRecord(name=unit, hash="", file="", target=target, problem=UNREADABLE)


def _unreadable_row(unit: UnitName, machine: MachineId, revision: int) -> Assignment:
    target = TargetState.INACTIVE
    return Assignment(
        unit=unit, machine=machine, hash="", file="", target=target, revision=revision
    )


class LeaderStore:
    """The store as the leader copies it: files and lists of writes without contents, no events.

    `decisive` counts the changes that can change a plan by themselves, which those of units'
    states do only while a unit moves.
    """

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._heavy = (keys.files, keys.pending_change)
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
                yield Changes(changes.revision, tuple(map(self._light_event, kept)))

    def _light_event(self, event: Event) -> Event:
        entry = event.entry
        light = entry and self._light(entry)
        return event if light is entry else replace(event, entry=light)

    def _light(self, entry: Entry) -> Entry:
        return replace(entry, value=b"") if entry.key.startswith(self._heavy) else entry

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
