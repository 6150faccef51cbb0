"""systemd alone: the floor. The same files, put in place by a shell on all machines at once.

Each machine copies its share, reloads once and gives one `systemctl start` all the names.
"""

import time
from collections.abc import Sequence

from cli.sandbox.cluster import Sandbox
from tests.bench.machines import (
    Machine,
    became_active_s,
    machines_of,
    on_each,
    timed,
    wait_until_active,
)
from tests.bench.samples import Figure, Samples, System
from tests.bench.workload import PATTERN, SHARE, files, shares

_START = f"""cp {SHARE}/*.service /run/systemd/system/
systemctl daemon-reload
cd {SHARE}
systemctl start *.service"""
_STOP = f"cd {SHARE}\nsystemctl stop *.service"
_REMOVE = f"""cd {SHARE}
for name in *.service; do echo /run/systemd/system/$name; done | xargs rm
systemctl daemon-reload"""


def measure_alone(samples: Samples, count: int, name: str) -> None:
    """Start, stop, remove and start again, then start a lost machine's share on the others."""
    with Sandbox.up(name, fleetd=False, etcd=0) as sandbox:
        machines = machines_of(sandbox)
        parts = shares(files(count), len(machines))
        used = [machine for machine, part in zip(machines, parts, strict=True) if part]
        for machine, part in zip(machines, parts, strict=True):
            machine.write(SHARE, part)
        for again in (False, True):
            samples.take(System.ALONE, Figure.ACTIVE, count, _start(used, count))
            if not again:
                stop_s = timed(lambda: on_each(used, lambda machine: machine.shell(_STOP)))
                samples.take(System.ALONE, Figure.STOPPED, count, stop_s)
                gone_s = timed(lambda: on_each(used, lambda machine: machine.shell(_REMOVE)))
                samples.take(System.ALONE, Figure.DESTROYED, count, gone_s)
                for both in (Figure.REMOVED, Figure.TAKEN_DOWN):
                    samples.take(System.ALONE, both, count, stop_s + gone_s)
        lost, left = machines[0], machines[1:]
        sandbox.kill(lost.name)
        samples.take(System.ALONE, Figure.FAILOVER, count, _take_over(left, parts[0]))


def _start(machines: Sequence[Machine], count: int) -> float:
    began_s = time.monotonic()
    on_each(machines, lambda machine: machine.shell(_START))
    return wait_until_active(machines, PATTERN, count) - began_s


def _take_over(left: Sequence[Machine], lost: dict[str, str]) -> float:
    """Start the lost units on the machines that are left, beside what runs there."""
    parts = shares(lost, len(left))
    for machine, part in zip(left, parts, strict=True):
        machine.shell(f"rm -r {SHARE}")
        machine.write(SHARE, part)
    used = [machine for machine, part in zip(left, parts, strict=True) if part]
    began_s = time.monotonic()
    on_each(used, lambda machine: machine.shell(_START))
    ends = (became_active_s(machine, PATTERN) for machine in used)
    return max(at for found in ends for unit, at in found.items() if unit in lost) - began_s
