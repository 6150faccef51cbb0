"""Rolling updates: how many units take new contents at a time, and what stops that."""

from dataclasses import replace

from engine.losses import EngineMemory
from fleet.cluster import Cluster, UnitRecord
from fleet.names import UnitName
from fleet.states import Health
from tests.unit.engine.worlds import (
    all_up,
    carried_out,
    planned,
    reasons_of,
    settled,
    unit,
    with_units,
    without_machines,
    world,
)

HOSTS = ["m1", "m2", "m3"]
A = "a.service"


def instances(*options: str, version: str = "1", count: int = 5) -> list[UnitRecord]:
    return [
        unit(f"w@{n}.service", *options, version=version, revision=n) for n in range(1, count + 1)
    ]


def running(*options: str) -> Cluster:
    return all_up(settled(world(HOSTS, instances(*options))))


def updated(cluster: Cluster) -> list[str]:
    """The units whose rows have new contents, shortly."""
    return [row.unit[2] for row in cluster.schedule if row.hash == "hash-2"]


def failing(cluster: Cluster, name: str) -> Cluster:
    """The cluster after the unit's machine took it up and it failed; the others are up."""
    states = (
        replace(state, active="failed", sub="failed") if state.unit == name else state
        for state in all_up(cluster).states
    )
    return replace(cluster, states=tuple(states))


def test_all_take_new_contents_at_once_without_a_limit() -> None:
    assert updated(settled(with_units(running(), *instances(version="2")))) == list("12345")


def test_no_more_are_down_at_a_time_than_may_be() -> None:
    cluster = with_units(running(), *instances("MaxUnavailable=2", version="2"))
    for told in (list("12"), list("1234"), list("12345")):
        cluster = settled(cluster)
        assert updated(cluster) == told
        assert updated(settled(cluster)) == told, "not before they are up"
        cluster = all_up(cluster)
    assert planned(cluster).tasks == ()


def test_unit_that_is_down_anyway_takes_its_contents_and_counts() -> None:
    ill = failing(running(), "w@4.service")
    cluster = settled(with_units(ill, *instances("MaxUnavailable=1", version="2")))
    assert updated(cluster) == ["4"]
    assert updated(settled(all_up(cluster))) == ["1", "4"]


def test_units_stay_as_they_are_when_one_fails_with_new_contents() -> None:
    new = instances("MaxUnavailable=1", version="2")
    failed = failing(settled(with_units(running(), *new)), "w@1.service")
    stopped = settled(failed)
    assert updated(stopped) == ["1"]
    assert reasons_of(stopped, "w@3.service") == {
        "": "w@1.service fails with its new contents on machine m1, and the others keep theirs"
    }
    back = settled(with_units(stopped, *instances(version="1")))
    assert updated(back) == []
    assert not back.refusals
    mended = settled(with_units(stopped, *instances("MaxUnavailable=1", version="3")))
    assert [row.hash for row in mended.schedule] == ["hash-3", *["hash-1"] * 4]


def test_failure_of_one_that_is_not_updated_stops_nobody() -> None:
    ill = failing(running("MaxUnavailable=2"), "w@5.service")
    new = instances("MaxUnavailable=2", version="2")[:4]
    assert updated(settled(with_units(ill, *new))) == ["1"]


def test_new_contents_have_to_be_up_for_a_while() -> None:
    new = instances("MaxUnavailable=1", "ActiveFor=10s", version="2")
    begun = settled(with_units(running(), *new))
    up = all_up(begun)
    seen = planned(up, now_s=100.0)
    assert (seen.tasks, seen.wake_at_s, seen.is_waiting) == ((), 110.0, True)
    early = planned(up, seen.memory, now_s=109.0)
    assert (early.tasks, early.wake_at_s) == ((), 110.0)
    due = planned(up, early.memory, now_s=110.0)
    assert updated(carried_out(up, due.tasks)) == ["1", "2"]
    fallen = planned(failing(up, "w@1.service"), early.memory, now_s=110.0)
    assert [task.kind for task in fallen.tasks] == ["refuse"] * 4


def test_new_contents_have_to_be_healthy() -> None:
    new = instances("MaxUnavailable=1", "ActiveFor=10s", "HealthCommand=/bin/check", version="2")
    begun = settled(with_units(running(), *new))
    checking = with_health(begun, Health.CHECKING, "exit-code")
    assert (updated(settled(checking)), planned(checking, now_s=100.0).wake_at_s) == (["1"], None)
    healthy = with_health(begun, Health.OK)
    seen = planned(healthy, now_s=200.0)
    assert (seen.tasks, seen.wake_at_s) == ((), 210.0)
    assert updated(carried_out(healthy, planned(healthy, seen.memory, now_s=210.0).tasks)) == [
        "1",
        "2",
    ]


def test_units_stay_as_they_are_when_one_is_not_healthy_with_new_contents() -> None:
    new = instances("MaxUnavailable=1", "HealthCommand=/bin/check", version="2")
    ill = with_health(settled(with_units(running(), *new)), Health.FAILED, "exit-code (status=1)")
    stopped = settled(ill)
    assert updated(stopped) == ["1"]
    assert reasons_of(stopped, "w@3.service") == {
        "": "w@1.service fails with its new contents on machine m1 (its HealthCommand failed: "
        "exit-code (status=1)), and the others keep theirs"
    }


def with_health(cluster: Cluster, health: Health, reason: str = "") -> Cluster:
    """The cluster with every unit active, and those with new contents as healthy as that."""
    states = (
        replace(state, health=health, health_reason=reason) if state.hash == "hash-2" else state
        for state in all_up(cluster).states
    )
    return replace(cluster, states=tuple(states))


def test_global_unit_takes_new_contents_machine_by_machine() -> None:
    old = unit(A, "Global=true")
    new = unit(A, "Global=true", "MaxUnavailable=1", version="2", revision=9)
    cluster = with_units(all_up(settled(world(HOSTS, [old]))), new)
    for machines in (["m1"], ["m1", "m2"], ["m1", "m2", "m3"]):
        cluster = settled(cluster)
        assert [row.machine for row in cluster.schedule if row.hash == "hash-2"] == machines
        cluster = all_up(cluster)


def test_machine_that_is_lost_holds_up_no_rollout() -> None:
    old = unit(A, "Global=true")
    new = unit(A, "Global=true", "MaxUnavailable=1", version="2", revision=9)
    before = without_machines(all_up(settled(world(HOSTS, [old]))), "m3")
    after = settled(with_units(before, new), EngineMemory(is_new=False))
    assert [row.machine for row in after.schedule if row.hash == "hash-2"] == ["m1", "m3"]


def test_restart_and_new_comments_need_no_turn() -> None:
    cluster = running("MaxUnavailable=1")
    stopped = [replace(record, target=record.target.LOADED) for record in cluster.units.values()]
    assert {row.target for row in settled(with_units(cluster, *stopped)).schedule} == {"loaded"}
    reworded = [replace(record, file=f"{record.file}-b") for record in cluster.units.values()]
    after = settled(with_units(cluster, *reworded))
    assert all(row.file.endswith("-b") for row in after.schedule)
    assert UnitName("w@1.service") in after.units
