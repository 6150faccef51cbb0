"""What this machine has of its units: their files, and a note of how far each was brought.

Files hold the author's own text and are replaced whole, so that nobody reads half of one. A note is
written after the deed: a unit without one is loaded again, which changes nothing that runs. After a
restart of fleetd files and notes say what is here, so that nothing is started twice, oneshots
above all. Notes count for the boot they were written in; then everything is loaded and launched
anew.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.binding import drop_in, drop_in_path
from fleet.errors import InvalidRequest, InvalidUnit, Unavailable
from fleet.names import UnitName, parse_name
from fleet.options import Requirements, fleet_options, read_requirements
from fleet.unit import UnitFile, read_unit

_log = logging.getLogger(__name__)

DEFAULT_DIRECTORY = "/run/fleet/units"
_NOTES = "loaded"
_NEW = ".new"  # no unit's name starts with a dot and has no type


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthNote:
    """What came of a unit's HealthCommand, for the unit that came up at `since_s`.

    `reason` is why it failed, empty if it did not, and `journal` has its last lines.
    """

    since_s: float
    reason: str = ""
    journal: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """How far a unit was brought: which contents systemd knows, and whether they were launched.

    `job` is the result of the start job, empty while it runs. Of a fenced unit it is noted under
    which generation of the lease it was launched, and that it ended while that was good. `health`
    is there if a launched unit has a HealthCommand and that came to an end.
    """

    hash: str
    launched: bool = False
    job: str = ""
    lease: str = ""
    ended: bool = False
    health: HealthNote | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalUnit:
    """A unit's file, if there is one that can be read, and its note, if there is one."""

    unit: UnitName
    file: UnitFile | None = None
    hash: str = ""
    note: Note | None = None
    requirements: Requirements = field(default_factory=Requirements)

    @property
    def is_loaded(self) -> bool:
        """Whether systemd was made to know the very contents of the file."""
        return self.note is not None and bool(self.hash) and self.note.hash == self.hash

    @property
    def is_launched(self) -> bool:
        return self.note is not None and self.note.launched


class LocalUnits:
    """The units directory and the notes beside it. Methods raise Unavailable if a disk fails."""

    def __init__(
        self, directory: str | Path, *, boot_id: str, drop_ins: Path | None = None
    ) -> None:
        """`drop_ins` is where systemd looks for what is added to units; no fenced ones without."""
        self._drop_ins = drop_ins
        self._directory = Path(directory)
        self._notes = self._directory.parent / _NOTES
        self._boot_id = boot_id
        self._units: dict[UnitName, LocalUnit] = {}
        self._seen: dict[UnitName, tuple[int, int, int]] = {}

    @property
    def directory(self) -> Path:
        return self._directory

    def path(self, unit: UnitName) -> str:
        """Where the unit's file lies, or would."""
        return f"{self._directory}/{unit}"  # a thousand units are some thousand of these

    def owns(self, unit: UnitName, fragment: str) -> bool:
        """Whether the path, as systemd tells it, is that of the unit's file here."""
        return bool(fragment) and os.path.realpath(fragment) == os.path.realpath(self.path(unit))

    def read(self) -> dict[UnitName, LocalUnit]:
        """Every unit that is here; only files that changed since the last time are read again."""
        with _translated("read", self._directory):
            first = not self._seen and not self._units
            self._make()
            found = self._scan()
            if first:
                self._read_notes()
        for unit in [*self._seen.keys() - found.keys()]:
            del self._seen[unit]
            self._set(unit, file=None, hash="", requirements=Requirements())
        for unit, stamp in found.items():
            if self._seen.get(unit) != stamp:
                self._seen[unit] = stamp
                self._adopt(unit)
        return dict(self._units)

    def get(self, unit: UnitName) -> LocalUnit | None:
        """What is here of the unit, as of the last read or write."""
        return self._units.get(unit)

    def all(self) -> Mapping[UnitName, LocalUnit]:
        """What is here of every unit, as of the last read or write."""
        return self._units

    def write(self, unit: UnitName, file: UnitFile) -> None:
        """Put the author's text in place; what was noted of other contents is void."""
        old = self._units.get(unit, LocalUnit(unit=unit)).note
        asked = requirements_of(unit, file)
        with _translated("write", self.path(unit)):
            self._make()
            if old is not None and old.hash != file.hash:
                self._drop_note(unit)
            self._bind(unit, file if asked.is_fenced else None)
            _replace(self._directory, unit, file.text.encode())
            self._seen[unit] = _stamp(os.stat(self.path(unit)))
        self._set(unit, file=file, hash=file.hash, requirements=asked)

    def note(self, unit: UnitName, note: Note, *, passing: bool = False) -> None:
        """Record how far the unit was brought; of a `passing` step the disk is spared.

        Should fleetd end before the next step is noted, it is as if this one had not been.
        """
        if not passing:
            with _translated("write", self._note_path(unit)):
                _replace(self._notes, unit, _encode_note(note, self._boot_id))
        self._set(unit, note=note)

    def remove(self, unit: UnitName) -> None:
        """Take away the unit's file and note; none is fine."""
        with _translated("remove", self.path(unit)):
            _unlink(self.path(unit))
            self._bind(unit, None)
            self._drop_note(unit)
        self._seen.pop(unit, None)
        self._units.pop(unit, None)

    def _bind(self, unit: UnitName, file: UnitFile | None) -> None:
        """Have the drop-in of a fenced unit with these contents there, and with None have none."""
        if self._drop_ins is None:
            return
        path = drop_in_path(self._drop_ins, unit)
        if file is not None:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _replace(path.parent, path.name, drop_in(file).encode())
        elif path.exists():
            path.unlink()
            with contextlib.suppress(OSError):  # somebody else has a drop-in there
                path.parent.rmdir()

    def _make(self) -> None:
        for directory in (self._directory, self._notes):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)

    def _scan(self) -> dict[UnitName, tuple[int, int, int]]:
        found = {}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if _is_unit(entry.name) and entry.is_file():
                    found[UnitName(entry.name)] = _stamp(entry.stat())
        return found

    def _adopt(self, unit: UnitName) -> None:
        path = self._directory / unit
        try:
            file = read_unit(path.read_bytes())
        except (InvalidUnit, OSError) as error:
            _log.warning("%s cannot be read and will be replaced: %s", path, error)
            self._set(unit, file=None, hash="unreadable", requirements=Requirements())
        else:
            asked = requirements_of(unit, file)
            self._set(unit, file=file, hash=file.hash, requirements=asked)

    def _set(self, unit: UnitName, **changes: object) -> None:
        old = self._units.get(unit, LocalUnit(unit=unit))
        new = replace(old, **changes)  # type: ignore[arg-type]
        if new.hash or new.note:
            self._units[unit] = new
        else:
            self._units.pop(unit, None)

    def _read_notes(self) -> None:
        for name in os.listdir(self._notes):
            if not _is_unit(name):
                continue
            try:
                note = _decode_note((self._notes / name).read_bytes(), self._boot_id)
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.warning("%s is passed over: %r", self._notes / name, error)
                continue
            if note is not None:
                self._set(UnitName(name), note=note)

    def _note_path(self, unit: UnitName) -> str:
        return f"{self._notes}/{unit}"

    def _drop_note(self, unit: UnitName) -> None:
        _unlink(self._note_path(unit))
        self._set(unit, note=None)


def requirements_of(unit: UnitName, file: UnitFile) -> Requirements:
    """What the file asks for; nothing if it is malformed, which is refused before it comes here."""
    try:
        return read_requirements(fleet_options(file), unit)
    except InvalidUnit:
        return Requirements()


def _encode_note(note: Note, boot_id: str) -> bytes:
    document = {"boot": boot_id, "hash": note.hash, "launched": note.launched, "job": note.job}
    if note.lease:
        document |= {"lease": note.lease, "ended": note.ended}
    if note.health:
        document["health"] = asdict(note.health)
    return json.dumps(document).encode()


def _decode_note(data: bytes, boot_id: str) -> Note | None:
    """The note, None if it is of another boot; raises ValueError, KeyError or TypeError."""
    document = json.loads(data)
    if document["boot"] != boot_id:
        return None
    return Note(
        hash=str(document["hash"]),
        launched=bool(document["launched"]),
        job=str(document["job"]),
        lease=str(document.get("lease", "")),
        ended=bool(document.get("ended", False)),
        health=_decode_health(document.get("health")),
    )


def _decode_health(found: dict[str, Any] | None) -> HealthNote | None:
    if found is None:
        return None
    return HealthNote(
        since_s=float(found["since_s"]),
        reason=str(found["reason"]),
        journal=tuple(str(line) for line in found["journal"]),
    )


def _is_unit(name: str) -> bool:
    try:
        return parse_name(name) == name and not name.startswith(".")
    except InvalidRequest:
        return False


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _replace(directory: Path, name: str, data: bytes) -> None:
    """Write a whole file in one step; no fsync, since it need not outlive the machine's boot."""
    new = f"{directory}/{_NEW}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "wb") as stream:
        os.fchmod(descriptor, 0o644)
        stream.write(data)
    os.replace(new, f"{directory}/{name}")


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.contextmanager
def _translated(action: str, path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"cannot {action} {path}: {error.strerror or error}") from error
