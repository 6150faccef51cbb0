"""fleetctl fd-forward as a process: the way its other end knows it."""

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

FLEETCTL = Path(sys.executable).parent / "fleetctl"


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [str(FLEETCTL), "fd-forward", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=30)


@pytest.fixture
def upper(tmp_path: Path) -> Iterator[str]:
    """A socket that answers one line in capitals and hangs up."""
    path = str(tmp_path / "upper.sock")

    def answer() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(ConnectionError):
            connection.sendall(connection.makefile("rb").readline().upper())

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        yield path
        thread.join(10)


def test_bytes_go_both_ways_until_the_socket_ends(upper: str) -> None:
    command = [str(FLEETCTL), "fd-forward", upper]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.read() == b"HELLO\n"
        assert process.wait(30) == 0


def test_end_of_input_ends_it(upper: str) -> None:
    assert run(upper).returncode == 0


def test_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    ran = run(str(tmp_path / "missing"))
    assert ran.returncode == 1
    assert (
        ran.stderr.decode() == f"cannot connect to {tmp_path}/missing: no such file or directory\n"
    )


@pytest.mark.parametrize("arguments", [(), ("a", "b")])
def test_wrong_number_of_arguments_is_told(arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert (ran.returncode, ran.stderr) == (1, b"Provide a single argument\n")
