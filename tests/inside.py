"""Running a test file in a booted machine of its own, where it may do with systemd as it likes.

Such a file holds two halves: one that runs where `INSIDE_A_MACHINE`, and a single test that runs
elsewhere and hands the file to `run_in_a_machine`.
"""

import os
import sys
from pathlib import Path

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import fresh_name

_VARIABLE = "FLEET_TEST_INSIDE_MACHINE"
_ROOT = Path(__file__).resolve().parents[1]
INSIDE_A_MACHINE = _VARIABLE in os.environ


def run_in_a_machine(file: str, *, timeout_s: float) -> None:
    """Boot a bare machine and run the file's systemd tests in it; asserts that they pass."""
    command = ["env", f"{_VARIABLE}=1", sys.executable, "-m", "pytest", file, "-m", "systemd"]
    command += ["-p", "no:cacheprovider", "--rootdir", str(_ROOT)]
    command += ["-c", str(_ROOT / "pyproject.toml")]
    with Sandbox.up(fresh_name(), machines=1, etcd=0, fleetd=False) as sandbox:
        done = sandbox.run("fleet1", command, timeout_s=timeout_s)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
