"""etcd stops, hangs, loses members, history or room: no unit is touched, nothing is lost."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sandbox import host
from cli.sandbox.layout import Place
from tests.cluster.machines import eventually
from tests.cluster.truth import read_store
from tests.faults.cable import bad_cable
from tests.faults.stage import Stage

pytestmark = [pytest.mark.systemd, pytest.mark.faults, pytest.mark.timeout(240)]

SIZES = [pytest.param(1, id="one member"), pytest.param(3, id="three members")]
# Longer than any lease: an etcd that goes on then has forgotten every machine.
OUTAGE_TTLS = 2.5


def _outlast(stage: Stage) -> None:
    time.sleep(OUTAGE_TTLS * stage.ttl_s)


@pytest.mark.parametrize("etcd", SIZES)
def test_etcd_that_loses_power_and_is_back(make_stage: Callable[..., Stage], etcd: int) -> None:
    stage = make_stage(etcd=etcd)
    with stage.trial():
        stage.operator.sandbox.kill(*stage.members)
        _outlast(stage)
        stage.operator.sandbox.boot(*stage.members)


@pytest.mark.parametrize("etcd", SIZES)
def test_etcd_that_is_frozen(make_stage: Callable[..., Stage], etcd: int) -> None:
    stage = make_stage(etcd=etcd)
    with stage.trial():
        stage.operator.sandbox.pause(*stage.members)
        _outlast(stage)
        stage.operator.sandbox.resume(*stage.members)


def test_etcd_that_has_lost_its_quorum(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(etcd=3)
    with stage.trial():
        stage.operator.sandbox.kill(*stage.members[:2])
        _outlast(stage)
        stage.operator.sandbox.boot(*stage.members[:2])


def test_etcd_whose_leader_is_killed(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(etcd=3)
    member = stage.operator.etcd_leader()
    with stage.trial():
        stage.operator.sandbox.kill(member)
        _outlast(stage)
        stage.operator.sandbox.boot(member)


def test_etcd_whose_leader_is_frozen(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(etcd=3)
    member = stage.operator.etcd_leader()
    with stage.trial():
        stage.operator.sandbox.pause(member)
        _outlast(stage)
        stage.operator.sandbox.resume(member)


def test_etcd_whose_members_lose_power_one_after_the_other(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(etcd=3)
    with stage.trial():
        for member in stage.members:
            stage.operator.sandbox.kill(member)
            time.sleep(1)
            stage.operator.sandbox.boot(member)


def test_key_space_compacted_under_watchers(make_stage: Callable[..., Stage]) -> None:
    """While fleetd of one machine sleeps, what its watches have not seen yet is compacted."""
    stage = make_stage()
    with stage.trial():
        for _ in range(3):
            stage.sh("fleet2", f"kill -STOP {stage.fleetd('fleet2')}")
            time.sleep(stage.ttl_s / 3)  # the operators write meanwhile
            _compact(stage)
            stage.sh("fleet2", f"kill -CONT {stage.fleetd('fleet2')}")
            time.sleep(stage.ttl_s / 3)
            _compact(stage)


def _compact(stage: Stage) -> None:
    stage.etcdctl("put", "/elsewhere", "")  # what is compacted already cannot be again
    revision = read_store(stage.operator.sandbox, "fleet1")[1]
    stage.etcdctl("compact", str(revision))


def test_etcd_that_is_out_of_space_takes_no_writes(make_stage: Callable[..., Stage]) -> None:
    """etcd's own alarm for a full data base: reads and renewals go on, writes are refused."""
    stage = make_stage(etcd=3)
    with stage.trial():
        for member in stage.members:
            _raise_alarm(stage, member)
        _outlast(stage)
        assert "NOSPACE" in stage.etcdctl("alarm", "list")
        stage.etcdctl("alarm", "disarm")


def _raise_alarm(stage: Stage, member: str) -> None:
    address = stage.operator.sandbox.spec.node(member).address
    url = f"http://{address}:2379/v3/maintenance"
    said = json.loads(stage.sh("fleet1", f"curl -sf -d '{{}}' {url}/status"))
    alarm = {"action": "ACTIVATE", "memberID": said["header"]["member_id"], "alarm": "NOSPACE"}
    stage.sh("fleet1", f"curl -sf -d '{json.dumps(alarm)}' {url}/alarm")


@pytest.mark.parametrize("etcd", SIZES)
def test_etcd_with_a_full_disk(make_stage: Callable[..., Stage], etcd: int, tmp_path: Path) -> None:
    """The disk of one member is full: it dies at its next write, until there is room again."""
    stage = make_stage(etcd=etcd)
    member, data = stage.members[0], Place(name=stage.operator.sandbox.name).disk("etcd1")
    stage.operator.sandbox.kill(member)
    _move_to_small_disk(data, tmp_path / "data")
    stage.operator.sandbox.boot(member)
    eventually(lambda: not stage.faults())
    with stage.trial():
        junk = data / "junk"
        host.run(["sh", "-c", f"head -c 1G /dev/zero >{junk} 2>/dev/null || true"])
        _write_until_dead(stage, member)
        _outlast(stage)
        junk.unlink()
        stage.operator.sandbox.boot(member)


def _move_to_small_disk(data: Path, copy: Path) -> None:
    shutil.copytree(data, copy)
    host.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=0700", "fleet-sandbox", str(data)])
    shutil.copytree(copy, data, dirs_exist_ok=True)


def _write_until_dead(stage: Stage, member: str) -> None:
    """Fill what etcd has set aside for its log (64 MB a piece), until the member stops."""
    script = (
        "for n in $(seq 200); do head -c 1000000 /dev/zero | tr '\\0' x |"
        f" env ETCDCTL_API=3 etcdctl --endpoints={stage.etcd_url(member)} put /junk >/dev/null"
        " 2>&1 || break; done"
    )
    stage.sh("fleet1", script)
    eventually(lambda: not stage.operator.sandbox.is_on(member))


@pytest.mark.parametrize("delay_s", [pytest.param(0.4, id="0.4 s"), pytest.param(3.0, id="3 s")])
def test_etcd_whose_answers_are_late(make_stage: Callable[..., Stage], delay_s: float) -> None:
    stage = make_stage()
    with stage.trial(), bad_cable(stage.operator.sandbox, "etcd1") as cable:
        cable.out.delay_s = delay_s
        _outlast(stage)
