"""An API server in a process of its own, whose memory and descriptors can be looked at."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# It serves until its stdin ends; what it logs as errors goes to stderr.
_SERVE = """
import asyncio, json, logging, sys
from pathlib import Path
from fleet.api.limits import Limits
from fleet.api.server import ApiServer
from fleet.keys import Keys
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.unit import parse_unit

async def main():
    path, limits, units = json.loads(sys.argv[1])
    registry = Registry(MemoryStore(), Keys())
    file = parse_unit("[Service]\\nExecStart=/bin/true\\nEnvironment=" + "x" * 500 + "\\n")
    names = [UnitName(f"u{number}.service") for number in range(units)]
    await registry.apply(
        [UnitChange(name=each, file=file, target=TargetState.LOADED) for each in names], by="test"
    )
    server = ApiServer(registry, version="2.0.0", limits=Limits(**limits))
    await server.start(unix_path=Path(path))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()

logging.basicConfig(level=logging.WARNING)
asyncio.run(main())
"""


@dataclass(frozen=True)
class ApiProcess:
    """A server that runs: its socket, and what the kernel says of it."""

    path: Path
    pid: int

    @property
    def peak_mib(self) -> float:
        """The most memory that it has ever had resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.contextmanager
def api_process(tmp_path: Path, *, units: int = 0, **limits: Any) -> Iterator[ApiProcess]:
    """A server with these limits and so many units; asserts at the end that it logged no error."""
    path = tmp_path / "fleet.sock"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _SERVE, json.dumps([os.fspath(path), limits, units])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(errors := (tmp_path / "errors").open("w+")),
        text=True,
    )
    with process, errors:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", (tmp_path / "errors").read_text()
        yield ApiProcess(path, process.pid)
        assert process.poll() is None, "the server has ended"
        process.communicate(timeout=30)
    logged = (tmp_path / "errors").read_text()
    assert "Traceback" not in logged, logged
    assert "ERROR" not in logged, logged
