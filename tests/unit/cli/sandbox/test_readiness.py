import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.sandbox.processes import find
from cli.sandbox.readiness import (
    Starting,
    listen,
    machines_seen,
    only_fleet_is_starting,
    wait_until_one_cluster,
    wait_until_started,
)
from fleet.errors import Unavailable

_PAGE = b'{"machines": [{"id": "a"}, {"id": "b"}]}'


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        pytest.param("", True, id="no jobs: booted"),
        pytest.param(
            "12 fleet.service start running\n3 multi-user.target start waiting\n",
            True,
            id="fleetd waits for its store",
        ),
        pytest.param("12 ssh.service start running\n", False, id="sshd still starts"),
        pytest.param(
            "12 fleet.service start running\n4 ssh.service start waiting\n", False, id="both start"
        ),
    ],
)
def test_machine_is_up_once_only_fleetd_is_starting(jobs: str, expected: bool) -> None:
    assert only_fleet_is_starting(jobs) is expected


def _starting(path: Path, *, is_up: bool = False) -> Starting:
    ourselves = find(os.getpid())
    assert ourselves
    return Starting(process=ourselves, notices=listen(path), is_up=lambda: is_up)


def _tell(path: Path, text: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), str(path))


def test_waiting_ends_when_each_has_said_that_it_is_ready(tmp_path: Path) -> None:
    pending = {name: _starting(tmp_path / name) for name in ("a", "b")}
    _tell(tmp_path / "b", "STATUS=Starting up")
    _tell(tmp_path / "b", "READY=1\nSTATUS=Startup finished")
    _tell(tmp_path / "a", "X=1\nREADY=1")
    told: list[str] = []

    wait_until_started(pending, deadline_s=10, on_ready=lambda name, _: told.append(name))

    assert sorted(told) == ["a", "b"]
    for starting in pending.values():
        starting.notices.close()


def test_waiting_names_those_that_do_not_start(tmp_path: Path) -> None:
    pending = {name: _starting(tmp_path / name) for name in ("a", "b")}
    _tell(tmp_path / "a", "READY=1")

    with pytest.raises(Unavailable, match=r"^b did not start in 0\.1 s$"):
        wait_until_started(pending, deadline_s=0.1, on_ready=lambda *_: None)
    for starting in pending.values():
        starting.notices.close()


def test_waiting_names_what_ended(tmp_path: Path) -> None:
    starting = _starting(tmp_path / "a")
    gone = Starting(
        process=type(starting.process)(pid=starting.process.pid, started=0),
        notices=starting.notices,
        is_up=lambda: False,
    )

    with pytest.raises(Unavailable, match="a ended while it was starting"):
        wait_until_started({"a": gone}, deadline_s=10, on_ready=lambda *_: None)
    starting.notices.close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Path]:
    """A socket that answers every request with a page of the machines a and b."""
    path = tmp_path / "fleet.sock"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                asked = connection.recv(4096)
                status = b"200 OK" if b"GET /fleet/v1/machines " in asked else b"404 Not Found"
                length = str(len(_PAGE)).encode()
                connection.sendall(
                    b"HTTP/1.1 %s\r\nContent-Length: %s\r\n\r\n%s" % (status, length, _PAGE)
                )

    thread = threading.Thread(target=serve)
    thread.start()
    yield path
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_api_is_asked_for_the_machines_it_knows(api: Path) -> None:
    assert machines_seen(api) == {"a", "b"}


def test_api_that_does_not_answer_knows_no_machines(tmp_path: Path) -> None:
    assert machines_seen(tmp_path / "nothing") == frozenset()


def test_cluster_is_one_once_every_api_knows_every_machine(api: Path) -> None:
    took_s = wait_until_one_cluster({"x": api, "y": api}, machine_ids=["a", "b"], deadline_s=10)

    assert took_s < 10


def test_cluster_that_is_not_one_says_who_knows_how_many(api: Path, tmp_path: Path) -> None:
    sockets = {"x": api, "y": tmp_path / "nothing"}
    began = time.monotonic()

    with pytest.raises(
        Unavailable,
        match=r"in 0\.2 s: fleetd on x knows 2, fleetd on y knows 0 of 3 machines",
    ):
        wait_until_one_cluster(sockets, machine_ids=["a", "b", "c"], deadline_s=0.2)
    assert time.monotonic() - began < 5
