"""why, history, events, wait and --watch: what the cluster says of itself, and when."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import PIPE

import pytest

from fleet.states import Health
from tests.unit.cli.fleetctl.cluster import HERE, LEGEND, Cluster, Fleetctl, wait_until

WEB = "[Service]\nExecStart=/bin/sleep 100\n"


@pytest.fixture
def running(fleetctl: Fleetctl, cluster: Cluster) -> Cluster:
    """The cluster with web running, tape refused, and db only stored."""
    cluster.refused.add("tape.service")
    for name in ("web", "db", "tape"):
        Path(f"{name}.service").write_text(f"{WEB}[X-Fleet]\nMachineMetadata=disk=ssd\n")
    fleetctl("start", "web")
    fleetctl("submit", "db")
    Path("tape.service").write_text(f"{WEB}[X-Fleet]\nMachineMetadata=disk=tape\n")
    fleetctl("start", "--no-block", "tape")
    return cluster


# why


def test_why_says_who_asked_and_where_it_is(fleetctl: Fleetctl, running: Cluster) -> None:
    outcome = fleetctl("why", "web")
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("wanted    launched, as root@here asked on ")
    assert lines[1:4] == ["asks for  MachineMetadata=disk=ssd", f"outcome   it is on {LEGEND}", ""]
    assert lines[4] == f"{LEGEND}  has it"


def test_start_and_why_and_history_say_that_a_unit_is_not_healthy(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    Path("web.service").write_text(f"{WEB}[X-Fleet]\nHealthCommand=/bin/false\n")
    cluster.failing["web.service"] = {
        "active": "active",
        "sub": "running",
        "result": "success",
        "health": Health.FAILED,
        "health_reason": "exit-code (code=exited, status=1)",
    }
    ill = "its HealthCommand failed: exit-code (code=exited, status=1)"

    started = fleetctl("start", "web")
    assert (started.status, started.out) == (1, "")
    assert f"Unit web.service came up on {LEGEND}, but {ill}\n" in started.err
    assert fleetctl("why", "web").out.splitlines()[-1] == f"{LEGEND}  has it; {ill}"
    assert ill in fleetctl("history", "web").out.splitlines()[-1]


def test_why_says_what_keeps_a_unit_from_each_machine(fleetctl: Fleetctl, running: Cluster) -> None:
    lines = fleetctl("why", "tape").out.splitlines()
    assert "outcome   it waits: no machine can take it" in lines
    assert lines[-1] == (
        f"{LEGEND}  cannot: the unit asks for metadata disk=tape, the machine has disk=ssd"
    )


def test_why_of_what_is_only_stored_and_of_what_is_not_there(
    fleetctl: Fleetctl, running: Cluster
) -> None:
    last = fleetctl("why", "db").out.splitlines()[-1]
    assert last == "outcome   it is only stored, as it is wanted"
    outcome = fleetctl("why", "gone")
    assert (outcome.status, outcome.out, outcome.err) == (
        1,
        "",
        "unit does not exist: gone.service\n",
    )
    assert fleetctl("why").status == 2


# events and history


def test_events_of_one_unit(fleetctl: Fleetctl, running: Cluster) -> None:
    events = json.loads(fleetctl("events", "-o", "json", "db").out)
    assert [(each["unit"], each["what"]) for each in events] == [
        ("db.service", "stored, target state inactive")
    ]


def test_history_tells_what_happened_and_how_it_is(fleetctl: Fleetctl, running: Cluster) -> None:
    fleetctl("stop", "web")
    lines = fleetctl("history", "web").out.splitlines()
    assert [" ".join(line.split()[2:]) for line in lines[1:3]] == [
        "root@here stored, target state launched",
        "root@here target state loaded",
    ]
    assert lines[-1] == f"now: inactive (dead) on {LEGEND}"


def test_history_outlives_the_unit(fleetctl: Fleetctl, running: Cluster) -> None:
    fleetctl("destroy", "db")
    lines = fleetctl("history", "db").out.splitlines()
    assert lines[-2].endswith("destroyed")
    assert lines[-1] == "now: it is not in the cluster any more"
    outcome = fleetctl("history", "never")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "Unit never.service does not exist, and nothing is known of it.\n"


# wait


def test_wait_is_over_when_it_is_so(fleetctl: Fleetctl, running: Cluster) -> None:
    outcome = fleetctl("wait", "web")
    assert (outcome.status, outcome.out) == (0, f"Unit web.service active on {LEGEND}\n")
    outcome = fleetctl("wait", "--for=inactive", "db")
    assert (outcome.status, outcome.out) == (0, "Unit db.service inactive\n")
    outcome = fleetctl("wait", "--for=gone", "never")
    assert (outcome.status, outcome.out) == (0, "Unit never.service gone\n")


def test_wait_takes_part_in_what_others_do(fleetctl: Fleetctl, running: Cluster) -> None:
    starting = threading.Timer(0.2, lambda: subprocess.run([*_FLEETCTL, "start", "db"], check=True))
    starting.start()
    assert fleetctl("wait", "d*").out == f"Unit db.service active on {LEGEND}\n"
    starting.join()


def test_wait_has_a_status_for_each_end(fleetctl: Fleetctl, running: Cluster) -> None:
    outcome = fleetctl("wait", "gone")
    assert (outcome.status, outcome.err) == (4, "Unit gone.service does not exist.\n")
    assert fleetctl("wait", "x*").status == 4
    outcome = fleetctl("wait", "--timeout", "0.1", "db")
    assert outcome.status == 124
    assert outcome.err.startswith("Unit db.service is not active after 0.1 s: it is on no machine")
    failure = {"active": "failed", "sub": "failed", "result": "exit-code", "journal": ("oops",)}
    running.failing["bad.service"] = failure
    Path("bad.service").write_text(WEB)
    fleetctl("start", "--no-block", "bad")
    outcome = fleetctl("wait", "bad")
    assert outcome.status == 1
    assert outcome.err.splitlines()[1] == "    oops"


# --watch and --follow

_FLEETCTL = (sys.executable, "-c", "from cli.fleetctl.main import main; main()")


def _watching(tmp_path: Path, *words: str) -> "subprocess.Popen[bytes]":
    with (tmp_path / "shown").open("wb") as shown:
        return subprocess.Popen([*_FLEETCTL, *words], stdout=shown, stderr=PIPE, env=os.environ)


def _end(process: "subprocess.Popen[bytes]") -> tuple[int, bytes]:
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    with process.stderr:
        return process.wait(10), process.stderr.read()


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        pytest.param("list-units", "", "db.service\t", id="units"),
        pytest.param("list-unit-files", "db.service\t", "\tlaunched\tlaunched", id="unit files"),
    ],
)
def test_watched_list_is_shown_again_when_it_changes(
    fleetctl: Fleetctl, cluster: Cluster, tmp_path: Path, verb: str, before: str, after: str
) -> None:
    Path("db.service").write_text(WEB)
    fleetctl("submit", "db")
    process = _watching(tmp_path, verb, "--watch")
    shown = tmp_path / "shown"
    wait_until(lambda: "UNIT" in shown.read_text())
    assert before in shown.read_text()
    fleetctl("start", "db")
    wait_until(lambda: after in shown.read_text().split("\n\n")[-1])
    assert _end(process) == (130, b"")


def test_watched_machines_follow_their_metadata(
    fleetctl: Fleetctl, cluster: Cluster, tmp_path: Path
) -> None:
    process = _watching(tmp_path, "list-machines", "-w", "-o", "json")
    shown = tmp_path / "shown"
    wait_until(lambda: '"disk": "ssd"' in shown.read_text())
    cluster.do(lambda registry: registry.set_metadata([(HERE, "disk", "tape")], by="alice"))
    wait_until(lambda: '"disk": "tape"' in shown.read_text())
    assert [json.loads(block)[0]["metadata"] for block in shown.read_text().split("\n\n")] == [
        {"disk": "ssd"},
        {"disk": "tape"},
    ]
    assert _end(process) == (130, b"")


def test_followed_events_come_once_each(
    fleetctl: Fleetctl, cluster: Cluster, tmp_path: Path
) -> None:
    for name in ("web", "db"):
        Path(f"{name}.service").write_text(WEB)
    fleetctl("submit", "web")
    process = _watching(tmp_path, "events", "--follow", "web")
    shown = tmp_path / "shown"
    wait_until(lambda: "target state inactive" in shown.read_text())
    fleetctl("submit", "db")
    fleetctl("load", "web")
    wait_until(lambda: "target state loaded" in shown.read_text())
    fleetctl("unload", "web")
    wait_until(lambda: shown.read_text().count("inactive") == 2)
    assert len(shown.read_text().splitlines()) == 4
    assert "db.service" not in shown.read_text()
    assert _end(process) == (130, b"")


def test_watch_ends_with_a_sentence_when_the_cluster_is_gone(
    fleetctl: Fleetctl, cluster: Cluster, tmp_path: Path
) -> None:
    process = _watching(tmp_path, "list-units", "--watch")
    wait_until(lambda: "UNIT" in (tmp_path / "shown").read_text())
    cluster.stop_serving()
    assert process.stderr is not None
    with process.stderr:
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.returncode == 1
        assert len(process.stderr.read().splitlines()) == 1
