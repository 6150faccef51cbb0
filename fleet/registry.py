"""The registry: the cluster's things written to and read from a store.

It knows keys, documents and transactions, and decides nothing. Users' changes are checked before
the first write and go in as few transactions as possible; the engine's are fenced by the creation
revision of the leader key, so that one that was deposed cannot write.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fleet.batch import Batch, Operation
from fleet.cluster import (
    Assignment,
    Cluster,
    Hold,
    Leader,
    Refusal,
    UnitRecord,
    decode_assignment,
    decode_cluster,
    decode_unit,
    describe_malformed,
    encode_assignment,
    encode_leader,
    encode_refusal,
    encode_unit,
)
from fleet.errors import MALFORMED, Conflict, InvalidUnit, NotFound
from fleet.events import History, expired, latest
from fleet.history import event_put
from fleet.keys import Keys
from fleet.machine import Machine, MachineId, encode_machine
from fleet.names import UnitName
from fleet.options import fleet_options, read_requirements
from fleet.states import TargetState, UnitState, encode_state
from fleet.store.port import Delete, Entry, Guard, LeaseId, Put, Store
from fleet.unit import UnitFile, read_unit

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitChange:
    """What a user asks of one unit: new contents, a new target state, or both; or its removal.

    New contents without a target state make the unit inactive, as in fleet 1.0. Contents that
    systemd reads the same are stored and change nothing else, unless they are `rendered`: made
    from options, and nobody's own text.
    """

    name: UnitName
    file: UnitFile | None = None
    target: TargetState | None = None
    destroy: bool = False
    rendered: bool = False


class Registry:
    """The cluster behind one key prefix of one store. Methods raise Unavailable with the store."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self.store = store
        self.keys = keys

    # Reading

    async def cluster(self) -> Cluster:
        """The whole cluster at one revision, without the contents of files."""
        keys = self.keys
        snapshot = await self.store.read(
            keys.units,
            keys.machines,
            keys.metadata,
            keys.schedule,
            keys.states,
            keys.refusals,
            keys.engine,
        )
        return decode_cluster(keys, snapshot.entries.values(), snapshot.revision)

    async def cluster_with_files(self) -> tuple[Cluster, dict[str, UnitFile]]:
        """The whole cluster and its files by digest, all at one revision."""
        keys = self.keys
        snapshot = await self.store.read(keys.root)
        cluster = decode_cluster(keys, snapshot.entries.values(), snapshot.revision)
        stored = [each for each in snapshot.entries.values() if each.key.startswith(keys.files)]
        files, problems = self._decode_files(stored)
        return replace(cluster, problems=(*cluster.problems, *problems)), files

    async def file(self, digest: str) -> UnitFile:
        """The file of that digest; raises NotFound, and InvalidUnit if it is malformed."""
        key = self.keys.file(digest)
        entry = (await self.store.read(key)).entries.get(key)
        if entry is None:
            raise NotFound(f"unit file {digest} is not in the store")
        return read_unit(entry.value, path=key)

    async def files(self, digests: Iterable[str]) -> dict[str, UnitFile]:
        """Those of the files that exist and can be read, by digest."""
        wanted = [self.keys.file(digest) for digest in digests]
        if not wanted:
            return {}
        entries = (await self.store.read(*wanted)).entries
        found, problems = self._decode_files(entries[key] for key in wanted if key in entries)
        for problem in problems:
            _log.warning("%s", problem)
        return found

    def _decode_files(self, entries: Iterable[Entry]) -> tuple[dict[str, UnitFile], list[str]]:
        files: dict[str, UnitFile] = {}
        problems: list[str] = []
        for entry in entries:
            try:
                files[entry.key.removeprefix(self.keys.files)] = read_unit(entry.value)
            except InvalidUnit as error:
                # Its own words would repeat the line, and contents are not to be logged.
                problems.append(f"{entry.key} holds a malformed unit file: line {error.line}")
        return files, problems

    async def states(self) -> tuple[UnitState, ...]:
        """What every machine says of its units, at one revision."""
        return (await self._part(self.keys.states)).states

    async def machines(self) -> tuple[Machine, ...]:
        """The machines that are there, with their metadata, at one revision."""
        cluster = await self._part(self.keys.machines, self.keys.metadata)
        return tuple(cluster.machines.values())

    async def hold(self) -> Hold | None:
        """The brake on a mass loss while it is on, with the machines that are still gone."""
        return (await self._part(self.keys.hold, self.keys.machines)).current_hold

    async def _part(self, *prefixes: str) -> Cluster:
        """What of the cluster lies under these prefixes."""
        snapshot = await self.store.read(*prefixes)
        return decode_cluster(self.keys, snapshot.entries.values(), snapshot.revision)

    async def events(self, limit: int, *, unit: UnitName | str = "", after: int = 0) -> History:
        """The newest events, of one unit or of all, of those that came after a revision."""
        snapshot = await self.store.read(self.keys.events)
        later = (entry for entry in snapshot.entries.values() if entry.modified > after)
        return History(snapshot.revision, latest(later, limit, unit=unit))

    # Users' changes

    async def apply(self, changes: Sequence[UnitChange], *, by: str) -> dict[UnitName, bool]:
        """Make the changes, and say of each whether the unit's contents are new.

        Of a unit that was to be destroyed it is said whether it was there. A machine stops its
        units when it learns that they are gone.

        Raises NotFound, before anything is written, for a unit that is neither stored nor given
        contents; Conflict if somebody changed one of the units at the same moment, in which case
        a part of many changes may have been made. Contents are always written beside the unit that
        needs them, so the engine, which removes a file only if it was not written again meanwhile,
        never takes them away.
        """
        changes = _merge(changes)
        entries = await self._unit_entries([change.name for change in changes])
        kept = [change for change in changes if not change.destroy]
        missing = [c.name for c in kept if c.name not in entries and c.file is None]
        if missing:
            raise NotFound(f"unit does not exist: {', '.join(missing)}")
        # One that is malformed can still be destroyed.
        stored = {
            c.name: decode_stored_unit(c.name, entries[c.name]) for c in kept if c.name in entries
        }
        outcome: dict[UnitName, bool] = {}
        batch = Batch(self.store)
        for change in changes:
            if change.destroy:
                outcome[change.name] = change.name in entries
                if change.name in entries:
                    event = event_put(self.keys, by=by, unit=change.name, what="destroyed")
                    removal: list[Operation] = [Delete(self.keys.unit(change.name)), event]
                    await batch.add([], removal, about=change.name)
            else:
                old = stored.get(change.name)
                outcome[change.name] = await self._add_change(batch, change, old, by=by)
        await batch.flush()
        return outcome

    async def _add_change(
        self, batch: Batch, change: UnitChange, old: UnitRecord | None, *, by: str
    ) -> bool:
        """Take the change into the batch; whether what systemd reads of the unit is new."""
        record, file = _changed(change, old, by=by)
        if old is not None and file is None and record.target is old.target:
            return False
        is_new = old is None or record.hash != old.hash
        operations: list[Operation] = [Put(self.keys.unit(change.name), encode_unit(record))]
        if file is not None:
            operations.append(Put(self.keys.file(record.file), file.text.encode()))
        guard = Guard(self.keys.unit(change.name), modified=old.revision if old else 0)
        stored = "" if file is None else "stored, " if is_new else "comments stored, "
        told = f"{stored}target state {record.target}"
        operations.append(event_put(self.keys, by=by, unit=change.name, what=told))
        await batch.add([guard], operations, about=change.name)
        return is_new

    async def destroy(self, name: UnitName, *, by: str) -> None:
        """Remove the unit; raises NotFound."""
        if not (await self.apply([UnitChange(name=name, destroy=True)], by=by))[name]:
            raise NotFound(f"unit does not exist: {name}")

    async def set_metadata(
        self, changes: Sequence[tuple[MachineId, str, str | None]], *, by: str
    ) -> None:
        """Set metadata keys of machines, which need not be there now; None takes a key away."""
        final = {self.keys.metadatum(machine, key): value for machine, key, value in changes}
        batch = Batch(self.store)
        for key, value in final.items():
            written = (value or "").encode()
            what = f"metadata {key.removeprefix(self.keys.metadata)} = {value or '(removed)'}"
            await batch.add([], [Put(key, written), event_put(self.keys, by=by, what=what)])
        await batch.flush()

    async def _unit_entries(self, names: Sequence[UnitName]) -> dict[UnitName, Entry]:
        wanted = [self.keys.unit(name) for name in names]
        entries = (await self.store.read(*wanted)).entries if wanted else {}
        pairs = zip(names, wanted, strict=True)
        return {name: entries[key] for name, key in pairs if key in entries}

    async def release_hold(self, *, by: str) -> None:
        """End the brake on a mass loss: the leader gives up the machines that are held.

        Raises NotFound if none are held, Conflict if the hold changed at the same moment.
        """
        key = self.keys.hold
        entry = (await self.store.read(key)).entries.get(key)
        if entry is None:
            raise NotFound("no machines are held")
        event = event_put(self.keys, by=by, what="released the hold on machines that vanished")
        commit = await self.store.commit(
            [Guard(key, modified=entry.modified)], [Delete(key), event]
        )
        if not commit.succeeded:
            raise Conflict("the hold has just changed; look at it again")

    async def trim_events(self, keep: int) -> int:
        """Remove all but the newest events; the number of those that were removed.

        Of every unit that is there its last few stay, however long ago they were.
        """
        snapshot = await self.store.read(self.keys.events, self.keys.units)
        old = expired(snapshot.entries, self.keys, keep)
        batch = Batch(self.store)
        for key in old:
            await batch.add([], [Delete(key)])
        await batch.flush()
        return len(old)

    # A machine's own reports

    async def machine_entry(self, machine: MachineId) -> Entry | None:
        """The machine's registration as it lies in the store."""
        key = self.keys.machine(machine)
        return (await self.store.read(key)).entries.get(key)

    async def register(self, machine: Machine, lease: LeaseId, *, over: int) -> bool:
        """Write the machine under its lease, over the registration of revision `over` (0: none).

        It takes an earlier departure back. False if the registration in the store is another one
        by now.
        """
        key = self.keys.machine(machine.id)
        value = json.dumps(encode_machine(machine)).encode()
        departure = Delete(self.keys.departure(machine.id))
        operations: list[Operation] = [Put(key, value, lease), departure]
        return (await self.store.commit([Guard(key, modified=over)], operations)).succeeded

    async def depart(self, machine: MachineId, lease: LeaseId) -> None:
        """Say that the machine leaves on purpose, for as long as this lease of its own lasts."""
        event = event_put(self.keys, by=f"machine {machine}", what="leaves the cluster on purpose")
        await self.store.commit([], [Put(self.keys.departure(machine), b"{}", lease), event])

    async def publish_states(
        self,
        machine: MachineId,
        states: Mapping[UnitName, UnitState | None],
        lease: LeaseId,
    ) -> None:
        """Write states under the machine's lease; None removes one. Raises LeaseLost."""
        batch = Batch(self.store)
        for unit, state in states.items():
            key = self.keys.state(machine, unit)
            if state is None:
                await batch.add([], [Delete(key)])
            else:
                value = json.dumps(encode_state(state), separators=(",", ":")).encode()
                await batch.add([], [Put(key, value, lease)])
        await batch.flush()

    # The engine's writes

    async def acquire_leadership(self, machine: MachineId, lease: LeaseId) -> Leader | None:
        """Take the leader key under the lease; None if another engine has it."""
        guard = Guard(self.keys.engine, created=0)
        put = Put(self.keys.engine, encode_leader(machine), lease)
        commit = await self.store.commit([guard], [put])
        return Leader(machine=machine, created=commit.revision) if commit.succeeded else None

    async def commit_as(
        self, leader: Leader, decisions: Sequence[tuple[Sequence[Guard], Sequence[Operation]]]
    ) -> None:
        """Write the engine's decisions, each whole, in batches; raises Conflict if a guard failed.

        A guard fails when this engine was deposed or what it decided about has changed; it has
        to look again before it writes more.
        """
        fence = Guard(self.keys.engine, created=leader.created)
        batch = Batch(self.store, fence)
        for guards, operations in decisions:
            await batch.add(guards, operations)
        await batch.flush()

    def assignment_put(self, row: Assignment) -> Put:
        return Put(self.keys.assignment(row.machine, row.unit), encode_assignment(row))

    def refusal_put(self, refusal: Refusal) -> Put:
        return Put(self.keys.refusal(refusal.unit), encode_refusal(refusal))

    def decision_event(self, *, machine: MachineId, unit: str, what: str) -> Put:
        return event_put(self.keys, by=f"engine on {machine}", unit=unit, what=what)


def decode_stored_unit(name: UnitName, entry: Entry) -> UnitRecord:
    """The unit record of an entry, with its revisions; raises Conflict if it is malformed."""
    try:
        record = decode_unit(name, entry.value)
    except MALFORMED as error:
        problem = describe_malformed(entry.key, error)
        raise Conflict(f"{problem}; destroy {name} and submit it again") from error
    return replace(record, revision=entry.modified, created=entry.created)


def decode_schedule(
    keys: Keys, machine: MachineId, entries: Iterable[Entry]
) -> tuple[list[Assignment], list[str]]:
    """One machine's rows, and a sentence for every entry that cannot be read."""
    rows: list[Assignment] = []
    problems: list[str] = []
    prefix = keys.schedule_of(machine)
    for entry in entries:
        try:
            unit = UnitName(entry.key.removeprefix(prefix))
            row = decode_assignment(machine, unit, entry.value)
            rows.append(replace(row, revision=entry.modified))
        except MALFORMED as error:
            problems.append(describe_malformed(entry.key, error))
    return rows, problems


def _changed(
    change: UnitChange, old: UnitRecord | None, *, by: str
) -> tuple[UnitRecord, UnitFile | None]:
    """The record after a change, and the file to store if its text is new."""
    file = change.file
    if old is not None and (file is None or file.hash == old.hash):
        record = replace(old, target=change.target or old.target, by=by, at_s=time.time())
        if file is None or not renews_text(change, old):
            return record, None
        return replace(record, file=text_digest(file.text)), file
    if file is None:
        raise NotFound(f"unit does not exist: {change.name}")
    options = tuple((option.name, option.value) for option in fleet_options(file))
    return (
        UnitRecord(
            name=change.name,
            hash=file.hash,
            file=text_digest(file.text),
            target=change.target or TargetState.INACTIVE,
            options=options,
            by=by,
            at_s=time.time(),
            requirements=read_requirements(fleet_options(file), change.name),
        ),
        file,
    )


def renews_text(change: UnitChange, old: UnitRecord) -> bool:
    """Whether the change brings an author's text other than the stored one."""
    file = change.file
    return file is not None and not change.rendered and text_digest(file.text) != old.file


def text_digest(text: str) -> str:
    """The name under which an author's text is stored, once however many units share it."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _merge(changes: Sequence[UnitChange]) -> list[UnitChange]:
    """One change for each unit, the later ones over the earlier."""
    merged: dict[UnitName, UnitChange] = {}
    for change in changes:
        before = merged.get(change.name, change)
        if change.destroy or before.destroy:
            merged[change.name] = change
            continue
        merged[change.name] = UnitChange(
            name=change.name,
            file=change.file or before.file,
            target=change.target or before.target,
            rendered=change.rendered if change.file else before.rendered,
        )
    return list(merged.values())
