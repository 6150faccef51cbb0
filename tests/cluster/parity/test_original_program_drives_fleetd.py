"""The original's fleetctl itself drives this fleetd: FLEET_BENCH_GO_FLEETCTL names the program.

It is a Go program that hardly anybody has, so without it these are skipped; what it sends is tried
by `test_original_fleetctl_drives_fleetd.py` in any case.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import BASE, Place
from tests.bench.original import FLEETCTL
from tests.cluster.machines import eventually
from tests.cluster.parity.conftest import TCP_PORT
from tests.cluster.steps import Operator

PROGRAM = os.environ.get(FLEETCTL, "")
pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(not PROGRAM, reason=f"{FLEETCTL} names no fleetctl of the original"),
]

UNIT = "[Unit]\nDescription=Hello\n\n[Service]\nExecStart=/bin/sleep 100000\n"
DEADLINE_S = 60.0
MANY = 12  # more than two pages of the cluster's

Run = Callable[..., str]


@pytest.fixture(params=["unix", "tcp"])
def original(
    operator: Operator, module_cluster: Sandbox, tmp_path: Path, request: pytest.FixtureRequest
) -> Run:
    """Runs it in a folder with unit files, as its user would; what it printed."""
    address = module_cluster.machine("fleet1").address
    ways = {
        "unix": f"unix://{module_cluster.socket('fleet2')}",
        "tcp": f"http://{address}:{TCP_PORT}",
    }
    hub = Place(name=module_cluster.name, base=BASE).hub
    enter = ["nsenter", f"--net={hub}"] if request.param == "tcp" else []
    (tmp_path / "hello.service").write_text(UNIT)
    (tmp_path / "web@.service").write_text(UNIT)
    (tmp_path / "all.service").write_text(f"{UNIT}\n[X-Fleet]\nGlobal=true\n")

    def run(*words: str, status: int = 0) -> str:
        done = subprocess.run(
            [*enter, PROGRAM, f"--endpoint={ways[request.param]}", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    return run


def test_it_takes_a_unit_through_its_whole_life(operator: Operator, original: Run) -> None:
    assert original("submit", "hello.service") == "Unit hello.service inactive\n"
    assert original("cat", "hello") == UNIT.rstrip("\n") + "\n"
    assert original("load", "hello").startswith("Unit hello.service loaded on ")
    assert original("start", "hello").startswith("Unit hello.service launched on ")
    row = original("list-units", "--no-legend").split()
    assert (row[0], row[2:]) == ("hello.service", ["active", "running"])
    home = operator.home("hello.service")
    assert operator.is_active(home, "hello.service")
    assert operator.machine_id(home)[:8] in row[1]

    assert "Successfully stopped units [hello.service]." in original("stop", "hello")
    assert not operator.is_active(home, "hello.service")
    assert "Successfully unloaded units [hello.service]." in original("unload", "hello")
    assert original("destroy", "hello") == "Destroyed hello.service\n"
    assert original("list-unit-files", "--no-legend") == ""


def test_it_starts_instances_and_global_units_and_reads_every_page(
    operator: Operator, original: Run
) -> None:
    names = [f"web@{number:02}.service" for number in range(MANY)]
    original("start", "--no-block", *names, "all.service")
    wanted = MANY + len(operator.powered())
    eventually(lambda: sum(row.active == "active" for row in operator.rows()) == wanted)

    listed = [line.split()[0] for line in original("list-units", "--no-legend").splitlines()]
    assert listed == sorted([*names, *["all.service"] * len(operator.powered())])
    assert len(original("list-machines", "--no-legend").splitlines()) == len(operator.powered())


def test_it_replaces_a_unit_that_runs(operator: Operator, original: Run, tmp_path: Path) -> None:
    original("start", "hello.service")
    (tmp_path / "hello.service").write_text(UNIT.replace("100000", "2222"))
    told = original("start", "--replace", "hello.service")
    assert "launched on" in told
    home = operator.wait_home("hello.service")
    assert "sleep 2222" in operator.show(home, "hello.service", "ExecStart")["ExecStart"]


def test_it_says_what_was_refused(original: Run) -> None:
    assert "Units not found in registry" in original("destroy", "absent.service")
    assert "template" in original("start", "web@.service", status=1)
