"""Which links are removed here, and which are left to systemd."""

from pathlib import Path

import pytest

from agent.links import take_links_back
from fleet.names import UnitName

UNIT = UnitName("web.service")
FILE = f"/run/fleet/units/{UNIT}"


def link(path: Path, target: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)
    return path


def test_lone_link_is_removed_and_no_other(tmp_path: Path) -> None:
    gone = link(tmp_path / UNIT, FILE)
    kept = link(tmp_path / "db.service", "/run/fleet/units/db.service")

    assert take_links_back(tmp_path, [UNIT, UnitName("none.service")]) == frozenset()
    assert not gone.is_symlink()
    assert kept.is_symlink()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param("multi-user.target.wants/web.service", FILE, id="it is wanted"),
        pytest.param("db.service.requires/web.service", "../web.service", id="it is required"),
        pytest.param("www.service", FILE, id="it has an alias"),
        pytest.param("www.service", "web.service", id="its alias leads to its link"),
        pytest.param("a.target.upholds/other.service", FILE, id="it is there by another name"),
    ],
)
def test_unit_with_another_link_is_left_to_systemd(tmp_path: Path, name: str, target: str) -> None:
    own, other = link(tmp_path / UNIT, FILE), link(tmp_path / name, target)

    assert take_links_back(tmp_path, [UNIT]) == {UNIT}
    assert own.is_symlink()
    assert other.is_symlink()


def test_file_that_somebody_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / UNIT).write_text("[Service]\nExecStart=/bin/true\n")

    assert take_links_back(tmp_path, [UNIT]) == frozenset()
    assert (tmp_path / UNIT).exists()


def test_folder_that_is_not_there_has_no_links(tmp_path: Path) -> None:
    assert take_links_back(tmp_path / "none", [UNIT]) == frozenset()
