"""What the few programs do that the fake systemd knows (`agent.fake`)."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import replace

from agent.systemd import Command, SystemdState
from fleet.unit import UnitFile

EXITED = 1
_KILLED = 2
_NO_PROGRAM = 203


async def run_command(command: Command, stopped: asyncio.Event) -> SystemdState:
    """How the command ends, which it does at its limit or when it is stopped, if not before."""
    unit, (program, *words) = command.unit, command.words
    naps = os.path.basename(program) == "sleep"
    done = SystemdState(unit=unit, load="loaded", result="success")
    failed = replace(done, active="failed", sub="failed", result="exit-code", exit_code=EXITED)
    seconds = float(words[0]) if naps else 0.0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(seconds, command.limit_s)):
            await stopped.wait()
            return replace(failed, result="signal", exit_code=_KILLED, exit_status=signal.SIGTERM)
    if seconds > command.limit_s:
        return replace(failed, result="timeout", exit_code=_KILLED, exit_status=signal.SIGTERM)
    status = _status(program, words)
    return replace(failed, exit_status=status) if status else done


def sleep_s(file: UnitFile | None, option: str) -> float | None:
    """For how long the command sleeps, None if it does something else."""
    words = [] if file is None else " ".join(file.values("Service", option)[-1:]).split()
    if len(words) != 2 or os.path.basename(words[0]) != "sleep":
        return None
    return 1e9 if words[1] == "infinity" else float(words[1])


def exit_status(file: UnitFile) -> int:
    """With which status the service of the file ends."""
    program = (file.values("Service", "ExecStart")[-1].split() or [""])[0].lstrip("-@:+!")
    return _status(program, [])


def _status(program: str, words: Sequence[str]) -> int:
    """With which status the program ends when it has its say: `test` may ask for a file."""
    if not os.path.exists(program):
        return _NO_PROGRAM
    name = os.path.basename(program)
    is_absent = name == "test" and words[:1] == ["-e"] and not os.path.exists(words[1])
    return 1 if name == "false" or is_absent else 0
