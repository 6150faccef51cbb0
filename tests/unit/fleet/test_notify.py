"""What a service manager is told and what it passes, with real sockets."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import InvalidRequest
from fleet.notify import listen_sockets, notify, watchdog_interval_s

_FIRST_FD = 200
"""Far above what the test process has open."""


def _manager(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.setblocking(False)
    return listener


def test_message_reaches_the_managers_socket(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with _manager(address) as manager:
        assert notify("READY=1\nSTATUS=ü", {"NOTIFY_SOCKET": address})

        assert manager.recv(100) == "READY=1\nSTATUS=ü".encode()


def test_message_reaches_an_abstract_socket() -> None:
    name = f"fleet-test-{os.getpid()}"
    with _manager(f"\0{name}") as manager:
        assert notify("WATCHDOG=1", {"NOTIFY_SOCKET": f"@{name}"})

        assert manager.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="no manager"),
        pytest.param({"NOTIFY_SOCKET": ""}, id="an empty address"),
        pytest.param({"NOTIFY_SOCKET": "vsock:2:1234"}, id="another kind of address"),
        pytest.param({"NOTIFY_SOCKET": "/nonexistent/notify"}, id="a manager that is gone"),
        pytest.param({"NOTIFY_SOCKET": "/" + "x" * 200}, id="an address too long"),
    ],
)
def test_message_without_a_manager_goes_nowhere(environ: dict[str, str]) -> None:
    assert notify("READY=1", environ) is False


_PID = str(os.getpid())


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        pytest.param({"WATCHDOG_USEC": "30000000"}, 30.0, id="for anybody"),
        pytest.param({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": _PID}, 0.5, id="for this process"),
        pytest.param({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}, None, id="for another process"),
        pytest.param({"WATCHDOG_PID": _PID}, None, id="no interval"),
        pytest.param({"WATCHDOG_USEC": "0"}, None, id="an interval of nothing"),
        pytest.param({"WATCHDOG_USEC": "soon"}, None, id="no number"),
        pytest.param({}, None, id="no watchdog"),
    ],
)
def test_watchdog_interval(environ: dict[str, str], interval_s: float | None) -> None:
    assert watchdog_interval_s(environ) == interval_s


@pytest.fixture
def passed(tmp_path: Path) -> Iterator[list[str]]:
    """Two listening sockets at known descriptors, as a manager passes them; their addresses."""
    addresses = [str(tmp_path / name) for name in ("first", "second")]
    for fd, address in enumerate(addresses, start=_FIRST_FD):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(address)
            listener.listen()
            os.dup2(listener.fileno(), fd, inheritable=True)
    yield addresses
    for fd in range(_FIRST_FD, _FIRST_FD + len(addresses)):
        os.close(fd)


def test_sockets_that_were_passed_are_taken_and_kept_from_children(passed: list[str]) -> None:
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": "42"}

    sockets = listen_sockets(environ, 42, first_fd=_FIRST_FD)

    assert [taken.getsockname() for taken in sockets] == passed
    assert not any(taken.get_inheritable() for taken in sockets)
    assert [taken.family for taken in sockets] == [socket.AF_UNIX] * 2
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(passed[1])
        sockets[1].accept()[0].close()
    for taken in sockets:
        taken.detach()


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"LISTEN_FDS": "2"}, id="nobody in particular"),
        pytest.param({"LISTEN_FDS": "2", "LISTEN_PID": "41"}, id="for another process"),
        pytest.param({"LISTEN_FDS": "0", "LISTEN_PID": "42"}, id="none"),
        pytest.param({"LISTEN_FDS": "many", "LISTEN_PID": "42"}, id="no number"),
        pytest.param({"LISTEN_PID": "42"}, id="no count"),
    ],
)
def test_no_sockets_were_passed(environ: dict[str, str], passed: list[str]) -> None:
    assert listen_sockets(environ, 42, first_fd=_FIRST_FD) == []
    assert os.get_inheritable(_FIRST_FD)


def test_descriptor_that_is_no_socket_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        os.dup2(file.fileno(), _FIRST_FD)
    try:
        with pytest.raises(InvalidRequest, match=f"descriptor {_FIRST_FD} is a socket"):
            listen_sockets({"LISTEN_FDS": "1", "LISTEN_PID": "42"}, 42, first_fd=_FIRST_FD)
    finally:
        os.close(_FIRST_FD)


def test_descriptor_that_is_not_open_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Bad file descriptor"):
        listen_sockets({"LISTEN_FDS": "1", "LISTEN_PID": "42"}, 42, first_fd=_FIRST_FD)
