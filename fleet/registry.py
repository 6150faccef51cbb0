"""The registry: the cluster's things written to and read from a store.

It knows keys, documents and transactions, and decides nothing. What users change together is one
write, however many units it is about (`fleet.transaction`); the engine's writes are fenced by the
creation revision of the leader key, so that one that was deposed cannot write.
"""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fleet.batch import Batch, Decision, Operation
from fleet.change import UnitChange
from fleet.cluster import (
    Assignment,
    Cluster,
    Leader,
    Refusal,
    UnitRecord,
    encode_assignment,
    encode_refusal,
)
from fleet.errors import Conflict, InvalidUnit, NotFound
from fleet.events import Event, History, expired, latest
from fleet.history import event_puts
from fleet.hold import Hold
from fleet.keys import Keys
from fleet.leadership import Leadership
from fleet.machine import Cordon, Machine, MachineId, encode_cordon, encode_machine
from fleet.names import UnitName
from fleet.snapshot import decode_cluster
from fleet.states import UnitState, encode_state
from fleet.store.port import Delete, Entry, Guard, LeaseId, Put, Store
from fleet.transaction import Transactions, Upload, fits
from fleet.unit import UnitFile, read_unit
from fleet.writes import (
    UnitWrite,
    decide_writes,
    decode_stored_unit,
    merge_changes,
    renews_text,
    text_digest,
)

__all__ = [
    "Registry",
    "UnitChange",
    "renews_text",
    "text_digest",
]

_log = logging.getLogger(__name__)

# How often a large change is tried again that met changes of other units.
_ATTEMPTS = 20
# With more units than this it costs less to read all records than to name each.
_FEW = 64
_MOVED = "the units have changed since revision"


class Registry:
    """The cluster behind one key prefix of one store. Methods raise Unavailable with the store."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self.store = store
        self.keys = keys
        self.transactions = Transactions(store, keys)
        self.leadership = Leadership(store, keys)
        of_machines = (keys.machines, keys.metadata, keys.cordons)
        of_units = (keys.units, keys.schedule, keys.states, keys.refusals)
        self._parts = (*of_units, *of_machines, keys.engine)

    # Reading

    async def cluster(self) -> Cluster:
        """The whole cluster at one revision, without the contents of files."""
        snapshot = await self.transactions.settled(*self._parts)
        return decode_cluster(self.keys, snapshot.entries.values(), snapshot.revision)

    async def units(self) -> Cluster:
        """The cluster's units alone, at one revision."""
        snapshot = await self.transactions.settled(self.keys.units)
        return decode_cluster(self.keys, snapshot.entries.values(), snapshot.revision)

    async def cluster_with_files(self) -> tuple[Cluster, dict[str, UnitFile]]:
        """The whole cluster and its units' files by digest, all at one revision."""
        keys = self.keys
        snapshot = await self.transactions.settled(*self._parts, keys.files)
        cluster = decode_cluster(keys, snapshot.entries.values(), snapshot.revision)
        named = {keys.file(record.file) for record in cluster.units.values()}
        stored = (each for key, each in snapshot.entries.items() if key in named)
        files, problems = self._decode_files(stored)
        return replace(cluster, problems=(*cluster.problems, *problems)), files

    async def unit(self, name: UnitName) -> UnitRecord | None:
        """One unit's record, if there is one; raises Conflict if it is malformed."""
        key = self.keys.unit(name)
        entry = (await self.transactions.settled(key)).entries.get(key)
        return decode_stored_unit(name, entry) if entry else None

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

    async def states(self, machine: MachineId | None = None) -> tuple[UnitState, ...]:
        """What every machine, or that one, says of its units, at one revision."""
        prefix = self.keys.states_of(machine) if machine else self.keys.states
        return (await self._part(prefix)).states

    async def machines(self) -> tuple[Machine, ...]:
        """The machines that are there, with their metadata, at one revision."""
        cluster = await self._part(self.keys.machines, self.keys.metadata, self.keys.cordons)
        return tuple(cluster.machines.values())

    async def cordons(self) -> Mapping[MachineId, Cordon]:
        """The machines that take no new units, whether they are there or not."""
        return (await self._part(self.keys.cordons)).cordons

    async def hold(self) -> Hold | None:
        """The brake on a mass loss while it is on, with the machines that are still gone."""
        return (await self._part(self.keys.hold, self.keys.machines)).current_hold

    async def losses(self) -> Cluster:
        """What of the cluster tells of machines that are gone, at one revision."""
        keys = self.keys
        of_machines = (keys.machines, keys.departures, keys.engine)
        return await self._part(*of_machines, keys.schedule, keys.claims, keys.refusals)

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

    async def apply(
        self,
        changes: Sequence[UnitChange],
        *,
        by: str,
        at_revision: int | None = None,
        fence: Leader | None = None,
    ) -> dict[UnitName, bool]:
        """Make all of the changes or none, and say of each whether the unit's contents are new.

        Of a unit that was to be destroyed it is said whether it was there. A machine stops its
        units when it learns that they are gone. With `at_revision` nothing of any unit may have
        changed since then (`Cluster.latest_change`), and with a `fence` that leader has to lead.

        Raises NotFound for a unit that is neither stored nor given contents; Conflict if somebody
        changed one of the units at the same moment, or any since `at_revision`; InvalidRequest if
        the changes are too many to be one write.
        """
        changes = merge_changes(changes)
        upload = Upload(self.store, self.keys)
        for _ in range(_ATTEMPTS):
            snapshot = await self.transactions.settled(*self._unit_prefixes(changes))
            latest = self.transactions.latest(snapshot)
            if at_revision not in (None, latest):
                raise Conflict(f"{_MOVED} {at_revision} (it is {latest} now); look at it again")
            stored = {c.name: snapshot.entries.get(self.keys.unit(c.name)) for c in changes}
            known = {name: entry for name, entry in stored.items() if entry}
            decided = decide_writes(changes, known, by=by, at_s=time.time())
            upload = upload if upload.lasts(snapshot) else Upload(self.store, self.keys)
            more = [] if at_revision is None else [Guard(self.keys.latest_change, modified=latest)]
            more += [Guard(self.keys.engine, created=fence.created)] if fence else []
            if await self._write(decided.writes, upload, by=by, latest=latest, more=more):
                return dict(decided.outcome)
        raise Conflict("other units change all the time; try again")

    async def preview(
        self, changes: Sequence[UnitChange]
    ) -> tuple[Cluster, dict[UnitName, UnitRecord | None]]:
        """The cluster, and the records that the changes would write (None: removed).

        Raises what `apply` raises; nothing is written.
        """
        keys = self.keys
        prefixes = (keys.units, keys.machines, keys.metadata, keys.schedule, keys.states)
        more = (keys.cordons, keys.refusals, keys.departures, keys.claims, keys.engine)
        snapshot = await self.transactions.settled(*prefixes, *more)
        cluster = decode_cluster(keys, snapshot.entries.values(), snapshot.revision)
        entries = {c.name: snapshot.entries.get(keys.unit(c.name)) for c in changes}
        known = {name: entry for name, entry in entries.items() if entry}
        decided = decide_writes(merge_changes(changes), known, by="", at_s=time.time())
        following = cluster.revision + 1
        return cluster, {
            write.name: write.record
            and replace(write.record, revision=following, created=write.record.created or following)
            for write in decided.writes
        }

    def _unit_prefixes(self, changes: Sequence[UnitChange]) -> list[str]:
        if len(changes) > _FEW:
            return [self.keys.units]
        return [self.keys.unit(change.name) for change in changes]

    async def _write(
        self,
        writes: Sequence[UnitWrite],
        upload: Upload,
        *,
        by: str,
        latest: int,
        more: Sequence[Guard],
    ) -> bool:
        """Write what was decided on, unless `more` guards fail; False if it has to be anew."""
        if not writes:
            return True
        keys = self.keys
        events = [self.event_now(by=by, unit=write.name, what=write.what) for write in writes]
        operations: list[Operation] = [write.operation(keys) for write in writes]
        operations += event_puts(keys, events)
        files = {
            keys.file(text_digest(w.file.text)): w.file.text.encode() for w in writes if w.file
        }
        guards = [*(write.guard(keys) for write in writes), *more]
        whole = [*operations, *(Put(key, value) for key, value in files.items())]
        if fits(len(guards), whole):
            commit = await self.transactions.commit(guards, whole)
            return commit.succeeded or await self._check_unchanged(writes)
        if await upload.add(files):
            return False  # that took a while: look again before it is made
        return await self.transactions.commit_large(latest, operations, upload, more)

    async def _check_unchanged(self, writes: Sequence[UnitWrite]) -> bool:
        """False if the units are as they were seen; raises Conflict if they have changed."""
        keys = {write.name: self.keys.unit(write.name) for write in writes}
        entries = (await self.transactions.settled(*keys.values())).entries
        for write in writes:
            entry = entries.get(keys[write.name])
            if write.seen != (entry.modified if entry else 0):
                names = ", ".join(keys)
                raise Conflict(
                    f"{names} was changed by somebody else at the same moment; try again"
                )
        return False

    async def destroy(self, name: UnitName, *, by: str) -> None:
        """Remove the unit; raises NotFound."""
        if not (await self.apply([UnitChange(name=name, destroy=True)], by=by))[name]:
            raise NotFound(f"unit does not exist: {name}")

    async def set_metadata(
        self, changes: Sequence[tuple[MachineId, str, str | None]], *, by: str
    ) -> None:
        """Set metadata keys of machines, which need not be there now; None takes a key away."""
        final = {self.keys.metadatum(machine, key): value for machine, key, value in changes}
        batch = Batch(self.store, self.keys)
        for key, value in final.items():
            written = (value or "").encode()
            what = f"metadata {key.removeprefix(self.keys.metadata)} = {value or '(removed)'}"
            await batch.add(
                Decision([Put(key, written)], events=[self.event_now(by=by, what=what)])
            )
        await batch.flush()

    async def cordon(self, machine: MachineId, cordon: Cordon) -> None:
        """Let the machine, which need not be there now, take no new units."""
        deed = "drains" if cordon.drain else "cordons"
        what = f"{deed} machine {machine}" + (f": {cordon.why}" if cordon.why else "")
        put = Put(self.keys.cordon(machine), json.dumps(encode_cordon(cordon)).encode())
        await self.store.commit([], [put, self.event_put(by=cordon.by, what=what)])

    async def uncordon(self, machine: MachineId, *, by: str) -> None:
        """Let the machine take units again; raises NotFound if it is not cordoned."""
        key = self.keys.cordon(machine)
        if key not in (await self.store.read(key)).entries:
            raise NotFound(f"machine {machine} is not cordoned")
        event = self.event_put(by=by, what=f"uncordons machine {machine}")
        await self.store.commit([], [Delete(key), event])

    async def release_hold(self, *, by: str) -> None:
        """End the brake on a mass loss: the leader gives up the machines that are held.

        Raises NotFound if none are held, Conflict if the hold changed at the same moment.
        """
        key = self.keys.hold
        entry = (await self.store.read(key)).entries.get(key)
        if entry is None:
            raise NotFound("no machines are held")
        event = self.event_put(by=by, what="released the hold on machines that vanished")
        commit = await self.store.commit(
            [Guard(key, modified=entry.modified)], [Delete(key), event]
        )
        if not commit.succeeded:
            raise Conflict("the hold has just changed; look at it again")

    async def trim_events(self, keep: int) -> int:
        """Remove all but the newest events; the number of entries that were removed.

        Of every unit that is there its last few stay, however long ago they were.
        """
        snapshot = await self.store.read(self.keys.events, self.keys.units)
        old = expired(snapshot.entries, self.keys, keep)
        batch = Batch(self.store, self.keys)
        for key in old:
            await batch.add(Decision([Delete(key)]))
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
        event = self.event_put(by=f"machine {machine}", what="leaves the cluster on purpose")
        await self.store.commit([], [Put(self.keys.departure(machine), b"{}", lease), event])

    async def publish_states(
        self,
        machine: MachineId,
        states: Mapping[UnitName, UnitState | None],
        lease: LeaseId,
    ) -> None:
        """Write states under the machine's lease; None removes one. Raises LeaseLost."""
        batch = Batch(self.store, self.keys)
        for unit, state in states.items():
            key = self.keys.state(machine, unit)
            operation: Operation = Delete(key)
            if state is not None:
                value = json.dumps(encode_state(state), separators=(",", ":")).encode()
                operation = Put(key, value, lease)
            await batch.add(Decision([operation]))
        await batch.flush()

    # What is told of others' writes

    def event_now(self, *, by: str, unit: str = "", what: str) -> Event:
        """What happens just now, by this machine's clock."""
        return Event(at_s=time.time(), by=by, unit=unit, what=what)

    def event_put(self, *, by: str, unit: str = "", what: str) -> Put:
        """The write that tells of one thing which happens just now."""
        (put,) = event_puts(self.keys, [self.event_now(by=by, unit=unit, what=what)])
        return put

    # The engine's writes

    def assignment_put(self, row: Assignment) -> Put:
        return Put(self.keys.assignment(row.machine, row.unit), encode_assignment(row))

    def refusal_put(self, refusal: Refusal) -> Put:
        return Put(self.keys.refusal(refusal.unit), encode_refusal(refusal))
