"""`make demo` as a user runs it: the story it tells, the three lines at its end, and no traces."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox, remove
from cli.sandbox.demo import NAME
from fleet.errors import NotFound
from tests.cluster.machines import FLEETCTL, eventually, traces

pytestmark = pytest.mark.systemd

ROOT = Path(__file__).parents[2]
ELSEWHERE_S = 15.0


@pytest.fixture(scope="module")
def told() -> Iterator[str]:
    """What the demo prints where nobody else's demo is up; its cluster is gone afterwards."""
    try:
        Sandbox.open(NAME)
    except NotFound:
        pass
    else:
        pytest.skip("somebody's demo is up on this host")
    try:
        yield _run([sys.executable, "-P", "-m", "cli.sandbox.demo"])
    finally:
        remove(NAME)


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def _story(told: str) -> tuple[str, ...]:
    """The paragraphs, each from what it says to the next."""
    return tuple(part.strip() for part in told.split("\n\n") if part.strip())


def _table(paragraph: str) -> list[list[str]]:
    """The rows of the list that the paragraph ends with."""
    header = re.search(r"^(UNIT|MACHINE)\t.*$", paragraph, re.MULTILINE)
    assert header, paragraph
    return [line.split() for line in paragraph[header.end() :].strip().splitlines()]


def _homes(paragraph: str) -> dict[str, str]:
    """Where each unit that is not global is active."""
    rows = _table(paragraph)
    assert sum(row[0] == "log-shipper.service" for row in rows) >= 2
    return {row[0]: row[1] for row in rows if row[2] == "active" and "log" not in row[0]}


def test_demo_tells_its_story(told: str) -> None:
    up, tunnel, start, cut, moved, end = _story(told)

    assert "sandbox 'demo' is up" in up
    assert "through an SSH tunnel" in tunnel
    assert len(_table(tunnel)) == 3
    assert "Unit web.service launched on" in start
    before = _homes(start)
    assert set(before) == {"web.service", "worker@1.service", "worker@2.service"}
    assert before["worker@1.service"] != before["worker@2.service"]
    victim = re.search(r"web.service runs on (fleet\d). Its power goes off now.", cut)
    assert victim
    assert f"{victim[1]} lost power" in cut
    seconds = re.search(r"active elsewhere ([\d.]+) s after the power cut", moved)
    assert seconds
    assert float(seconds[1]) < ELSEWHERE_S
    after = _homes(moved)
    assert after["web.service"] != before["web.service"]
    assert set(after.values()) <= {*before.values(), after["web.service"]}
    assert before["web.service"] not in after.values()
    assert "The cluster stays up" in end


def test_three_lines_at_the_end_of_the_demo_let_the_user_go_on(told: str) -> None:
    *_, end = _story(told)
    _, *lines = end.splitlines()
    shell, boot, down = [re.split(r"\s{3,}", line.strip())[0] for line in lines]

    listed = subprocess.run(
        shlex.split(shell),
        cwd=ROOT,
        env={"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"},
        input="fleetctl list-units --no-legend\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "web.service" in listed.stdout
    _run(shlex.split(boot))
    machines = [str(FLEETCTL), "sandbox", "shell", "--name", NAME, "fleet3"]
    eventually(lambda: len(_run([*machines, "fleetctl", "list-machines"]).splitlines()) == 4)
    _run(shlex.split(down))
    assert traces(NAME) == []
