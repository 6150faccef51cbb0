"""A cluster's units as a folder: what `assemble` makes the same units of again."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fleet.errors import NotFound
from fleet.folder.difference import Inventory, StoredUnit
from fleet.folder.found import SETTINGS
from fleet.names import UnitName, split_name
from fleet.states import TargetState

_HEADING = "# Written by fleetctl export; docs/gitops.md says what may stand here.\n"


def export_files(inventory: Inventory) -> dict[str, str]:
    """The files of the folder, by name: a unit's author's text each, and the settings.

    An instance whose text is its template's is only listed. Raises NotFound for a unit whose
    contents are not in the cluster.
    """
    missing = [unit.name for unit in inventory.units.values() if unit.text is None]
    if missing:
        raise NotFound(f"the contents of {', '.join(missing)} are not in the cluster")
    listed = {name for name, unit in inventory.units.items() if _is_listed(unit, inventory)}
    files: dict[str, str] = {SETTINGS: _settings(inventory, listed)}
    for name, unit in inventory.units.items():
        if name not in listed:
            files[name] = unit.text or ""
    return files


def _is_listed(unit: StoredUnit, inventory: Inventory) -> bool:
    template = split_name(unit.name).template
    stored = inventory.units.get(template) if template else None
    return stored is not None and stored.text == unit.text


def _settings(inventory: Inventory, listed: Iterable[UnitName]) -> str:
    instances: dict[UnitName, list[StoredUnit]] = {}
    for name in sorted(listed):
        template = split_name(name).template
        if template:
            instances.setdefault(template, []).append(inventory.units[name])
    tables: list[str] = []
    for template, units in sorted(instances.items()):
        names = [split_name(unit.name).instance or "" for unit in units]
        target = Counter(unit.target for unit in units).most_common(1)[0][0]
        tables.append(_table(template, target, names))
        tables += [_table(u.name, u.target) for u in units if u.target is not target]
    alone = inventory.units.keys() - set(listed)
    tables += [
        _table(name, inventory.units[name].target)
        for name in sorted(alone)
        if not split_name(name).is_template
        and inventory.units[name].target is not _told(name, instances)
    ]
    return "\n".join([_HEADING + _source(inventory), *filter(None, tables)])


def _told(name: UnitName, instances: Mapping[UnitName, Sequence[StoredUnit]]) -> TargetState:
    """What the unit is meant to be without a word of its own."""
    template = split_name(name).template
    if template is not None and template in instances:
        return Counter(unit.target for unit in instances[template]).most_common(1)[0][0]
    return TargetState.LAUNCHED


def _table(name: UnitName, target: TargetState, instances: Sequence[str] = ()) -> str:
    lines = [f"[units.{json.dumps(name)}]"]
    if instances:
        lines.append(f"instances = {json.dumps(list(instances))}")
    if not instances or target is not TargetState.LAUNCHED:
        lines.append(f'target = "{target}"')
    return "\n".join(lines) + "\n"


def _source(inventory: Inventory) -> str:
    """The source of all units, if they have one together."""
    sources = {unit.source for unit in inventory.units.values()}
    source = sources.pop() if len(sources) == 1 else ""
    return f"source = {json.dumps(source)}\n" if source else ""
