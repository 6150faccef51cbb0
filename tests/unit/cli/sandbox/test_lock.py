import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.sandbox.layout import Place
from cli.sandbox.lock import exclusive
from fleet.errors import Unavailable

HOLD = """\
import sys, pathlib
from cli.sandbox.layout import Place
from cli.sandbox.lock import exclusive
with exclusive(Place(name="demo", base=pathlib.Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock_names_its_holder_to_those_who_wait_too_long(tmp_path: Path) -> None:
    place = Place(name="demo", base=tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match=f"'demo' is .* another command, pid {holder.pid}:"):
            exclusive(place, deadline_s=0.1).__enter__()
        with exclusive(Place(name="other", base=tmp_path)):
            pass
        holder.kill()
    with exclusive(place):
        assert place.lock.read_text() == str(os.getpid())


def test_lock_leaves_nothing_where_there_is_no_sandbox(tmp_path: Path) -> None:
    place = Place(name="demo", base=tmp_path / "base")
    with exclusive(place):
        assert place.lock.exists()

    assert not place.base.exists()


def test_lock_stays_with_its_sandbox(tmp_path: Path) -> None:
    place = Place(name="demo", base=tmp_path / "base")
    with exclusive(place):
        place.top.mkdir()

    assert place.lock.exists()


def test_lock_of_one_sandbox_stays_when_another_goes(tmp_path: Path) -> None:
    one, two = (Place(name=name, base=tmp_path / "base") for name in ("one", "two"))
    with exclusive(two):
        with exclusive(one):
            pass

        assert not one.lock.exists()
        assert two.lock.exists()
