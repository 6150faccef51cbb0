"""The units directory and its notes: whole files, adoption, and what a reboot voids."""

import os
from pathlib import Path

import pytest

from agent.local import LocalUnits, Note
from fleet.errors import Unavailable
from fleet.names import UnitName
from fleet.unit import parse_unit

TEXT = "# mine\n[Service]\nExecStart=/bin/a\n\n[X-Fleet]\nConflicts=%p-b.service\n"
FILE = parse_unit(TEXT)
UNIT = UnitName("a.service")


def units(folder: Path, boot_id: str = "boot-1") -> LocalUnits:
    return LocalUnits(folder / "fleet" / "units", boot_id=boot_id)


def test_file_has_the_authors_text_and_its_mode(tmp_path: Path) -> None:
    old_mask = os.umask(0o077)
    try:
        local = units(tmp_path)
        local.write(UNIT, FILE)
    finally:
        os.umask(old_mask)
    path = Path(local.path(UNIT))

    assert path.read_text() == TEXT
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == [UNIT]


def test_files_and_notes_are_adopted_by_the_next_run(tmp_path: Path) -> None:
    local = units(tmp_path)
    local.write(UNIT, FILE)
    local.note(UNIT, Note(hash=FILE.hash, launched=True, job="done"))

    adopted = units(tmp_path).read()[UNIT]
    assert adopted.hash == FILE.hash
    assert adopted.is_loaded
    assert adopted.is_launched
    assert adopted.note == Note(hash=FILE.hash, launched=True, job="done")
    assert adopted.requirements.conflicts == ("a-b.service",)


def test_notes_of_another_boot_count_for_nothing(tmp_path: Path) -> None:
    local = units(tmp_path)
    local.write(UNIT, FILE)
    local.note(UNIT, Note(hash=FILE.hash, launched=True))
    after = units(tmp_path, boot_id="boot-2")

    assert after.read()[UNIT].note is None


def test_new_contents_void_the_note_and_the_same_keep_it(tmp_path: Path) -> None:
    local = units(tmp_path)
    local.write(UNIT, FILE)
    local.note(UNIT, Note(hash=FILE.hash, launched=True))
    local.write(UNIT, FILE)
    assert local.read()[UNIT].is_launched

    local.write(UNIT, parse_unit("[Service]\nExecStart=/bin/b\n"))
    assert local.read()[UNIT].note is None
    assert units(tmp_path).read()[UNIT].note is None


def test_removed_unit_leaves_nothing(tmp_path: Path) -> None:
    local = units(tmp_path)
    local.write(UNIT, FILE)
    local.note(UNIT, Note(hash=FILE.hash))
    local.remove(UNIT)
    local.remove(UNIT)

    assert local.read() == {}
    assert units(tmp_path).read() == {}
    assert [path for path in (tmp_path / "fleet").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("a.service", b"\xff\xfe", id="not text"),
        pytest.param("a.service", b"[Service\n", id="not a unit file"),
    ],
)
def test_unreadable_file_is_there_but_matches_nothing(
    tmp_path: Path, name: str, data: bytes
) -> None:
    local = units(tmp_path)
    local.read()
    (local.directory / name).write_bytes(data)
    found = local.read()[UnitName(name)]

    assert found.file is None
    assert found.hash == "unreadable"
    assert not found.is_loaded


@pytest.mark.parametrize("name", [".new", "README", "a.service~", ".a.service", "x y.service"])
def test_other_files_are_passed_over(tmp_path: Path, name: str) -> None:
    local = units(tmp_path)
    local.read()
    (local.directory / name).write_text(TEXT)

    assert local.read() == {}


def test_hand_that_edits_or_removes_a_file_is_noticed(tmp_path: Path) -> None:
    local = units(tmp_path)
    local.write(UNIT, FILE)
    path = Path(local.path(UNIT))
    path.write_text("[Service]\nExecStart=/bin/other\n")
    assert local.read()[UNIT].hash != FILE.hash
    path.unlink()

    assert local.read() == {}


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"boot": "boot-1"}', b"\xff"])
def test_malformed_note_is_passed_over(tmp_path: Path, data: bytes) -> None:
    local = units(tmp_path)
    local.write(UNIT, FILE)
    (tmp_path / "fleet" / "loaded" / UNIT).write_bytes(data)

    assert units(tmp_path).read()[UNIT].note is None


def test_disk_that_fails_is_said_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "fleet").write_text("a file where a folder should be")

    with pytest.raises(Unavailable, match=f"cannot write {tmp_path}/fleet/units/a.service"):
        units(tmp_path).write(UNIT, FILE)


def test_linked_file_is_known_as_its_own(tmp_path: Path) -> None:
    local = units(tmp_path)
    local.write(UNIT, FILE)
    link = tmp_path / UNIT
    link.symlink_to(local.path(UNIT))

    assert local.owns(UNIT, str(link))
    assert local.owns(UNIT, local.path(UNIT))
    assert not local.owns(UNIT, "/lib/systemd/system/a.service")
    assert not local.owns(UNIT, "")


def test_passing_note_counts_until_fleetd_ends(tmp_path: Path) -> None:
    local = units(tmp_path)
    local.write(UNIT, FILE)
    local.note(UNIT, Note(hash=FILE.hash), passing=True)

    assert local.read()[UNIT].is_loaded
    assert not units(tmp_path).read()[UNIT].is_loaded

    local.note(UNIT, Note(hash=FILE.hash, launched=True))

    assert units(tmp_path).read()[UNIT].is_launched
