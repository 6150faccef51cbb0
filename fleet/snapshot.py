"""The cluster in a snapshot of the store: every key read, and the bad ones named.

A value that cannot be read is left out and named in `problems`; one bad key never hides the rest.
"""

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace

from fleet.claims import Claim, read_claim
from fleet.cluster import (
    Assignment,
    Cluster,
    Leader,
    Refusal,
    UnitRecord,
    decode_assignment,
    decode_refusal,
    decode_unit,
)
from fleet.errors import MALFORMED
from fleet.hold import Hold, decode_hold
from fleet.keys import Keys
from fleet.machine import (
    Cordon,
    Machine,
    MachineId,
    decode_cordon,
    decode_machine,
    merge_metadata,
)
from fleet.names import UnitName, parse_name
from fleet.states import UnitState, decode_state
from fleet.store.port import Entry
from fleet.sync.wanted import decode_wanted


def decode_cluster(keys: Keys, entries: Iterable[Entry], revision: int) -> Cluster:
    """The cluster in these entries, which are all of one revision."""
    draft = _Draft()
    readers: tuple[tuple[str, Callable[[_Draft, str, Entry], None]], ...] = (
        (keys.units, _read_unit),
        (keys.machines, _read_machine),
        (keys.metadata, _read_metadatum),
        (keys.schedule, _read_assignment),
        (keys.states, _read_state),
        (keys.refusals, _read_refusal),
        (keys.files, _read_file),
        (keys.departures, _read_departure),
        (keys.claims, _read_claim),
        (keys.pending_change, _read_pending_change),
        (keys.latest_change, _read_latest_change),
        (keys.latest_rows, _read_latest_rows),
        (keys.uploads, _read_upload),
        (keys.sync_wanted, _read_sync_wanted),
        (keys.cordons, _read_cordon),
        (keys.hold, _read_hold),
        (keys.engine, _read_leader),
    )
    for entry in entries:
        for prefix, read in readers:
            if entry.key.startswith(prefix):
                try:
                    read(draft, entry.key.removeprefix(prefix), entry)
                except MALFORMED as error:
                    draft.problems.append(describe_malformed(entry.key, error))
                break
    return draft.finish(revision)


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
            rows.append(decode_assignment(machine, unit, entry.value, entry.modified))
        except MALFORMED as error:
            problems.append(describe_malformed(entry.key, error))
    return rows, problems


def describe_malformed(key: str, error: BaseException) -> str:
    """A sentence on a value that cannot be read, which does not repeat the value."""
    return f"{key} holds a malformed value: {type(error).__name__}: {error}"


class _Draft:
    """What has been read so far, before metadata is merged over machines."""

    def __init__(self) -> None:
        self.units: dict[UnitName, UnitRecord] = {}
        self.machines: dict[MachineId, Machine] = {}
        self.registrations: dict[MachineId, int] = {}
        self.metadata: dict[MachineId, dict[str, str]] = {}
        self.schedule: list[Assignment] = []
        self.states: list[UnitState] = []
        self.refusals: dict[UnitName, Refusal] = {}
        self.files: dict[str, int] = {}
        self.leader: Leader | None = None
        self.hold: Hold | None = None
        self.departures: set[MachineId] = set()
        self.claims: list[Claim] = []
        self.pending_change = 0
        self.latest_change = 0
        self.latest_rows = 0
        self.uploading = False
        self.kept_files: frozenset[str] = frozenset()
        self.cordons: dict[MachineId, Cordon] = {}
        self.problems: list[str] = []

    def finish(self, revision: int) -> Cluster:
        return Cluster(
            revision=revision,
            units=dict(sorted(self.units.items())),
            machines={
                key: replace(
                    machine,
                    metadata=merge_metadata(machine.metadata, self.metadata.get(key, {})),
                    cordon=self.cordons.get(key),
                )
                for key, machine in sorted(self.machines.items())
            },
            schedule=tuple(sorted(self.schedule, key=lambda row: (row.unit, row.machine))),
            states=tuple(sorted(self.states, key=lambda state: (state.unit, state.machine))),
            refusals=self.refusals,
            files=self.files,
            leader=self.leader,
            hold=self.hold,
            departures=frozenset(self.departures),
            claims=tuple(self.claims),
            pending_change=self.pending_change,
            latest_change=self.latest_change,
            latest_rows=self.latest_rows,
            uploading=self.uploading,
            kept_files=self.kept_files,
            cordons=dict(sorted(self.cordons.items())),
            registrations=self.registrations,
            problems=tuple(self.problems),
        )


def split_key(rest: str) -> tuple[str, str]:
    """Machine and name of a key's last two parts; raises MALFORMED if it has not both."""
    machine, _, name = rest.partition("/")
    if not (machine and name):
        raise ValueError("the key has to end in <machine>/<name>")
    return machine, name


# What a key, of which only the end is given, and its value say; each raises MALFORMED.


def read_unit(rest: str, entry: Entry) -> UnitRecord:
    """The record, without the revisions of its entry."""
    return decode_unit(UnitName(rest), entry.value)


def read_assignment(rest: str, entry: Entry) -> Assignment:
    machine, unit = split_key(rest)
    return decode_assignment(MachineId(machine), UnitName(unit), entry.value, entry.modified)


def read_state(rest: str, entry: Entry) -> UnitState:
    machine, unit = split_key(rest)
    return _decode_state(UnitName(unit), MachineId(machine), entry.value)


@functools.lru_cache(maxsize=16384)
def _decode_state(unit: UnitName, machine: MachineId, value: bytes) -> UnitState:
    return decode_state(parse_name(unit), machine, json.loads(value))


def read_refusal(rest: str, entry: Entry) -> Refusal:
    return decode_refusal(parse_name(rest), entry)


def _read_unit(draft: _Draft, rest: str, entry: Entry) -> None:
    record = read_unit(rest, entry)
    draft.units[record.name] = replace(record, revision=entry.modified, created=entry.created)


def _read_machine(draft: _Draft, rest: str, entry: Entry) -> None:
    machine = decode_machine(json.loads(entry.value))
    if machine.id != rest:
        raise ValueError(f"it names machine {machine.id}")
    draft.machines[machine.id] = machine
    draft.registrations[machine.id] = entry.modified


def _read_metadatum(draft: _Draft, rest: str, entry: Entry) -> None:
    machine, key = split_key(rest)
    draft.metadata.setdefault(MachineId(machine), {})[key] = entry.value.decode()


def _read_assignment(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.schedule.append(read_assignment(rest, entry))


def _read_state(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.states.append(read_state(rest, entry))


def _read_refusal(draft: _Draft, rest: str, entry: Entry) -> None:
    refusal = read_refusal(rest, entry)
    draft.refusals[refusal.unit] = refusal


def _read_file(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.files[rest] = entry.modified


def _read_departure(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.departures.add(MachineId(rest))


def _read_claim(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.claims.append(read_claim(rest, entry))


def _read_pending_change(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.pending_change = entry.created


def _read_latest_change(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.latest_change = entry.modified


def _read_latest_rows(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.latest_rows = entry.modified


def _read_upload(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.uploading = True


def _read_sync_wanted(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.kept_files = decode_wanted(entry.value).files


def _read_cordon(draft: _Draft, rest: str, entry: Entry) -> None:
    draft.cordons[MachineId(rest)] = decode_cordon(json.loads(entry.value))


def _read_hold(draft: _Draft, rest: str, entry: Entry) -> None:
    if not rest:
        draft.hold = decode_hold(json.loads(entry.value))


def _read_leader(draft: _Draft, rest: str, entry: Entry) -> None:
    if not rest:
        machine = MachineId(str(json.loads(entry.value)["machine"]))
        draft.leader = Leader(machine=machine, created=entry.created)
