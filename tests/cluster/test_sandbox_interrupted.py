"""An `up` that is interrupted, wherever it has got to, leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sandbox.cluster import remove
from cli.sandbox.layout import Place
from tests.cluster.machines import FLEETCTL, fleetctl, fresh_name, traces

pytestmark = pytest.mark.systemd

Moment = Callable[[Place], Path]
_DEADLINE_S = 60.0
_PYTHON_FALLS_TO_SIGINT = 130

MOMENTS = [
    pytest.param(lambda place: place.lock, id="the name is taken"),
    pytest.param(lambda place: place.top, id="its directory is there"),
    pytest.param(lambda place: place.hub, id="the bridge is being laid"),
    pytest.param(lambda place: place.net("fleet2"), id="the network is being laid"),
    pytest.param(lambda place: place.host_key("fleet1"), id="keys are being made"),
    pytest.param(lambda place: place.root("fleet2") / "etc/hostname", id="a root is being laid"),
    pytest.param(lambda place: place.log("etcd1"), id="etcd is being started"),
    pytest.param(lambda place: place.log("fleet1"), id="a machine is being started"),
    pytest.param(lambda place: place.log("fleet3"), id="the last machine is being started"),
]


def _up(name: str) -> subprocess.Popen[str]:
    argv = [sys.executable, str(FLEETCTL), "sandbox", "up", "--no-fleetd", "--name", name]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _wait_for(path: Path, up: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not os.path.lexists(path):
        assert up.poll() is None, f"`up` has ended before {path}"
        assert time.monotonic() < deadline


@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupted_up_removes_what_it_has_made(moment: Moment) -> None:
    name = fresh_name()
    try:
        with _up(name) as up:
            _wait_for(moment(Place(name=name)), up)
            up.send_signal(signal.SIGINT)
            up.communicate(timeout=_DEADLINE_S)

        assert up.returncode == _PYTHON_FALLS_TO_SIGINT
        assert traces(name) == []
    finally:
        remove(name)


def test_terminated_up_removes_what_it_has_made() -> None:
    name = fresh_name()
    try:
        with _up(name) as up:
            _wait_for(Place(name=name).log("fleet1"), up)
            up.terminate()
            up.communicate(timeout=_DEADLINE_S)

        assert up.returncode == 128 + signal.SIGTERM
        assert traces(name) == []
    finally:
        remove(name)


def test_up_interrupted_twice_still_removes_what_it_has_made() -> None:
    name = fresh_name()
    try:
        with _up(name) as up:
            _wait_for(Place(name=name).log("fleet3"), up)
            for _ in range(5):
                up.send_signal(signal.SIGINT)
                time.sleep(0.02)
            up.communicate(timeout=_DEADLINE_S)

        assert traces(name) == []
    finally:
        remove(name)


@pytest.mark.parametrize("moment", MOMENTS)
def test_down_removes_what_a_killed_up_has_left(moment: Moment) -> None:
    name = fresh_name()
    try:
        with _up(name) as up:
            _wait_for(moment(Place(name=name)), up)
            up.kill()

        done = fleetctl("sandbox", "down", "--name", name)
        assert (done.returncode, done.stderr) == (0, "")
        assert traces(name) == []
    finally:
        remove(name)


def test_up_replaces_what_a_killed_up_has_left() -> None:
    name = fresh_name()
    try:
        with _up(name) as up:
            _wait_for(Place(name=name).log("fleet2"), up)
            up.kill()

        again = fleetctl("sandbox", "up", "--no-fleetd", "--machines", "1", "--name", name)
        assert again.returncode == 0, again.stderr
        assert f"removed what was left of an earlier sandbox '{name}'" in again.stdout
        assert f"sandbox '{name}' is up" in again.stdout
    finally:
        remove(name)
    assert traces(name) == []
