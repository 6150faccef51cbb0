"""sync: what is followed, as its users see it; the follower itself is tried with real git."""

import json
import threading
from dataclasses import replace

import pytest

from fleet.names import UnitName
from fleet.registry import Registry, UnitChange, text_digest
from fleet.states import TargetState
from fleet.store.port import Delete, Put
from fleet.sync.values import Commit, SyncStatus, encode_status
from fleet.sync.wanted import Wanted, encode_wanted
from fleet.unit import parse_unit
from tests.unit.cli.fleetctl.cluster import HERE, Cluster, Fleetctl, wait_until

WEB = "[Service]\nExecStart=/bin/sleep 100\n"
OLD = UnitName("old.service")
URL = "https://git.example.com/shop.git"
COMMIT = Commit(id="3f2c9b1d0711", author="Alice <a@example.com>", subject="Port", at_s=5.0)
GOOD = SyncStatus(
    applied=COMMIT, applied_at_s=6.0, result="1 changed", tried=COMMIT.id, checked_at_s=7.0, by=HERE
)


def look(cluster: Cluster, status: SyncStatus, wanted: Wanted | None = None) -> None:
    """What the leader writes after a look."""

    async def write(registry: Registry) -> None:
        root = registry.keys.sync
        puts = [Put(f"{root}status", json.dumps(encode_status(status)).encode())]
        puts += [Put(f"{root}wanted", encode_wanted(wanted))] if wanted else []
        await registry.store.commit([], puts)

    cluster.do(write)


def follow(fleetctl: Fleetctl, *more: str) -> None:
    assert fleetctl("sync", "set", "--no-block", *more, URL).status == 0


def test_status_of_nothing_says_how_to_begin(fleetctl: Fleetctl) -> None:
    outcome = fleetctl("sync", "status")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "no repository is followed: fleetctl sync set URL\n"


def test_status_shows_what_is_followed_and_the_commit_that_is_applied(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    follow(fleetctl, "--path=units/", "--branch=prod", "--interval=10")
    assert "no leader has looked at it yet" in fleetctl("sync", "status").out
    look(cluster, GOOD)
    outcome = fleetctl("sync", "status")
    assert outcome.status == 0
    assert f"{URL}, branch prod, folder units\n" in outcome.out
    assert "3f2c9b1d07 (Port, by Alice <a@example.com>) at " in outcome.out
    assert "1 changed" in outcome.out


@pytest.mark.parametrize(
    ("status", "told"),
    [
        pytest.param(replace(GOOD, tried="abc", problem="x:2: bad"), "abc: x:2: bad", id="refused"),
        pytest.param(replace(GOOD, unreachable="git: no host"), "git: no host", id="unreachable"),
    ],
)
def test_status_of_what_went_wrong_says_so_and_exits_with_1(
    fleetctl: Fleetctl, cluster: Cluster, status: SyncStatus, told: str
) -> None:
    follow(fleetctl)
    look(cluster, status)
    outcome = fleetctl("sync", "status")
    assert outcome.status == 1
    assert told in outcome.out


def test_drift_is_listed(fleetctl: Fleetctl, cluster: Cluster) -> None:
    follow(fleetctl)
    look(cluster, GOOD, Wanted(units={UnitName("web.service"): ("h", "f", "launched")}))
    outcome = fleetctl("sync", "status")
    assert outcome.status == 1
    assert "drift: web.service: it is not in the cluster\n" in outcome.err


def applied(cluster: Cluster, source: str, **texts: str) -> None:
    """As the leader leaves it when it has applied a commit with these units."""
    files = {UnitName(f"{name}.service"): parse_unit(text) for name, text in texts.items()}
    units = {name: (file.hash, text_digest(file.text), "launched") for name, file in files.items()}
    changes = [
        UnitChange(name=name, file=file, target=TargetState.LAUNCHED, source=source)
        for name, file in files.items()
    ]
    cluster.do(lambda registry: registry.apply(changes, by="sync"))
    look(cluster, GOOD, Wanted(source=source, units=units))


def by_hand(cluster: Cluster, *changes: UnitChange) -> None:
    cluster.do(lambda registry: registry.apply(changes, by="bob"))


def test_diff_shows_what_has_drifted_as_what_would_put_it_right(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    follow(fleetctl)
    applied(cluster, "git.example.com/shop", web=f"# ours\n{WEB}", db=WEB, ok=WEB, low=WEB)
    outcome = fleetctl("sync", "diff")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("Nothing has drifted from commit 3f2c9b1d07 (Port")
    old = UnitChange(name=OLD, file=parse_unit(WEB), source="git.example.com/shop")
    by_hand(
        cluster,
        UnitChange(name=UnitName("web.service"), file=parse_unit("[Service]\nExecStart=/b\n")),
        UnitChange(name=UnitName("db.service"), destroy=True),
        UnitChange(name=UnitName("low.service"), target=TargetState.LOADED),
        replace(old, target=TargetState.INACTIVE),
    )
    outcome = fleetctl("sync", "diff")
    assert (outcome.status, outcome.err) == (1, "")
    lines = [line for line in outcome.out.splitlines() if not line.startswith("  ")]
    revision = lines[-1].partition("(revision ")[2].partition(")")[0]
    assert lines == [
        "db.service: created, launched",
        "--- /dev/null",
        "+++ db.service in commit 3f2c9b1d07",
        "@@ -0,0 +1,2 @@",
        "+[Service]",
        "+ExecStart=/bin/sleep 100",
        "low.service: target state loaded -> launched",
        "web.service: its contents change, target state inactive -> launched",
        "--- web.service in the cluster",
        "+++ web.service in commit 3f2c9b1d07",
        "@@ -1,2 +1,3 @@",
        "+# ours",
        " [Service]",
        "-ExecStart=/b",
        "+ExecStart=/bin/sleep 100",
        "old.service: destroyed, no longer here",
        f"1 to create, 2 to change, 1 to destroy (revision {revision})",
    ]
    assert int(revision) > 0


def test_diff_names_units_of_which_the_store_has_no_text(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    follow(fleetctl)
    applied(cluster, "git.example.com/shop", web=WEB)
    by_hand(cluster, UnitChange(name=UnitName("web.service"), destroy=True))

    async def drop(registry: Registry) -> None:
        await registry.store.commit([], [Delete(registry.keys.file(text_digest(WEB)))])

    cluster.do(drop)
    outcome = fleetctl("sync", "diff")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == (
        "drift: web.service: it is not in the cluster\n"
        "The store lacks the text of these. To put them right: fleetctl sync now\n"
    )


def test_diff_that_can_compare_with_nothing_exits_with_2(fleetctl: Fleetctl) -> None:
    assert fleetctl("sync", "diff").status == 2
    follow(fleetctl)
    outcome = fleetctl("sync", "diff")
    told = "no commit is applied yet; fleetctl sync status says why\n"
    assert (outcome.status, outcome.out, outcome.err) == (2, "", told)


def test_now_waits_until_the_leader_has_looked(fleetctl: Fleetctl, cluster: Cluster) -> None:
    follow(fleetctl)
    look(cluster, GOOD)

    def answer() -> None:
        async def asked(registry: Registry) -> bool:
            return bool((await registry.store.read(f"{registry.keys.sync}request")).entries)

        wait_until(lambda: cluster.do(asked))
        look(cluster, replace(GOOD, checked_at_s=8.0, result="2 created"))

    leader = threading.Thread(target=answer)
    leader.start()
    outcome = fleetctl("sync", "now")
    leader.join()
    assert (outcome.status, "2 created" in outcome.out) == (0, True)


def test_stop_forgets_all_of_it(fleetctl: Fleetctl, cluster: Cluster) -> None:
    follow(fleetctl)
    look(cluster, GOOD)
    assert fleetctl("sync", "stop").status == 0

    async def left(registry: Registry) -> int:
        return len((await registry.store.read(registry.keys.sync)).entries)

    assert cluster.do(left) == 0
    for verb in ("stop", "now"):
        outcome = fleetctl("sync", verb)
        assert (outcome.status, "no repository is followed" in outcome.err) == (1, True)


def test_what_cannot_be_followed_is_refused_by_the_cluster(fleetctl: Fleetctl) -> None:
    outcome = fleetctl("sync", "set", "https://me:secret@host/x.git")
    assert outcome.status == 1
    assert "has a password in it" in outcome.err
    assert "secret" not in outcome.err
    assert fleetctl("sync", "set", "--interval=1", URL).status == 2


def test_following_another_repository_begins_anew(fleetctl: Fleetctl, cluster: Cluster) -> None:
    follow(fleetctl)
    look(cluster, GOOD)
    follow(fleetctl)
    assert "no leader has looked at it yet" in fleetctl("sync", "status").out
