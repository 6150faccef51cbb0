"""fleetd's wall clock jumps by an hour: what it decides by is the monotonic one.

Machines of a sandbox share the host's clock, which no test may step. So fleetd on each machine is
given a `sitecustomize` of its own, by which Python's wall clock is as far off as a file says, the
monotonic one stays, and everything else is real. (libfaketime was tried: it delays the waits of
threads, clock stepped or not, so that leases are lost.) What this cannot show is the part of etcd,
of systemd and of the kernel.
"""

import json
import time
from collections.abc import Callable

import pytest

from tests.cluster.machines import eventually
from tests.faults.stage import Stage

pytestmark = [pytest.mark.systemd, pytest.mark.faults, pytest.mark.timeout(240)]

_HOME = "/var/tmp/clock"
_OFFSET = f"{_HOME}/offset"
_DROP_IN = "/etc/systemd/system/fleet.service.d/clock.conf"
_CLOCK = f"""\
import time
_true_ns = time.time_ns
def _off_ns():
    with open({_OFFSET!r}) as file:
        return _true_ns() + int(file.read() or 0) * 10**9
time.time_ns = _off_ns
time.time = lambda: _off_ns() / 1e9
"""


def _run_by_another_clock(stage: Stage, machine: str) -> None:
    """Run fleetd with a wall clock that is as far off as the file says."""
    stage.operator.sandbox.path(machine, _HOME).mkdir()
    _step(stage, machine, 0)
    stage.operator.sandbox.path(machine, f"{_HOME}/sitecustomize.py").write_text(_CLOCK)
    stage.operator.sandbox.path(machine, _DROP_IN).write_text(
        f"[Service]\nEnvironment=PYTHONPATH={_HOME}\n"
    )
    stage.sh(machine, "systemctl daemon-reload && systemctl restart fleet")
    stage.operator.sandbox.wait_until_one_cluster()


def _step(stage: Stage, machine: str, seconds: int) -> None:
    stage.operator.sandbox.path(machine, _OFFSET).write_text(str(seconds))


def test_wall_clock_that_is_stepped_by_an_hour(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    for machine in stage.machines:
        _run_by_another_clock(stage, machine)
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
    entries = stage.operator.store("events/").values()
    told = [event for entry in entries for event in json.loads(entry)]
    return [event["at"] - time.time() for event in told]
