"""fleetd's wall clock jumps by an hour: what it decides by is the monotonic one.

Machines of a sandbox share the host's clock, which no test may step. So fleetd on each machine
runs under libfaketime, which tells it another wall clock and leaves the monotonic one alone, as
settimeofday(2) does. What this cannot show is etcd's, systemd's and the kernel's part.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.machines import eventually
from tests.faults.stage import Stage

pytestmark = [pytest.mark.systemd, pytest.mark.faults]

_OFFSET = "/var/tmp/offset"
_DROP_IN = "/etc/systemd/system/fleet.service.d/clock.conf"


def _library() -> Path:
    (found,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return found


def _fake_clock(stage: Stage, machine: str) -> None:
    """Run fleetd with a wall clock that is as far off as the file says."""
    _step(stage, machine, 0)
    lines = {
        "LD_PRELOAD": str(_library()),
        "FAKETIME_TIMESTAMP_FILE": _OFFSET,
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    text = "".join(f"Environment={name}={value}\n" for name, value in lines.items())
    stage.operator.sandbox.path(machine, _DROP_IN).write_text(f"[Service]\n{text}")
    stage.sh(machine, "systemctl daemon-reload && systemctl restart fleet")


def _step(stage: Stage, machine: str, seconds: int) -> None:
    stage.operator.sandbox.path(machine, _OFFSET).write_text(f"{seconds:+d}\n")


def test_wall_clock_that_is_stepped_by_an_hour(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    for machine in stage.machines:
        _fake_clock(stage, machine)
        stage.operator.sandbox.wait_until_one_cluster()
    eventually(lambda: stage.faults() == [])
    leader = stage.operator.leader()
    with stage.trial():
        for machine, seconds in ((leader, 3600), (stage.others(leader)[0], -3600), (leader, -3600)):
            _step(stage, machine, seconds)
            time.sleep(1.5 * stage.ttl_s)
        off_s = _event_offsets_s(stage)
        assert min(off_s) < -3000
        assert max(off_s) > 3000


def _event_offsets_s(stage: Stage) -> list[float]:
    """How far from now events were, by the clock of the fleetd that wrote them."""
    told = stage.operator.store("events/").values()
    return [json.loads(event)["at"] - time.time() for event in told]
