"""What would change in a cluster if it were made to match a folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.change import UnitChange
from fleet.cluster import Cluster
from fleet.folder.assemble import Desired, DesiredUnit
from fleet.names import UnitName
from fleet.states import TargetState
from fleet.unit import UnitFile
from fleet.writes import text_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUnit:
    """A unit as a cluster has it; `text` is its author's, where it was asked for.

    `hash` names what systemd reads of it, `file` its author's text.
    """

    name: UnitName
    hash: str
    file: str = ""
    target: TargetState
    source: str = ""
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All units of a cluster; `revision` is that of the last change of any of them."""

    revision: int = 0
    units: Mapping[UnitName, StoredUnit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitDifference:
    """One unit that the folder and the cluster disagree about: either of them may lack it."""

    name: UnitName
    desired: DesiredUnit | None = None
    stored: StoredUnit | None = None

    @property
    def renews(self) -> bool:
        """Whether what systemd reads of the unit differs."""
        return self.desired is not None and (
            self.stored is None or self.stored.hash != self.desired.file.hash
        )

    @property
    def rewrites(self) -> bool:
        """Whether the text differs, be it in comments and blanks alone, which restarts nothing."""
        return self.desired is not None and (
            self.stored is None or self.stored.file != text_digest(self.desired.file.text)
        )

    @property
    def retargets(self) -> bool:
        """Whether a unit that is there is meant to go elsewhere."""
        return (
            self.desired is not None
            and self.stored is not None
            and self.stored.target is not self.desired.target
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs, by name; what the source no longer has; and what is as it should be.

    `adopted` is as it should be, and only comes to belong to the source.
    """

    source: str = ""
    revision: int = 0
    differing: tuple[UnitDifference, ...] = ()
    orphans: tuple[UnitDifference, ...] = ()
    adopted: tuple[UnitName, ...] = ()
    unchanged: int = 0

    def changes(self, *, prune: bool, max_unavailable: int = 0) -> tuple[UnitChange, ...]:
        """What to ask of the cluster; `prune` destroys what the source no longer has.

        So many of a kind may be down at a time for their new contents; 0 leaves that to them.
        """
        source = self.source or None
        wanted = [
            UnitChange(
                name=one.name,
                file=one.desired.file if one.rewrites else None,
                target=one.desired.target,
                source=source,
                max_unavailable=max_unavailable if one.rewrites else 0,
            )
            for one in self.differing
            if one.desired is not None
        ]
        adopted = [UnitChange(name=name, source=source) for name in self.adopted]
        gone = [UnitChange(name=one.name, destroy=True) for one in self.orphans if prune]
        return (*wanted, *adopted, *gone)


def inventory_of(cluster: Cluster, files: Mapping[str, UnitFile] | None = None) -> Inventory:
    """The units of a cluster, with their authors' texts if its files are given by digest."""
    known = files or {}
    units = {
        name: StoredUnit(
            name=name,
            hash=record.hash,
            file=record.file,
            target=record.target,
            source=record.source,
            text=known[record.file].text if record.file in known else None,
        )
        for name, record in cluster.units.items()
    }
    return Inventory(revision=cluster.latest_change, units=units)


def compare(desired: Desired, inventory: Inventory, *, source: str) -> Difference:
    """What differs. Units that the folder does not know differ only if they are of its source."""
    differing: list[UnitDifference] = []
    adopted: list[UnitName] = []
    unchanged = 0
    for name, unit in desired.units.items():
        stored = inventory.units.get(name)
        one = UnitDifference(name=name, desired=unit, stored=stored)
        if one.rewrites or one.retargets:
            differing.append(one)
        elif source and stored is not None and stored.source != source:
            adopted.append(name)
        else:
            unchanged += 1
    orphans = [
        UnitDifference(name=name, stored=stored)
        for name, stored in inventory.units.items()
        if source and stored.source == source and name not in desired.units
    ]
    return Difference(
        source=source,
        revision=inventory.revision,
        differing=tuple(differing),
        orphans=tuple(orphans),
        adopted=tuple(adopted),
        unchanged=unchanged,
    )
