"""diff, apply and export: a folder of unit files and the cluster, as their users see it."""

import subprocess
from pathlib import Path

import pytest

from fleet.names import UnitName
from fleet.registry import Registry
from tests.unit.cli.fleetctl.cluster import LEGEND, Cluster, Fleetctl

WEB = "[Service]\nExecStart=/bin/sleep 100\n"
OTHER = "[Service]\nExecStart=/bin/sleep 200\n"


def write(name: str, text: str = WEB) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def source(cluster: Cluster, name: str) -> str:
    async def read(registry: Registry) -> str:
        return (await registry.cluster()).units[UnitName(name)].source

    return cluster.do(read)


# diff


def test_diff_shows_contents_target_state_and_place_and_changes_nothing(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    write("web.service", OTHER)
    fleetctl("start", "web.service")
    write("units/web.service")
    write("units/fleet.toml", 'target = "loaded"\n')
    write("units/new.service")
    events = cluster.events()
    outcome = fleetctl("diff", "units")
    revision = outcome.out.partition("(revision ")[2].partition(")")[0]
    assert outcome.status == 1
    heading, place, *rest = outcome.out.splitlines(keepends=True)
    assert heading == "new.service: created, loaded\n"
    assert place.startswith(f"  on {LEGEND}: ")
    assert "".join(rest) == (
        "--- /dev/null\n"
        "+++ units/new.service\n"
        "@@ -0,0 +1,2 @@\n"
        "+[Service]\n"
        "+ExecStart=/bin/sleep 100\n"
        "web.service: its contents change, target state launched -> loaded\n"
        f"  stays on {LEGEND}\n"
        "--- web.service in the cluster\n"
        "+++ units/web.service\n"
        "@@ -1,2 +1,2 @@\n"
        " [Service]\n"
        "-ExecStart=/bin/sleep 200\n"
        "+ExecStart=/bin/sleep 100\n"
        f"1 to create, 1 to change (revision {revision})\n"
    )
    assert int(revision) > 0
    assert cluster.events() == events


def test_diff_of_what_is_so_exits_with_nothing_to_say(fleetctl: Fleetctl) -> None:
    write("units/web.service", f"# mine\n{WEB}")
    fleetctl("apply", "units")
    outcome = fleetctl("diff", "units")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("1 unchanged (revision ")


def test_apply_has_new_contents_taken_so_many_at_a_time(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    write("units/web.service")
    write("units/db.service")
    fleetctl("apply", "units")
    write("units/web.service", OTHER)
    outcome = fleetctl("apply", "--max-unavailable", "1", "units")
    assert (outcome.status, outcome.err) == (0, "")
    assert [cluster.limit(name) for name in ("web.service", "db.service")] == [1, 0]


def test_other_comments_are_shown_and_stored_and_start_nothing(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    write("units/web.service", f"# mine\n{WEB}")
    fleetctl("apply", "units")
    history = list(cluster.history)
    write("units/web.service", f"# ours\n{WEB}")
    outcome = fleetctl("diff", "units")
    assert outcome.status == 1
    assert outcome.out.startswith("web.service: only its comments change\n")
    assert "-# mine\n+# ours\n" in outcome.out
    assert fleetctl("apply", "units").status == 0
    assert cluster.text("web.service") == f"# ours\n{WEB}"
    assert cluster.history == history


def test_diff_says_why_a_unit_would_run_nowhere(fleetctl: Fleetctl) -> None:
    write("units/web.service", f"{WEB}[X-Fleet]\nMachineMetadata=disk=tape\n")
    outcome = fleetctl("diff", "units")
    assert "  runs nowhere:\n" in outcome.out
    assert f"    {LEGEND}: " in outcome.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(("none",), "none: there is no such file or folder", id="no such folder"),
        pytest.param(("empty",), "there are no unit files in empty", id="nothing in it"),
        pytest.param(("bad",), "bad/web.service:1: section '[x' has no closing", id="malformed"),
        pytest.param(("--prune", "bad/ok.service"), "--source NAME", id="no source to prune"),
        pytest.param(("--endpoint=unix:///nowhere", "ok"), "nowhere", id="no cluster"),
    ],
)
def test_diff_that_fails_exits_with_2(
    fleetctl: Fleetctl, arguments: tuple[str, ...], told: str
) -> None:
    Path("empty").mkdir()
    write("bad/web.service", "[x\n")
    write("bad/ok.service")
    write("ok/web.service")
    outcome = fleetctl("diff", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert told in outcome.err


def test_diff_is_coloured_for_nobody_but_a_terminal(fleetctl: Fleetctl) -> None:
    write("units/web.service")
    assert "\x1b" not in fleetctl("diff", "units").out


# apply


def test_apply_creates_starts_updates_and_sums_up(fleetctl: Fleetctl, cluster: Cluster) -> None:
    write("units/web.service")
    write("units/job@.service")
    write("units/fleet.toml", 'source = "shop"\n[units."job@.service"]\ninstances = ["1"]\n')
    outcome = fleetctl("apply", "units")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "Unit job@.service created",
        "Unit job@1.service created",
        "Unit web.service created",
        f"Unit job@1.service launched on {LEGEND}",
        f"Unit web.service launched on {LEGEND}",
        "Applied from shop: 3 created.",
    ]
    assert source(cluster, "job@1.service") == "shop"
    write("units/web.service", OTHER)
    outcome = fleetctl("apply", "units")
    assert outcome.out.splitlines() == [
        "Unit web.service updated",
        f"Unit web.service launched on {LEGEND}",
        "Applied from shop: 1 changed, 2 unchanged.",
    ]
    assert cluster.text("web.service") == OTHER


def test_apply_of_what_is_so_touches_nothing(fleetctl: Fleetctl, cluster: Cluster) -> None:
    write("units/web.service")
    fleetctl("apply", "units")
    events, history = cluster.events(), list(cluster.history)
    outcome = fleetctl("apply", "units")
    assert outcome.status == 0
    assert outcome.out.endswith(": 1 unchanged.\n")
    assert (cluster.events(), cluster.history) == (events, history)


def test_apply_of_one_malformed_file_writes_nothing(fleetctl: Fleetctl, cluster: Cluster) -> None:
    write("units/a.service")
    write("units/b.service", "[Service]\nnonsense\n")
    outcome = fleetctl("apply", "units")
    assert (outcome.status, outcome.out) == (1, "")
    assert "units/b.service:2: 'nonsense'" in outcome.err
    assert cluster.events() == 0


def test_apply_warns_of_what_is_passed_over(fleetctl: Fleetctl) -> None:
    write("units/web.service")
    write("units/web.servce")
    outcome = fleetctl("apply", "units")
    assert (outcome.status, "WARNING: units/web.servce" in outcome.err) == (0, True)


def test_apply_dry_run_is_a_diff(fleetctl: Fleetctl, cluster: Cluster) -> None:
    write("units/web.service")
    outcome = fleetctl("apply", "--dry-run", "units")
    assert (outcome.status, outcome.out) == (1, fleetctl("diff", "units").out)
    assert cluster.events() == 0


def test_apply_without_block_says_what_it_did(fleetctl: Fleetctl, cluster: Cluster) -> None:
    write("units/web.service")
    cluster.deaf.add("web.service")
    outcome = fleetctl("apply", "--no-block", "--source=shop", "units")
    assert outcome.out == "Unit web.service created\nApplied from shop: 1 created.\n"


def test_apply_tells_of_a_unit_that_fails(fleetctl: Fleetctl, cluster: Cluster) -> None:
    write("units/web.service")
    cluster.failing["web.service"] = {"active": "failed", "sub": "failed", "result": "exit-code"}
    outcome = fleetctl("apply", "units")
    assert outcome.status == 1
    assert f"Unit web.service failed on {LEGEND}: exit-code" in outcome.err


def test_apply_at_a_revision_is_refused_once_the_cluster_has_moved(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    write("units/web.service")
    write("other.service")
    shown = fleetctl("diff", "units").out
    revision = shown.rpartition("(revision ")[2].partition(")")[0]
    fleetctl("start", "other.service")
    outcome = fleetctl("apply", f"--if-revision={revision}", "units")
    assert (outcome.status, outcome.out) == (1, "")
    assert f"the units have changed since revision {revision}" in outcome.err
    assert cluster.target("web.service") is None
    shown = fleetctl("diff", "units").out
    revision = shown.rpartition("(revision ")[2].partition(")")[0]
    assert fleetctl("apply", f"--if-revision={revision}", "units").status == 0


def test_apply_takes_files_from_standard_input(fleetctl: Fleetctl, cluster: Cluster) -> None:
    text = f"==> web.service <==\n{WEB}\n==> db.service <==\n{OTHER}"
    outcome = fleetctl("apply", "-", stdin=text)
    assert outcome.out.endswith("Applied: 2 created.\n")
    assert (cluster.text("web.service"), cluster.text("db.service")) == (WEB, OTHER)
    assert source(cluster, "web.service") == ""


# --prune


def test_prune_destroys_what_the_source_no_longer_has_and_nothing_else(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    for name in ("units/web.service", "units/old.service", "mine.service"):
        write(name)
    fleetctl("apply", "--source=shop", "units")
    fleetctl("start", "mine.service")
    Path("units/old.service").unlink()
    left = fleetctl("apply", "--source=shop", "units")
    assert "left alone (--prune destroys them): old.service" in left.err
    shown = fleetctl("diff", "--prune", "--source=shop", "units")
    assert "old.service: destroyed, no longer here\n  no longer on" in shown.out
    assert shown.status == 1
    outcome = fleetctl("apply", "--prune", "--source=shop", "units")
    assert outcome.out.splitlines() == [
        "Destroyed old.service",
        "Applied from shop: 1 destroyed, 1 unchanged.",
    ]
    assert cluster.target("old.service") is None
    assert (cluster.target("mine.service"), cluster.target("web.service")) == (
        "launched",
        "launched",
    )


@pytest.mark.parametrize("count", [pytest.param(7, id="many"), pytest.param(0, id="all")])
def test_prune_of_many_or_of_all_is_not_done_by_accident(
    fleetctl: Fleetctl, cluster: Cluster, count: int
) -> None:
    for number in range(8):
        write(f"units/a{number}.service")
    fleetctl("apply", "--no-block", "--source=shop", "units")
    for number in range(count or 8):
        Path(f"units/a{number}.service").unlink()
    events = cluster.events()
    outcome = fleetctl("apply", "--prune", "--source=shop", "units")
    assert (outcome.status, "Say --yes if that is meant" in outcome.err) == (1, True)
    assert cluster.events() == events
    outcome = fleetctl("apply", "--prune", "--yes", "--source=shop", "units")
    assert outcome.status == 0
    assert f"{count or 8} destroyed" in outcome.out


def test_unit_stopped_by_hand_is_started_again_and_stays_the_source_s(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    write("units/web.service")
    fleetctl("apply", "--source=shop", "units")
    fleetctl("unload", "web.service")
    assert source(cluster, "web.service") == "shop"
    assert "target state inactive -> launched" in fleetctl("diff", "--source=shop", "units").out
    fleetctl("apply", "--source=shop", "units")
    assert cluster.target("web.service") == "launched"


def test_source_of_a_clone_is_its_remote_and_the_folder_within(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    write("clone/prod/web.service")
    for arguments in (
        ("init", "-q"),
        ("remote", "add", "origin", "https://me:secret@git.example.com/shop.git"),
    ):
        subprocess.run(["git", "-C", "clone", *arguments], check=True)
    outcome = fleetctl("apply", "clone/prod")
    assert "Applied from git.example.com/shop:prod: 1 created." in outcome.out
    assert source(cluster, "web.service") == "git.example.com/shop:prod"


def test_source_of_a_plain_folder_is_this_host_s_path(fleetctl: Fleetctl, cluster: Cluster) -> None:
    write("units/web.service")
    fleetctl("apply", "units")
    assert source(cluster, "web.service").endswith(f":{Path('units').resolve()}")


# export


def test_export_applies_as_the_same_units(fleetctl: Fleetctl, cluster: Cluster) -> None:
    write("units/web.service", f"# mine\n{WEB}")
    write("units/job@.service")
    toml = '[units."job@.service"]\ninstances = ["1", "2"]\n'
    write("units/fleet.toml", f'{toml}[units."web.service"]\ntarget = "loaded"\n')
    fleetctl("apply", "units")
    outcome = fleetctl("export", "out")
    assert (outcome.status, outcome.out) == (0, "Exported 4 units to out\n")
    assert Path("out/web.service").read_text() == f"# mine\n{WEB}"
    assert fleetctl("diff", "out").status == 0


def test_export_brings_an_older_one_up_to_date_and_overwrites_nothing_else(
    fleetctl: Fleetctl,
) -> None:
    write("units/web.service")
    write("units/old.service")
    fleetctl("apply", "units")
    assert fleetctl("export", "out").status == 0
    fleetctl("destroy", "old.service")
    assert fleetctl("export", "out").status == 0
    assert not Path("out/old.service").exists()
    write("out/mine.txt", "x")
    outcome = fleetctl("export", "out")
    assert (outcome.status, "out holds mine.txt, which no export wrote" in outcome.err) == (1, True)
    assert fleetctl("export", "units").status == 1
