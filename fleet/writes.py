"""Changes of units as writes: what is to be stored for what users ask, given what is stored.

Plain values in and out. Whether all of it fits into one transaction of the store, and what is done
if it does not, is `fleet.transaction`'s.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fleet.change import UnitChange
from fleet.cluster import UnitRecord, at_most_unavailable, decode_unit, encode_unit
from fleet.errors import MALFORMED, Conflict, NotFound
from fleet.events import DESTROYED
from fleet.keys import Keys
from fleet.names import UnitName
from fleet.options import fleet_options, read_requirements
from fleet.snapshot import describe_malformed
from fleet.states import TargetState
from fleet.store.port import Delete, Entry, Guard, Put
from fleet.unit import UnitFile

Operation = Put | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitWrite:
    """What becomes of one unit: its record (None: removed), its text if new, and its story.

    `renews` says whether what systemd reads of it is new. `seen` is the revision of the record that
    this was decided on, 0 if there was none.
    """

    name: UnitName
    record: UnitRecord | None
    file: UnitFile | None = None
    renews: bool = False
    seen: int = 0
    what: str = ""

    def guard(self, keys: Keys) -> Guard:
        """That nobody has changed the unit since."""
        return Guard(keys.unit(self.name), modified=self.seen)

    def operation(self, keys: Keys) -> Operation:
        """The write of the unit's record."""
        key = keys.unit(self.name)
        return Put(key, encode_unit(self.record)) if self.record else Delete(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The writes, and of each unit whether its contents are new, or whether it was there to go."""

    writes: tuple[UnitWrite, ...] = ()
    outcome: Mapping[UnitName, bool] = field(default_factory=dict)


def decide_writes(
    changes: Sequence[UnitChange], stored: Mapping[UnitName, Entry], *, by: str, at_s: float
) -> Decided:
    """What the changes, one a unit, write over these records; nothing for what is so already.

    Raises NotFound for a unit that is neither stored nor given contents, and Conflict for one
    whose record is malformed, which can only be destroyed.
    """
    missing = [c.name for c in changes if not c.destroy and not c.file and c.name not in stored]
    if missing:
        raise NotFound(f"unit does not exist: {', '.join(missing)}")
    writes: list[UnitWrite] = []
    outcome: dict[UnitName, bool] = {}
    for change in changes:
        entry = stored.get(change.name)
        if change.destroy:
            outcome[change.name] = entry is not None
            if entry is not None:
                writes.append(_removal(change.name, entry))
            continue
        old = decode_stored_unit(change.name, entry) if entry else None
        write = _write(change, old, by=by, at_s=at_s)
        outcome[change.name] = write is not None and write.renews
        writes += [write] if write else []
    return Decided(writes=tuple(writes), outcome=outcome)


def merge_changes(changes: Iterable[UnitChange]) -> list[UnitChange]:
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
            source=before.source if change.source is None else change.source,
            max_unavailable=(change if change.file else before).max_unavailable,
        )
    return list(merged.values())


def decode_stored_unit(name: UnitName, entry: Entry) -> UnitRecord:
    """The unit record of an entry, with its revisions; raises Conflict if it is malformed."""
    try:
        record = decode_unit(name, entry.value)
    except MALFORMED as error:
        problem = describe_malformed(entry.key, error)
        raise Conflict(f"{problem}; destroy {name} and submit it again") from error
    return replace(record, revision=entry.modified, created=entry.created)


def renews_text(change: UnitChange, old: UnitRecord) -> bool:
    """Whether the change brings an author's text other than the stored one."""
    file = change.file
    return file is not None and not change.rendered and text_digest(file.text) != old.file


def text_digest(text: str) -> str:
    """The name under which an author's text is stored, once however many units share it."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _removal(name: UnitName, entry: Entry) -> UnitWrite:
    return UnitWrite(name=name, record=None, seen=entry.modified, what=DESTROYED)


def _write(change: UnitChange, old: UnitRecord | None, *, by: str, at_s: float) -> UnitWrite | None:
    """The write that the change takes, or None if all is so already."""
    file = change.file
    if old is not None and (file is None or file.hash == old.hash):
        source = old.source if change.source is None else change.source
        record = replace(old, target=change.target or old.target, source=source)
        if file is not None and renews_text(change, old):
            record = replace(record, file=text_digest(file.text))
        else:
            file = None
    elif file is not None:
        record = _new_record(change, file, old)
    else:
        raise NotFound(f"unit does not exist: {change.name}")
    if record == old:
        return None
    return UnitWrite(
        name=change.name,
        record=replace(record, by=by, at_s=at_s),
        file=file,
        renews=old is None or record.hash != old.hash,
        seen=old.revision if old else 0,
        what=_story(record, old),
    )


def _new_record(change: UnitChange, file: UnitFile, old: UnitRecord | None) -> UnitRecord:
    before = old.source if old else ""
    options = fleet_options(file)
    return UnitRecord(
        name=change.name,
        hash=file.hash,
        file=text_digest(file.text),
        target=change.target or TargetState.INACTIVE,
        options=tuple((option.name, option.value) for option in options),
        source=before if change.source is None else change.source,
        requirements=at_most_unavailable(
            read_requirements(options, change.name), change.max_unavailable
        ),
        max_unavailable=change.max_unavailable,
    )


def _story(record: UnitRecord, old: UnitRecord | None) -> str:
    """What the event of a write says."""
    stored = ""
    if old is None or record.hash != old.hash:
        stored = "stored, "
    elif record.file != old.file:
        stored = "comments stored, "
    elif record.target is old.target:
        return f"now belongs to {record.source}" if record.source else "belongs to no source now"
    source = f", from {record.source}" if record.source else ""
    return f"{stored}target state {record.target}{source}"
