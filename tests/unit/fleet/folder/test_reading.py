"""Which files of a folder count, and what is said of the others."""

import os
from pathlib import Path

import pytest

from fleet.folder.found import BadFolder
from fleet.folder.reading import read_paths, split_text
from fleet.unit import MAX_UNIT_BYTES

WEB = "[Service]\nExecStart=/bin/true\n"


def write(folder: Path, *names: str, text: str = WEB) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(folder: Path) -> list[str]:
    return [file.name for file in read_paths([str(folder)]).units]


def problems(*paths: Path) -> tuple[str, ...]:
    with pytest.raises(BadFolder) as caught:
        read_paths([str(path) for path in paths])
    return caught.value.problems


def test_unit_files_count_at_any_depth_by_their_names(tmp_path: Path) -> None:
    write(tmp_path, "web.service", "a/b/db.timer", "a/web@.service", "README.md", "LICENSE", "x.sh")
    assert sorted(names(tmp_path)) == ["db.timer", "web.service", "web@.service"]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, ".git/hooks.service", ".web.service", "ok.service", "d.service.d/.x.conf")
    found = read_paths([str(tmp_path)])
    assert [file.name for file in found.units] == ["ok.service"]
    assert (found.dropins, found.warnings) == ((), ())


@pytest.mark.parametrize(
    ("name", "text", "warned"),
    [
        pytest.param("web.servce", WEB, True, id="a slip of the pen"),
        pytest.param("web.service~", f"# mine\n\n{WEB}", True, id="an editor's copy"),
        pytest.param("README.md", f"# Units\n\n```\n{WEB}```\n", False, id="a text about units"),
        pytest.param("setup.cfg", "[metadata]\nname = x\n", False, id="another ini file"),
        pytest.param("logo.png", "\0\1\2", False, id="no text"),
    ],
)
def test_file_that_looks_like_a_unit_is_warned_of(
    tmp_path: Path, name: str, text: str, warned: bool
) -> None:
    write(tmp_path, name, text=text)
    found = read_paths([str(tmp_path)])
    assert found.units == ()
    assert [str(tmp_path / name) in warning for warning in found.warnings] == [True] * warned


def test_dropins_are_the_conf_files_of_a_unit_s_folder(tmp_path: Path) -> None:
    write(tmp_path, "a/web.service.d/10.conf", "a/web.service.d/notes.txt")
    write(tmp_path, "service.d/all.conf")
    found = read_paths([str(tmp_path)])
    assert [(file.folder, file.name) for file in found.dropins] == [
        ("a/web.service.d", "10.conf"),
        ("service.d", "all.conf"),
    ]
    assert [warning.endswith("a drop-in is a file *.conf") for warning in found.warnings] == [True]


def test_link_is_followed_within_the_folder_and_nowhere_else(tmp_path: Path) -> None:
    write(tmp_path, "units/web@.service", "secret.service")
    units = tmp_path / "units"
    (units / "web@1.service").symlink_to("web@.service")
    files = {file.name: file for file in read_paths([str(units)]).units}
    assert (files["web@1.service"].link, files["web@1.service"].data) == (
        "web@.service",
        WEB.encode(),
    )
    (units / "evil.service").symlink_to("../secret.service")
    assert ["outside of" in problem for problem in problems(units)] == [True]


def test_link_that_leads_nowhere_or_round_is_told(tmp_path: Path) -> None:
    (tmp_path / "gone.service").symlink_to("nothing.service")
    (tmp_path / "round.service").symlink_to("round.service")
    told = problems(tmp_path)
    assert [problem.partition(":")[0] for problem in told] == [
        str(tmp_path / "gone.service"),
        str(tmp_path / "round.service"),
    ]


def test_link_to_a_folder_is_warned_of(tmp_path: Path) -> None:
    write(tmp_path, "a/web.service")
    (tmp_path / "b").symlink_to("a")
    found = read_paths([str(tmp_path)])
    assert len(found.units) == 1
    assert found.warnings == (f"{tmp_path / 'b'}: links to folders are not followed",)


def test_pipe_is_not_waited_for_and_a_large_file_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_paths([str(tmp_path)]).units == ()
    os.mkfifo(tmp_path / "pipe.service")
    with (tmp_path / "large.service").open("wb") as file:
        file.truncate(MAX_UNIT_BYTES + 1)
    assert ["the limit is" in problem for problem in problems(tmp_path)] == [True, False]


def test_one_file_brings_its_dropins_and_settings(tmp_path: Path) -> None:
    write(tmp_path, "web.service", "db.service", "web.service.d/a.conf", "db.service.d/b.conf")
    write(tmp_path, "fleet.toml", text='target = "loaded"\n')
    found = read_paths([str(tmp_path / "web.service")])
    assert [file.name for file in (*found.units, *found.dropins)] == ["web.service", "a.conf"]
    assert len(found.settings) == 1
    assert found.stray


def test_path_that_is_no_unit_is_told_with_all_others(tmp_path: Path) -> None:
    write(tmp_path, "web.conf")
    told = problems(tmp_path / "none.service", tmp_path / "web.conf")
    assert ["no such file" in told[0], "ends in its type" in told[1]] == [True, True]


def test_standard_input_holds_files_as_tail_prints_them() -> None:
    text = f"==> units/web.service <==\n{WEB}\n==> web.service.d/a.conf <==\n{WEB}"
    found = read_paths(["-"], text=text)
    assert [(file.name, file.data.decode()) for file in found.units] == [("web.service", WEB)]
    assert [(file.folder, file.name) for file in found.dropins] == [("web.service.d", "a.conf")]


def test_standard_input_is_one_unit_if_it_has_a_name() -> None:
    assert list(split_text(WEB, "web.service")) == [("web.service", WEB)]
    with pytest.raises(BadFolder, match="--name"):
        read_paths(["-"], text=WEB)
