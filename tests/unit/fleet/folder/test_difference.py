"""What differs between a folder and a cluster, and what is asked of the cluster then."""

from fleet.folder.assemble import Desired, DesiredUnit
from fleet.folder.difference import Inventory, StoredUnit, compare
from fleet.names import UnitName
from fleet.registry import UnitChange, text_digest
from fleet.states import TargetState
from fleet.unit import UnitFile, parse_unit

LAUNCHED, LOADED = TargetState.LAUNCHED, TargetState.LOADED
A, B, C = UnitName("a.service"), UnitName("b.service"), UnitName("c.service")


def contents(command: str = "/bin/true", comment: str = "") -> UnitFile:
    return parse_unit(f"{comment}[Service]\nExecStart={command}\n")


def desired(*names: str, file: UnitFile | None = None, target: TargetState = LAUNCHED) -> Desired:
    units = (
        DesiredUnit(name=UnitName(name), file=file or contents(), target=target, path=name)
        for name in names
    )
    return Desired(units={unit.name: unit for unit in units})


def stored(
    name: str, source: str = "", *, file: UnitFile | None = None, target: TargetState = LAUNCHED
) -> StoredUnit:
    made = file or contents()
    digest = text_digest(made.text)
    return StoredUnit(
        name=UnitName(name), hash=made.hash, file=digest, target=target, source=source
    )


def inventory(*units: StoredUnit) -> Inventory:
    return Inventory(revision=7, units={unit.name: unit for unit in units})


def test_unit_that_is_as_it_should_be_is_not_touched() -> None:
    found = compare(desired(A), inventory(stored(A, "git")), source="git")
    assert (found.differing, found.adopted, found.unchanged, found.revision) == ((), (), 1, 7)
    assert found.changes(prune=True) == ()


def test_other_comments_are_a_difference_that_restarts_nothing() -> None:
    file = contents(comment="# another comment\n")
    found = compare(desired(A, file=file), inventory(stored(A, "git")), source="git")
    (one,) = found.differing
    assert (one.renews, one.rewrites) == (False, True)
    assert [change.file for change in found.changes(prune=False)] == [file]


def test_new_unit_is_created_with_its_contents_and_source() -> None:
    (change,) = compare(desired(A), inventory(), source="git").changes(prune=False)
    assert change == UnitChange(name=A, file=contents(), target=LAUNCHED, source="git")


def test_new_contents_are_sent_and_a_new_target_state_alone() -> None:
    wanted = Desired(units={**desired(A).units, **desired(B, target=LOADED).units})
    there = inventory(stored(A, "git", file=contents("/bin/false")), stored(B, "git"))
    renewed, retargeted = compare(wanted, there, source="git").changes(prune=False)
    assert (renewed.file, renewed.target) == (contents(), LAUNCHED)
    assert (retargeted.file, retargeted.target) == (None, LOADED)


def test_unit_that_somebody_else_started_comes_to_belong_to_the_source() -> None:
    found = compare(desired(A), inventory(stored(A)), source="git")
    assert (found.differing, found.adopted) == ((), (A,))
    assert found.changes(prune=False) == (UnitChange(name=A, source="git"),)
    assert compare(desired(A), inventory(stored(A, "git")), source="").changes(prune=False) == ()


def test_prune_destroys_what_the_source_no_longer_has_and_nothing_else() -> None:
    there = inventory(stored(A, "git"), stored(B, "other"), stored(C))
    found = compare(desired(), there, source="git")
    assert [one.name for one in found.orphans] == [A]
    assert found.changes(prune=False) == ()
    assert found.changes(prune=True) == (UnitChange(name=A, destroy=True),)


def test_without_a_source_nothing_is_anybody_s() -> None:
    found = compare(desired(), inventory(stored(A), stored(B, "git")), source="")
    assert found.orphans == ()
