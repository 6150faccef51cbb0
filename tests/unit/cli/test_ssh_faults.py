"""Every way SSH can fail is one sentence with the host and a remedy."""

import errno
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from cli.tunnel.faults import Stage, explain
from cli.tunnel.inspection import Finding, inspection_command, parse_inspection
from fleet.errors import Denied, FleetError, InvalidRequest, Unavailable

STAGE = Stage(place="host", doing="trying", limit_s=10, user="me", offered="id_a")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        pytest.param(TimeoutError(), Unavailable, "timed out after 10 s while trying", id="slow"),
        pytest.param(
            TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
            Unavailable,
            "cannot reach host while trying: Connection timed out",
            id="the kernel's own time limit",
        ),
        pytest.param(
            asyncssh.PermissionDenied("no"), Denied, "does not let 'me' in with id_a", id="no key"
        ),
        pytest.param(
            asyncssh.DisconnectError(2, "Too many authentication failures"),
            Denied,
            "IdentitiesOnly=yes",
            id="too many keys",
        ),
        pytest.param(
            asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "no"),
            Denied,
            "AllowTcpForwarding",
            id="forwarding is forbidden",
        ),
        pytest.param(
            asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "Connection refused"),
            Unavailable,
            "host failed while trying: Connection refused",
            id="the far side cannot connect",
        ),
        pytest.param(
            asyncssh.KeyExchangeFailed("none"), Unavailable, "no SSH algorithm in common", id="kex"
        ),
        pytest.param(
            asyncssh.ConnectionLost("gone"), Unavailable, "hung up while trying: gone", id="lost"
        ),
        pytest.param(
            asyncssh.ConfigParseError("file line 3: bad"),
            InvalidRequest,
            "cannot read ssh_config: file line 3: bad",
            id="ssh_config",
        ),
        pytest.param(
            socket.gaierror(-2, "unknown"), Unavailable, "cannot resolve the host 'host'", id="DNS"
        ),
        pytest.param(
            ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
            Unavailable,
            "host refuses connections",
            id="refused",
        ),
        pytest.param(
            OSError("Multiple exceptions: [Errno 111] ('::1', 1), [Errno 111] ('127.0.0.1', 1)"),
            Unavailable,
            "host refuses connections",
            id="refused at every address",
        ),
        pytest.param(
            OSError(errno.EHOSTUNREACH, "No route to host"),
            Unavailable,
            "cannot reach host while trying: No route to host",
            id="no route",
        ),
        pytest.param(
            PermissionError(errno.EACCES, "Permission denied", "/file"),
            InvalidRequest,
            "cannot read /file: Permission denied",
            id="a file of ours",
        ),
        pytest.param(ValueError("odd"), Unavailable, "failed while trying: odd", id="others"),
    ],
)
def test_error_is_a_sentence(error: Exception, kind: type[FleetError], said: str) -> None:
    explained = explain(error, STAGE)
    assert type(explained) is kind
    assert said in str(explained)
    assert "host" in str(explained) or kind is InvalidRequest


def test_errors_of_ours_pass_as_they_are() -> None:
    error = Denied("ours")
    assert explain(error, STAGE) is error


def inspect(path: Path) -> tuple[Finding, str]:
    """What the script says to a user who owns nothing."""
    nobody = 65534 if os.getuid() == 0 else None
    ran = subprocess.run(  # in a shell, as sshd does it
        inspection_command(str(path)),
        shell=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        user=nobody,
        group=nobody,
        extra_groups=None if nobody is None else [],
    )
    return parse_inspection(ran.stdout)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize(("mode", "finding"), [(0o000, Finding.DENIED), (0o666, Finding.NO_HELPER)])
def test_script_tells_a_socket_that_is_not_for_us(
    open_folder: Path, mode: int, finding: Finding
) -> None:
    path = open_folder / "it's a socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(mode)
        found, group = inspect(path)
    assert found is finding
    assert group == (path.group() if finding is Finding.DENIED else "")


def test_script_tells_what_is_no_socket(open_folder: Path) -> None:
    assert inspect(open_folder / "missing") == (Finding.MISSING, "")
    (open_folder / "file").touch()
    assert inspect(open_folder / "file") == (Finding.NO_SOCKET, "")
