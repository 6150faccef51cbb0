"""Desired units, made of what was found in folders.

All that was found is one set of units, as systemd's search path is, whatever the folders within:
a unit is there once, a drop-in may lie in another folder than its unit (a `base` and a `prod`).
Everything that is wrong is told at once, and nothing is made of a part.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fleet.errors import FleetError, InvalidRequest, InvalidUnit
from fleet.folder.dropins import dropin_folders, group_dropins, merge_dropins
from fleet.folder.found import BadFolder, Found, FoundFile
from fleet.folder.settings import FolderSettings, did_you_mean, read_settings
from fleet.names import UnitName, parse_name, split_name
from fleet.options import check_unit, fleet_options, read_requirements, unknown_options
from fleet.states import TargetState
from fleet.unit import UnitFile


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredUnit:
    """A unit as a folder wants it; `path` is the file it is from."""

    name: UnitName
    file: UnitFile
    target: TargetState
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """All that folders want; `source` is what their `fleet.toml` calls itself, or ""."""

    units: Mapping[UnitName, DesiredUnit] = field(default_factory=dict)
    source: str = ""
    warnings: tuple[str, ...] = ()


def assemble(found: Found) -> Desired:
    """The desired units; raises BadFolder with a line for everything that is wrong."""
    return _Assembly(found).result()


@dataclass(frozen=True, slots=True)
class _Scope:
    """Settings with the folder they speak of."""

    root: int
    folder: str
    settings: FolderSettings

    def covers(self, file: FoundFile) -> bool:
        inside = file.folder == self.folder or file.folder.startswith(f"{self.folder}/")
        return self.root == file.root and (inside or not self.folder)


class _Assembly:
    def __init__(self, found: Found) -> None:
        self._found = found
        self._problems: list[str] = []
        self._warnings = list(found.warnings)
        self._scopes = sorted(self._read_scopes(), key=lambda scope: len(scope.folder))
        self._dropins, twice = group_dropins(found.dropins)
        self._problems += twice
        self._files = self._by_name()

    def result(self) -> Desired:
        sources = self._with_instances()
        units: dict[UnitName, DesiredUnit] = {}
        for name, file in sorted(sources.items()):
            try:
                units[name] = self._unit(name, file)
            except FleetError as error:
                self._problems.append(str(error))
        self._check_dropins(sources)
        self._check_settings(sources)
        source = self._source()
        if self._problems:
            raise BadFolder(dict.fromkeys(self._problems))
        warnings = tuple(dict.fromkeys(self._warnings))
        return Desired(units=units, source=source, warnings=warnings)

    # Files

    def _read_scopes(self) -> Iterator[_Scope]:
        for file in self._found.settings:
            try:
                settings = read_settings(file.data, path=file.path)
            except InvalidRequest as error:
                self._problems.append(str(error))
                continue
            yield _Scope(file.root, file.folder, settings)

    def _by_name(self) -> dict[UnitName, FoundFile]:
        files: dict[UnitName, FoundFile] = {}
        for file in self._found.units:
            try:
                name = parse_name(file.name)
                if file.link and not _may_link(name, file.link):
                    raise InvalidRequest(_BAD_LINK.format(name=name, link=file.link))
            except InvalidRequest as error:
                self._problems.append(f"{file.path}: {error}")
                continue
            if name in files:
                self._problems.append(f"{file.path}: the same unit is in {files[name].path}")
            files.setdefault(name, file)
        return files

    def _with_instances(self) -> dict[UnitName, FoundFile]:
        """The files, and those of templates again for each of their instances that is listed."""
        files = dict(self._files)
        for scope in self._scopes:
            for template, settings in scope.settings.units.items():
                file = self._files.get(template)
                if file is None or not scope.covers(file):
                    continue
                for instance in settings.instances:
                    name = UnitName(template.replace("@.", f"@{instance}.", 1))
                    files.setdefault(name, file)
        return files

    # Units

    def _unit(self, name: UnitName, file: FoundFile) -> DesiredUnit:
        merged = merge_dropins(name, file, self._dropins)
        unit = merged.unit
        if not unit.options:
            raise InvalidUnit("the unit file has no options", path=file.path)
        try:
            check_unit(unit)
            read_requirements(fleet_options(unit), name)
        except InvalidUnit as error:
            path, line = merged.place(error.line)
            raise InvalidUnit(error.problem, path=path, line=line) from error
        for option in unknown_options(unit):
            path, line = merged.place(option.line)
            hint = f" (did you mean {option.nearest}?)" if option.nearest else ""
            self._warnings.append(
                f"{path}:{line}: unrecognized requirement in [X-Fleet] section: "
                f'"{option.name}"{hint}'
            )
        return DesiredUnit(name=name, file=unit, target=self._target(name, file), path=file.path)

    def _target(self, name: UnitName, file: FoundFile) -> TargetState:
        parts = split_name(name)
        if parts.is_template:
            return TargetState.INACTIVE
        target = TargetState.LAUNCHED
        for scope in self._scopes:
            if not scope.covers(file):
                continue
            target = scope.settings.target or target
        for scope in self._scopes:
            if not scope.covers(file):
                continue
            for key in (parts.template, name):
                own = scope.settings.units.get(key) if key else None
                target = (own.target if own else None) or target
        return target

    # What belongs to nothing

    def _check_dropins(self, units: Mapping[UnitName, FoundFile]) -> None:
        used = {folder for name in units for folder in dropin_folders(name)}
        for file in self._found.dropins:
            folder = file.folder.rpartition("/")[2]
            if folder not in used:
                hint = did_you_mean(folder.removesuffix(".d"), tuple(units))
                self._problems.append(f"{file.path}: there is no unit that it belongs to{hint}")

    def _check_settings(self, units: Mapping[UnitName, FoundFile]) -> None:
        if self._found.stray:
            return
        for scope in self._scopes:
            here = [name for name, file in units.items() if scope.covers(file)]
            for name in scope.settings.units:
                if name not in here:
                    hint = did_you_mean(name, tuple(here))
                    self._problems.append(
                        f'{scope.settings.path}: [units."{name}"]: '
                        f"there is no such unit in this folder{hint}"
                    )

    def _source(self) -> str:
        named = {s.settings.source: s for s in self._scopes if s.settings.source}
        for scope in named.values():
            if scope.folder:
                self._problems.append(
                    f"{scope.settings.path}: source belongs into the fleet.toml at the top"
                )
        if len(named) > 1:
            paths = " and ".join(sorted(s.settings.path for s in named.values()))
            self._problems.append(f"{paths} name different sources; give one with --source")
        return next(iter(named), "")


_BAD_LINK = (
    "it is a link to {link}, and fleet knows no second names of a unit; "
    "a link stands for an instance of a template, or for a file of the same name"
)


def _may_link(name: UnitName, target: str) -> bool:
    return target in (name, split_name(name).template)
