from pathlib import Path

import pytest

from cli.sandbox.contents import Blank, Gone, Link, Text
from cli.sandbox.host import (
    has_unified_cgroups,
    let_through,
    parse_hierarchies,
    parse_mounts,
    run,
    write_items,
)
from fleet.errors import Unavailable

TOP = "/run/fleet-sandbox/demo"
MOUNTS = f"""\
1 0 8:1 / / rw - ext4 /dev/vda rw
2 1 0:9 / /run/fleet-sandbox/demo-two rw - tmpfs fleet-sandbox rw
3 1 0:5 / {TOP} rw - tmpfs fleet-sandbox rw
4 3 0:4 net:[1] {TOP}/net/hub rw - nsfs nsfs rw
5 3 0:6 / {TOP}/root/fleet1 rw - overlay fleet-sandbox rw
6 5 0:7 / {TOP}/root/fleet1/usr rw - overlay fleet-sandbox rw
"""
HYBRID = """\
20 1 0:20 / /sys/fs/cgroup rw - tmpfs cgroup rw
21 20 0:21 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
22 20 0:22 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
23 20 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
24 20 0:23 / /run/elsewhere rw - cgroup2 cgroup2 rw
"""


def test_mounts_of_a_sandbox_come_off_from_the_inside() -> None:
    assert parse_mounts(MOUNTS, TOP) == [
        f"{TOP}/root/fleet1/usr",
        f"{TOP}/root/fleet1",
        f"{TOP}/net/hub",
        TOP,
    ]


@pytest.mark.parametrize(
    ("mountinfo", "expected"),
    [
        pytest.param(HYBRID, ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"], id="hybrid"),
        pytest.param(
            "20 1 0:20 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw",
            ["/sys/fs/cgroup"],
            id="unified, with an optional field",
        ),
        pytest.param(MOUNTS, [], id="none"),
    ],
)
def test_hierarchies_are_those_systemd_works_with(mountinfo: str, expected: list[str]) -> None:
    assert parse_hierarchies(mountinfo) == expected


def test_unified_cgroups_are_recognised_by_the_kernel_s_file(tmp_path: Path) -> None:
    assert not has_unified_cgroups([str(tmp_path)])
    (tmp_path / "cgroup.controllers").touch()
    assert has_unified_cgroups(["/nothing", str(tmp_path)])


def test_items_replace_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/old.service").touch()
    (tmp_path / "etc/hostname").symlink_to("/nowhere/at/all")
    (tmp_path / "etc/.updated").touch()

    write_items(
        tmp_path,
        [
            Blank(path="etc/systemd", mode=0o700),
            Text(path="etc/systemd/system/new.service", text="[Unit]\n"),
            Link(path="etc/systemd/system/alias.service", target="new.service"),
            Text(path="etc/hostname", text="fleet1\n", mode=0o600),
            Gone(path="etc/.updated"),
            Gone(path="etc/nothing"),
        ],
    )

    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()) == [
        "etc/hostname",
        "etc/systemd/system/alias.service",
        "etc/systemd/system/new.service",
    ]
    assert (tmp_path / "etc/hostname").read_text() == "fleet1\n"
    assert not (tmp_path / "etc/hostname").is_symlink()
    assert (tmp_path / "etc/hostname").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "etc/systemd").stat().st_mode & 0o777 == 0o700


def test_command_that_fails_says_which_and_why() -> None:
    with pytest.raises(Unavailable, match="`sh -c echo no >&2; exit 3` failed: no"):
        run(["sh", "-c", "echo no >&2; exit 3"])


def test_command_gets_its_input_and_gives_its_output() -> None:
    assert run(["cat"], stdin="text") == "text"


def test_private_folders_on_the_way_to_a_program_let_everybody_through(tmp_path: Path) -> None:
    home = tmp_path / "root"
    (home / "python/bin").mkdir(parents=True)
    (home / "letters").mkdir(mode=0o700)
    home.chmod(0o700)
    let_through(tmp_path, ["/root/python/bin", "/nowhere/at/all"])
    assert home.stat().st_mode & 0o777 == 0o701
    assert (home / "letters").stat().st_mode & 0o777 == 0o700
