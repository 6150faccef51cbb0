"""What fleetctl says when it cannot reach a cluster: a sentence, whatever the verb."""

import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.fleetctl.main import run
from fleet.errors import Unavailable
from tests.unit.cli.fleetctl.cluster import Cluster, Fleetctl

_COMMANDS = (
    *("list-machines", "list-units", "list-unit-files", "cat web", "events", "hold"),
    *("start web", "load web", "submit web", "stop web", "unload web", "destroy web"),
    *("scale web@ 1", "rebalance", "restart --max-unavailable 1 web"),
    *("restart web", "status web", "journal web", "ssh web", "ssh --machine 1 true"),
)


def _said(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one sentence that the command line comes to; status 1, nothing on stdout."""
    capsys.readouterr()
    status = run(argv)
    captured = capsys.readouterr()
    assert (status, captured.out) == (1, "")
    assert len(captured.err.splitlines()) == 1, captured.err
    return captured.err.rstrip("\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a unit file, and no variables that lead anywhere."""
    for name in list(os.environ):
        if name.startswith("FLEETCTL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("web.service").write_text("[Service]\nExecStart=/bin/sleep 100\n")
    return tmp_path


@pytest.mark.parametrize("command", _COMMANDS)
def test_missing_socket_is_named_by_every_verb(
    capsys: pytest.CaptureFixture[str], folder: Path, command: str
) -> None:
    said = _said(capsys, "--endpoint", f"unix://{folder}/none.sock", *command.split())
    assert said == f"there is no socket {folder}/none.sock: is fleetd running?"


@pytest.mark.parametrize("command", _COMMANDS)
def test_socket_that_nobody_serves_is_named_by_every_verb(
    capsys: pytest.CaptureFixture[str], folder: Path, command: str
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("dead.sock")
    said = _said(capsys, "--endpoint", f"unix://{folder}/dead.sock", *command.split())
    assert said == f"nobody listens on {folder}/dead.sock: is fleetd running?"


@pytest.mark.parametrize("command", _COMMANDS)
def test_store_that_is_away_is_told_by_every_verb(
    fleetctl: Fleetctl, cluster: Cluster, command: str
) -> None:
    Path("web.service").write_text("[Service]\nExecStart=/bin/sleep 100\n")
    away = Unavailable("etcd does not answer: http://10.0.0.1:2379: no route to host")
    cluster.served.fail_with(away)
    outcome = fleetctl("--request-timeout", "0.8", *command.split())
    assert (outcome.status, outcome.out) == (1, "")
    assert len(outcome.err.splitlines()) == 1, outcome.err
    assert "fleet server unable to communicate with etcd: etcd does not answer" in outcome.err


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        pytest.param("/run/fleet.sock", "URL scheme undefined in '/run/fleet.sock'", id="a path"),
        pytest.param("ssh://host", "use unix:///path, http:// or https://", id="another scheme"),
        pytest.param("unix://run/fleet.sock", "three slashes, unix:///run/fleet.sock", id="two"),
        pytest.param("http://h:99999", "port out of range 0-65535", id="no such port"),
        pytest.param("http://[::1", "invalid ipv6 url", id="half an address"),
        pytest.param("http://127.0.0.1:1", "nobody listens there", id="a closed port"),
        pytest.param("http://nobody.invalid", "no such host is known", id="an unknown host"),
        pytest.param("unix:///", "nobody listens on /", id="a directory"),
        pytest.param("unix:///etc/passwd/x", "not a directory", id="below a file"),
    ],
)
def test_endpoint_that_leads_nowhere_is_explained(
    capsys: pytest.CaptureFixture[str], folder: Path, endpoint: str, said: str
) -> None:
    assert said in _said(capsys, "--endpoint", endpoint, "list-machines")


def test_computer_that_is_no_machine_of_a_cluster_is_pointed_to_the_tunnel(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    if Path("/var/run/fleet.sock").exists():
        pytest.skip("this is a machine of a cluster")
    said = _said(capsys, "list-machines")
    assert said.startswith("there is no socket /var/run/fleet.sock: is fleetd running?")
    assert said.endswith("reach a cluster with --tunnel.")


class _Pages(http.server.BaseHTTPRequestHandler):
    """Some other server."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def other_server() -> Iterator[int]:
    """The port of a web server that is no fleetd."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_server_that_is_no_fleetd_is_told_as_such(
    capsys: pytest.CaptureFixture[str], folder: Path, other_server: int
) -> None:
    said = _said(capsys, "--endpoint", f"http://127.0.0.1:{other_server}", "cat", "web")
    assert said.endswith("answered with HTTP status 404, not as a fleetd does")
    said = _said(capsys, "--endpoint", f"https://127.0.0.1:{other_server}", "cat", "web")
    assert said.endswith("is it http:// rather than https://?")


def test_server_that_is_silent_is_not_waited_for(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        said = _said(capsys, "--endpoint", endpoint, "--request-timeout", "0.2", "list-units")
    assert re.fullmatch(rf"{endpoint} has not answered GET /fleet/v1/\w+ for 0.2 s", said)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("command", ["list-machines", "start web"])
def test_user_who_may_not_use_the_socket_is_told_which_group_may(
    cluster: Cluster, folder: Path, command: str
) -> None:
    os.chmod(cluster.socket, 0o660)
    os.chmod(folder, 0o755)
    # pytest's own folders above are closed to others, so the socket is passed in by a descriptor.
    # The interpreter's may be too, so all that the verb imports is there before.
    opened = os.open(folder, os.O_PATH)
    program = (
        "import contextlib, io, os, sys; sys.path = eval(os.environ['PATHS']);"
        "from cli.fleetctl.main import run\n"
        "with contextlib.redirect_stderr(io.StringIO()): assert run(sys.argv[3:]) == 1\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(run(sys.argv[1:]))"
    )
    endpoint = f"unix:///proc/self/fd/{opened}/fleet.sock"
    done = subprocess.run(
        [sys.executable, "-c", program, "--endpoint", endpoint, *command.split()],
        env={**os.environ, "PATHS": repr(sys.path), "FLEETCTL_ENDPOINT": "unix:///proc/none"},
        pass_fds=[opened],
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(opened)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"you may not use /proc/self/fd/{opened}/fleet.sock: that takes membership of group fleet "
        "(fleet-viewers to read), or root\n"
    )
