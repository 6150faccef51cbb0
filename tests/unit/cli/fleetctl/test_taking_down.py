"""stop, unload, destroy and restart of units that are in the cluster."""

import threading
from pathlib import Path

import pytest

from fleet.names import UnitName
from fleet.registry import Registry
from tests.unit.cli.fleetctl.cluster import LEGEND, Cluster, Fleetctl, wait_until

WEB = "[Service]\nExecStart=/bin/sleep 100\n"
NAMES = ("web@1.service", "web@2.service", "db.service")


@pytest.fixture
def running(fleetctl: Fleetctl, cluster: Cluster) -> Cluster:
    """The cluster with two instances of web and a database, all running."""
    Path("web@.service").write_text(WEB)
    Path("db.service").write_text(WEB)
    Path("all.service").write_text(f"{WEB}[X-Fleet]\nGlobal=true\n")
    assert fleetctl("start", *NAMES).status == 0
    cluster.history.clear()
    return cluster


# stop


def test_stop_leaves_the_unit_loaded(fleetctl: Fleetctl, running: Cluster) -> None:
    outcome = fleetctl("stop", "db")
    assert outcome.status == 0
    assert outcome.out == f"Unit db.service loaded on {LEGEND}\n"
    assert outcome.err == "Successfully stopped units [db.service].\n"
    assert running.target("db.service") == "loaded"


def test_stop_takes_patterns(fleetctl: Fleetctl, running: Cluster) -> None:
    outcome = fleetctl("stop", "web@*")
    assert outcome.err == "Successfully stopped units [web@1.service web@2.service].\n"
    assert running.target("db.service") == "launched"


@pytest.mark.parametrize("verb", ["stop", "unload", "restart"])
def test_patterns_mean_no_templates(fleetctl: Fleetctl, running: Cluster, verb: str) -> None:
    assert fleetctl("submit", "web@.service").status == 0
    outcome = fleetctl(verb, "web@*")
    assert outcome.status == 0
    assert "web@.service" not in outcome.err


def test_stop_of_a_loaded_unit_is_nothing(fleetctl: Fleetctl, running: Cluster) -> None:
    fleetctl("stop", "db")
    outcome = fleetctl("stop", "db")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "Successfully stopped units [].\n")


def test_stop_goes_on_after_a_unit_it_cannot_stop(fleetctl: Fleetctl, running: Cluster) -> None:
    fleetctl("unload", "web@1")
    outcome = fleetctl("stop", "web@1", "db")
    assert outcome.status == 1
    assert "Unable to stop unit web@1.service in state inactive\n" in outcome.err
    assert running.target("db.service") == "loaded"


def test_stop_of_nothing_but_what_it_cannot_stop_claims_no_success(
    fleetctl: Fleetctl, running: Cluster
) -> None:
    fleetctl("unload", "db")
    outcome = fleetctl("stop", "db")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "Unable to stop unit db.service in state inactive\n"


@pytest.mark.parametrize("verb", ["stop", "unload", "destroy"])
def test_units_that_are_not_there_are_passed_over(
    fleetctl: Fleetctl, running: Cluster, verb: str
) -> None:
    outcome = fleetctl(verb, "gone")
    assert (outcome.status, outcome.err) == (0, "Units not found in registry\n")
    assert fleetctl(verb, "gone", "db").status == 0


def test_stop_of_a_unit_that_no_machine_takes(fleetctl: Fleetctl, running: Cluster) -> None:
    running.refused.add("lost.service")
    Path("lost.service").write_text(WEB)
    fleetctl("start", "--no-block", "lost")
    outcome = fleetctl("stop", "lost")
    assert outcome.status == 0
    assert running.target("lost.service") == "loaded"


def test_stop_of_a_global_unit_is_triggered(fleetctl: Fleetctl, running: Cluster) -> None:
    fleetctl("start", "all")
    outcome = fleetctl("stop", "all")
    assert outcome.out == "Triggered global unit all.service stop\n"
    assert running.target("all.service") == "loaded"


def test_stop_without_waiting(fleetctl: Fleetctl, running: Cluster) -> None:
    outcome = fleetctl("stop", "--no-block", "db")
    assert (outcome.status, outcome.out, outcome.err) == (
        0,
        "Triggered unit db.service stop\n",
        "",
    )


def test_stop_that_takes_too_long(fleetctl: Fleetctl, running: Cluster) -> None:
    running.deaf.add("db.service")
    outcome = fleetctl("stop", "--block-attempts", "1", "db")
    assert outcome.status == 1
    assert outcome.err.splitlines() == [
        "Error waiting for units: timed out waiting for unit db.service to report state loaded",
        f"    still active (running) on {LEGEND}",
        "Failed to stop units [db.service]. err: not all of them came to rest",
    ]


# unload


def test_unload_waits_until_the_machine_has_dropped_it(
    fleetctl: Fleetctl, running: Cluster
) -> None:
    running.slow.add("db.service")
    outcome = fleetctl("unload", "db")
    assert (outcome.status, outcome.out) == (0, "Unit db.service inactive\n")
    assert outcome.err == "Successfully unloaded units [db.service].\n"
    assert running.do(_states_of("db.service")) == 0


def test_unload_of_a_unit_that_no_machine_takes(fleetctl: Fleetctl, running: Cluster) -> None:
    running.refused.add("lost.service")
    Path("lost.service").write_text(WEB)
    fleetctl("start", "--no-block", "lost")
    outcome = fleetctl("unload", "lost")
    assert (outcome.status, outcome.out) == (0, "Unit lost.service inactive\n")
    assert running.target("lost.service") == "inactive"


# destroy


def test_destroy_waits_until_it_is_gone(fleetctl: Fleetctl, running: Cluster) -> None:
    running.slow.add("db.service")
    outcome = fleetctl("destroy", "db")
    assert (outcome.status, outcome.out, outcome.err) == (0, "Destroyed db.service\n", "")
    assert running.do(_states_of("db.service")) == 0


def test_destroy_without_waiting(fleetctl: Fleetctl, running: Cluster) -> None:
    running.slow.add("db.service")
    outcome = fleetctl("destroy", "--no-block", "db")
    assert (outcome.status, outcome.out) == (0, "Destroyed db.service\n")
    assert running.do(_states_of("db.service")) == 1


def test_destroy_takes_patterns_and_they_mean_templates_too(
    fleetctl: Fleetctl, running: Cluster
) -> None:
    assert fleetctl("submit", "web@.service").status == 0
    outcome = fleetctl("destroy", "web@*")
    assert sorted(outcome.out.splitlines()) == [
        "Destroyed web@.service",
        "Destroyed web@1.service",
        "Destroyed web@2.service",
    ]


def test_destroy_of_many_is_one_change_of_the_cluster(fleetctl: Fleetctl, running: Cluster) -> None:
    names = [f"web@{number}.service" for number in range(3, 40)]
    assert fleetctl("submit", *names).status == 0
    outcome = fleetctl("destroy", "gone", *names)
    assert (outcome.status, outcome.err) == (0, "")
    assert sorted(outcome.out.splitlines()) == sorted(f"Destroyed {name}" for name in names)


# restart


def test_restart_stops_and_starts(fleetctl: Fleetctl, running: Cluster) -> None:
    outcome = fleetctl("restart", "db")
    assert (outcome.status, outcome.out) == (0, f"Unit db.service launched on {LEGEND}\n")
    assert running.history == [("db.service", "loaded"), ("db.service", "launched")]


def test_restart_starts_a_loaded_unit(fleetctl: Fleetctl, running: Cluster) -> None:
    fleetctl("stop", "db")
    outcome = fleetctl("restart", "db")
    assert outcome.out == f"Unit db.service launched on {LEGEND}\n"


def test_restart_passes_over_an_inactive_unit(fleetctl: Fleetctl, running: Cluster) -> None:
    fleetctl("unload", "web@1")
    outcome = fleetctl("restart", "web@1", "db")
    assert outcome.status == 0
    assert outcome.err == "Unable to restart unit web@1.service in state inactive\n"
    assert running.target("web@1.service") == "inactive"


def test_restart_stops_a_global_unit_everywhere_first(fleetctl: Fleetctl, running: Cluster) -> None:
    fleetctl("start", "all")
    wait_until(lambda: running.do(_states_of("all.service")) == 1)
    running.history.clear()
    running.slow.add("all.service")
    outcome = fleetctl("restart", "all")
    assert outcome.out == "Triggered global unit all.service restart\n"
    wait_until(lambda: len(running.history) == 2)
    assert [target for _, target in running.history] == ["loaded", "launched"]


def test_restart_that_cannot_stop_launches_again(fleetctl: Fleetctl, running: Cluster) -> None:
    running.deaf.add("db.service")
    outcome = fleetctl("restart", "--block-attempts=1", "db")
    assert outcome.status == 1
    assert running.target("db.service") == "launched"


def test_restart_in_turn_waits_for_each_batch(fleetctl: Fleetctl, running: Cluster) -> None:
    running.slow.add("web@1.service")
    outcome = fleetctl("restart", "--max-unavailable", "2", "web@1", "web@2", "db")
    assert (outcome.status, outcome.err) == (0, "")
    assert running.history[-2:] == [("db.service", "loaded"), ("db.service", "launched")]
    assert sorted(running.history[:2]) == [("web@1.service", "loaded"), ("web@2.service", "loaded")]
    assert len(running.history) == 6


def test_restart_in_turn_stops_at_the_first_failure(fleetctl: Fleetctl, running: Cluster) -> None:
    running.failing["web@2.service"] = {"active": "failed", "sub": "failed", "result": "exit-code"}
    outcome = fleetctl("restart", "--max-unavailable", "1", "web@1", "web@2", "db")
    assert outcome.status == 1
    assert f"Unit web@2.service failed on {LEGEND}" in outcome.err
    assert outcome.err.splitlines()[-1] == "Left untouched: db.service"
    assert not [change for change in running.history if change[0] == "db.service"]


def test_restart_in_turn_passes_over_an_inactive_unit(fleetctl: Fleetctl, running: Cluster) -> None:
    fleetctl("unload", "web@1")
    outcome = fleetctl("restart", "--max-unavailable", "1", "web@*")
    assert (outcome.status, outcome.out) == (0, f"Unit web@2.service launched on {LEGEND}\n")
    assert outcome.err == "Unable to restart unit web@1.service in state inactive\n"


def test_restart_in_turn_refuses_global_units_and_touches_none(
    fleetctl: Fleetctl, running: Cluster
) -> None:
    fleetctl("start", "all")
    running.history.clear()
    outcome = fleetctl("restart", "--max-unavailable", "1", "db", "all")
    assert (outcome.status, running.history) == (1, [])
    assert outcome.err.startswith("A restart stops global units on all machines at once: all.")
    assert fleetctl("restart", "--max-unavailable", "0", "db").status == 2


# Losing the cluster


def test_loss_of_the_api_while_waiting_is_said(fleetctl: Fleetctl, running: Cluster) -> None:
    running.deaf.add("db.service")
    stopping = threading.Timer(0.3, running.stop_serving)
    stopping.start()
    outcome = fleetctl("stop", "db")
    stopping.join()
    assert outcome.status == 1
    assert outcome.err.startswith("Lost the cluster while waiting for db.service: ")
    assert outcome.err.endswith("fleetctl list-units\n")


def _states_of(name: str):  # type: ignore[no-untyped-def]
    async def count(registry: Registry) -> int:
        return len((await registry.cluster()).states_of(UnitName(name)))

    return count
