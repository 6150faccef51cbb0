"""What submit, load and start create: unit files found, and what is to be stored of them.

`read_local` looks at the disk; everything else decides on what was found there and in the cluster.
All arguments of a command are decided on before anything is sent.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.selection import is_pattern
from fleet.api.schema import Unit
from fleet.errors import FleetError, InvalidRequest, InvalidUnit
from fleet.names import (
    ADDRESSABLE_TYPES,
    UNIT_TYPES,
    UnitName,
    complete_name,
    parse_name,
    split_name,
)
from fleet.options import check_unit, unknown_options
from fleet.states import TargetState
from fleet.unit import MAX_UNIT_BYTES, UnitFile, read_unit, too_large, unit_from_options

_SUFFIXES = tuple(f".{kind}" for kind in ADDRESSABLE_TYPES)
# How far a stored unit may be meant to go and still be replaced by the command; fleet 1.0's rule.
_MAY_REPLACE = {
    "submit": (TargetState.INACTIVE,),
    "load": (TargetState.INACTIVE, TargetState.LOADED),
    "start": (TargetState.INACTIVE, TargetState.LOADED, TargetState.LAUNCHED),
}


class CreationFailed(FleetError):
    """Units that could not be created, each with its reason, a line each."""

    def __init__(self, reasons: Iterable[str]) -> None:
        super().__init__("\n".join(f"Error creating units: {reason}" for reason in reasons))


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """A unit file on this disk; `problem` says why its contents cannot be had."""

    path: str
    file: UnitFile | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One argument: the unit it names, its file on this disk, and that of its template.

    `neighbours` are the unit files of the folder if neither is there.
    """

    name: UnitName
    path: str
    local: Local | None = None
    local_template: Local | None = None
    neighbours: tuple[str, ...] = ()

    @property
    def template(self) -> UnitName | None:
        return split_name(self.name).template


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What becomes of one argument: contents to store (None: leave them), and what to say.

    `reworded` is a new text of the contents that are stored already: it changes nothing that runs.
    """

    name: UnitName
    file: UnitFile | None = None
    reworded: UnitFile | None = None
    said: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()


def read_local(argument: str) -> Wanted:
    """What the argument names and what of it is on this disk; raises InvalidRequest."""
    if is_pattern(argument):
        raise InvalidRequest(f"no file here matches {argument!r}; other new units are named")
    path = complete_path(argument)
    name = parse_name(complete_name(argument))
    template = split_name(name).template
    local = _read(Path(path))
    local_template = _read(Path(path).with_name(template)) if template else None
    return Wanted(
        name=name,
        path=path,
        local=local,
        local_template=local_template,
        neighbours=() if local or local_template else _unit_files(Path(path).parent),
    )


def _unit_files(folder: Path) -> tuple[str, ...]:
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError:
        return ()
    return tuple(name for name in names if name.endswith(_SUFFIXES))


def complete_path(argument: str) -> str:
    """The path of the unit file that the argument may be: `units/web` is `units/web.service`."""
    if argument.endswith(_SUFFIXES):
        return argument
    return f"{argument.rstrip('/')}.service"


def create(wanted: Wanted, stored: Mapping[UnitName, Unit], *, verb: str, replace: bool) -> Created:
    """What to store for the argument; raises FleetError with the reason if it cannot be."""
    found = stored.get(wanted.name)
    if found is not None:
        return _keep_or_replace(wanted, found, verb=verb, replace=replace)
    if wanted.local is not None:
        return _new(wanted.name, wanted.local)
    if wanted.template is None:
        raise InvalidRequest(
            f"unable to find Unit({wanted.name}) in Registry or on filesystem{_hint(wanted)}"
        )
    return _instantiate(wanted, stored.get(wanted.template), replace=replace)


def _hint(wanted: Wanted) -> str:
    """What may have been meant by a name that is nowhere."""
    near = difflib.get_close_matches(wanted.name, wanted.neighbours, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    kind = split_name(split_name(wanted.name).prefix).suffix
    if kind in UNIT_TYPES:
        return f"; fleetctl names no units of type {kind}"
    return ""


def create_all(
    arguments: Iterable[Wanted], stored: Mapping[UnitName, Unit], *, verb: str, replace: bool
) -> list[Created]:
    """What to store for every argument; raises CreationFailed with all that cannot be stored."""
    created: dict[UnitName, Created] = {}
    problems: list[str] = []
    for wanted in arguments:
        try:
            created.setdefault(wanted.name, create(wanted, stored, verb=verb, replace=replace))
        except FleetError as error:
            problems.append(str(error))
    if problems:
        raise CreationFailed(problems)
    return list(created.values())


def _read(path: Path) -> Local | None:
    try:
        return Local(path=str(path), file=read_unit(_bytes_of(path), path=str(path)))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (OSError, FleetError) as error:
        return Local(path=str(path), problem=f"failed getting Unit({path}) from file: {error}")


def _bytes_of(path: Path) -> bytes:
    """What is in the file; raises InvalidUnit, without reading it all, if it is no unit's size."""
    with path.open("rb") as file:
        data = file.read(MAX_UNIT_BYTES + 1)
        size = max(len(data), os.fstat(file.fileno()).st_size)
    if size > MAX_UNIT_BYTES:
        raise too_large(size, path=str(path))
    return data


def _keep_or_replace(wanted: Wanted, found: Unit, *, verb: str, replace: bool) -> Created:
    local = wanted.local or wanted.local_template
    name = wanted.name
    if wanted.local and (replace or verb == "submit"):
        reworded = _reworded(wanted.local, found)
        if reworded is not None:
            said = f"Unit {name} means the same; only its text is replaced, and nothing restarts"
            return Created(name=name, reworded=reworded, said=(said,))
    if not replace:
        kind = "unit" if wanted.local else "template unit"
        return Created(name=name, warned=_differs(found, local, kind=kind))
    if local is None:
        raise InvalidRequest(f"unable to find Unit({name}) on filesystem to replace it with")
    file = _contents(local)
    if file.hash == hash_of(found):
        return Created(name=name, said=(f"Found same Unit({name}) in Registry, nothing to do",))
    state = found.desired or TargetState.INACTIVE
    if state not in _MAY_REPLACE[verb]:
        hint = f"can not replace Unit({name}) in state '{state}', use the appropriate command"
        return Created(name=name, warned=(f"Warning: {hint}",))
    return _new(name, local)


def _reworded(local: Local, found: Unit) -> UnitFile | None:
    """The file here, if systemd reads it as it does the stored one, but the texts differ."""
    if local.file is None or found.text is None or local.file.text == found.text:
        return None
    return local.file if local.file.hash == hash_of(found) else None


def _instantiate(wanted: Wanted, template: Unit | None, *, replace: bool) -> Created:
    local = wanted.local_template
    if template is None or (replace and local is not None):
        if local is None:
            raise InvalidRequest(
                f"failed getting Unit({wanted.name}) from template: unable to find template "
                f"Unit({wanted.template}) in Registry or on filesystem{_hint(wanted)}"
            )
        return _new(wanted.name, local)
    file = template.file
    if file is None:
        raise InvalidRequest(f"template Unit({wanted.template}) in Registry is empty")
    return Created(
        name=wanted.name,
        file=file,
        warned=_differs(template, local, kind="unit") + _unrecognised(wanted.name, file),
    )


def _new(name: UnitName, local: Local) -> Created:
    file = _contents(local)
    if not file.options:
        raise InvalidUnit("the unit file has no options", path=local.path)
    check_unit(file, path=local.path)
    return Created(name=name, file=file, warned=_unrecognised(name, file))


def _contents(local: Local) -> UnitFile:
    if local.file is None:
        raise InvalidRequest(local.problem)
    return local.file


def hash_of(unit: Unit) -> str:
    """The hash of a stored unit's contents."""
    return unit_from_options(unit.options).hash


def _differs(found: Unit, local: Local | None, *, kind: str) -> tuple[str, ...]:
    if local is None or local.file is None or local.file.hash == hash_of(found):
        return ()
    return (
        f"WARNING: Unit {found.name} in registry differs from local {kind} file {local.path}."
        " Add --replace to override.",
    )


def _unrecognised(name: UnitName, file: UnitFile) -> tuple[str, ...]:
    return tuple(
        f'WARNING: Unit {name}: unrecognized requirement in [X-Fleet] section: "{option.name}"'
        + (f" (did you mean {option.nearest}?)" if option.nearest else "")
        for option in unknown_options(file)
    )
