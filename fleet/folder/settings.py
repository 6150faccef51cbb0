"""`fleet.toml`: what a folder says of its units beside their files.

```
source = "shop"                  # what the units here belong to, for apply --prune
target = "launched"              # of every unit without a word of its own

[units."web@.service"]
instances = ["1", "2"]           # web@1.service and web@2.service, of this template
target = "launched"              # of its instances

[units."report.service"]
target = "loaded"                # a timer starts it
```
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import FleetError, InvalidRequest
from fleet.names import UnitName, parse_name, split_name
from fleet.states import TargetState, parse_target

_KEYS = ("source", "target", "units")
_UNIT_KEYS = ("instances", "target")
_MAX_SOURCE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """What is said of one unit, or of a template and its instances."""

    target: TargetState | None = None
    instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSettings:
    """What one `fleet.toml` says; `path` is how people are told of it."""

    path: str
    source: str = ""
    target: TargetState | None = None
    units: Mapping[UnitName, UnitSettings] = field(default_factory=dict)


def read_settings(data: bytes, *, path: str) -> FolderSettings:
    """The settings in the file; raises InvalidRequest naming the path and what to mend."""
    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path}: this is not TOML: {error}") from error
    _check_keys(document, _KEYS, path)
    units = document.get("units", {})
    if not isinstance(units, dict):
        raise InvalidRequest(f'{path}: units has to be tables like [units."web.service"]')
    return FolderSettings(
        path=path,
        source=check_source(_text(document, "source", path), path=path),
        target=_target(document, path),
        units=dict(_unit(key, units[key], path) for key in units),
    )


def check_source(text: str, *, path: str = "") -> str:
    """The name of a source; raises InvalidRequest if it is no line of text."""
    if len(text) > _MAX_SOURCE or not text.isprintable():
        where = f"{path}: " if path else ""
        raise InvalidRequest(
            f"{where}a source is a line of text of at most {_MAX_SOURCE} letters, not {text[:60]!r}"
        )
    return text


def did_you_mean(name: str, known: "Mapping[Any, Any] | tuple[str, ...]") -> str:
    """`; did you mean NAME?`, or nothing if no known name is near."""
    near = difflib.get_close_matches(name, [str(each) for each in known], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _unit(key: str, table: object, path: str) -> tuple[UnitName, UnitSettings]:
    where = f'{path}: [units."{key}"]'
    try:
        name = parse_name(key)
    except FleetError as error:
        raise InvalidRequest(f"{where}: {error}") from error
    if not isinstance(table, dict):
        raise InvalidRequest(f"{where} has to be a table")
    _check_keys(table, _UNIT_KEYS, where)
    instances = _instances(table, name, where)
    return name, UnitSettings(target=_target(table, where), instances=instances)


def _instances(table: Mapping[str, Any], template: UnitName, where: str) -> tuple[str, ...]:
    listed = table.get("instances", [])
    if not isinstance(listed, list) or any(type(each) not in (str, int) for each in listed):
        raise InvalidRequest(f'{where}: instances has to be a list like ["1", "2"]')
    if listed and not split_name(template).is_template:
        raise InvalidRequest(f"{where}: only a template, like web@.service, has instances")
    names = [str(each) for each in listed]
    for name in names:
        try:
            parse_name(template.replace("@.", f"@{name}.", 1))
        except FleetError as error:
            raise InvalidRequest(f"{where}: instances: {error}") from error
        if not name or names.count(name) > 1:
            raise InvalidRequest(f"{where}: instances: {name!r} is empty or there twice")
    return tuple(names)


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise InvalidRequest(f"{where}: unknown key {key!r}{did_you_mean(key, known)}")


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}: {key} has to be a text in quotes")
    return value


def _target(table: Mapping[str, Any], where: str) -> TargetState | None:
    text = _text(table, "target", where)
    try:
        return parse_target(text) if "target" in table else None
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error}") from error
