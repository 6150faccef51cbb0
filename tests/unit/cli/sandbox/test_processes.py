import os
import signal
import subprocess
from pathlib import Path

import pytest

from cli.sandbox.processes import (
    Process,
    end,
    find,
    held_signals,
    in_namespaces,
    is_first,
    is_running,
    namespace_id,
    parse_stat,
    spawn,
)
from fleet.errors import Unavailable

_REST = "0 " * 18


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"7 (sh) S {_REST}123 0", ("S", 123), id="plain"),
        pytest.param(f"7 (a b) S {_REST}123 0", ("S", 123), id="a blank in the name"),
        pytest.param(f"7 (a) R (b) Z {_REST}5 0", ("Z", 5), id="parentheses in the name"),
    ],
)
def test_stat_gives_state_and_start(text: str, expected: tuple[str, int]) -> None:
    assert parse_stat(text) == expected


def _sleeper(tmp_path: Path) -> Process:
    environment = {"PATH": os.environ["PATH"]}
    return spawn(["sleep", "1000"], environment=environment, log=tmp_path / "log")


def test_process_is_known_by_pid_and_start(tmp_path: Path) -> None:
    process = _sleeper(tmp_path)
    try:
        assert is_running(process)
        assert not is_running(Process(pid=process.pid, started=process.started - 1))
    finally:
        end(lambda: [p for p in [process] if is_running(p)])
    assert find(process.pid) is None


def test_spawned_process_leads_a_session_and_writes_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "echo out; echo err >&2; ps -o sid= -p $$"
    process = spawn(["sh", "-c", script], environment={"PATH": os.environ["PATH"]}, log=log)
    os.waitpid(process.pid, 0)

    assert log.read_text().split() == ["out", "err", str(process.pid)]


def test_spawned_process_does_not_inherit_held_signals(tmp_path: Path) -> None:
    with held_signals():
        process = _sleeper(tmp_path)
    os.kill(process.pid, signal.SIGTERM)

    assert os.WTERMSIG(os.waitpid(process.pid, 0)[1]) == signal.SIGTERM


def test_held_signals_arrive_after_the_block() -> None:
    reached: list[str] = []

    def hold() -> None:
        with held_signals():
            signal.raise_signal(signal.SIGINT)  # to this thread, whose signals are held
            reached.append("the end of the block")

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert reached


def test_end_asks_again_for_what_was_started_meanwhile(tmp_path: Path) -> None:
    first, second = _sleeper(tmp_path), _sleeper(tmp_path)
    known = [[first], [first, second]]

    killed = end(lambda: known.pop(0) if known else [])

    assert killed == 2
    assert not is_running(first)
    assert not is_running(second)


def test_end_of_nothing_kills_nothing() -> None:
    assert end(list) == 0


def test_end_says_what_does_not_end() -> None:
    immortal = Process(pid=2**22 - 1, started=0)

    with pytest.raises(Unavailable, match=f"processes {immortal.pid} do not end"):
        end(lambda: [immortal], deadline_s=0)


def test_namespace_of_a_process_is_found_in_proc() -> None:
    ours = namespace_id("/proc/self/ns/net")

    assert ours is not None
    assert os.getpid() in [process.pid for process in in_namespaces([ours])]
    assert in_namespaces([]) == []
    assert namespace_id("/proc/self/ns/nothing") is None


def test_we_are_not_the_first_process_of_a_machine() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        try:
            assert not is_first(os.getpid())
            assert not is_first(child.pid)
        finally:
            child.kill()
    assert not is_first(child.pid)
