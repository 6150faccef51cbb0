import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.fleetctl.main import run
from tests.unit.cli.fleetctl.cluster import Cluster, Fleetctl, Outcome


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "fleet.sock")
    started = threading.Event()
    ended: list[asyncio.Event] = []

    async def main() -> None:
        ended.append(asyncio.Event())
        await made.live(started, ended[0])

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert started.wait(10)
    yield made
    made.loop.call_soon_threadsafe(ended[0].set)
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def fleetctl(
    cluster: Cluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Fleetctl:
    """Runs a command line against the cluster, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETCTL_ENDPOINT", f"unix://{cluster.socket}")

    def command(*argv: str, stdin: str = "") -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        status = run(argv)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return command
