"""Waiting for what was started: systemd and etcd tell it themselves, fleetd is asked.

Each node gets a socket of sd_notify(3). etcd writes READY=1 there when it serves, and
systemd-nspawn when the machine's PID 1 has finished booting.
"""

import contextlib
import http.client
import json
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.sandbox.processes import Process, is_running
from fleet.errors import Unavailable

_POLL_S = 0.02
_REQUEST_TIMEOUT_S = 2.0
# A machine may be up while fleetd still waits for its store; this long it is given to be both.
_PATIENCE_S = 3.0
_MACHINES = "/fleet/v1/machines"
# What may still be starting in a machine that counts as booted: fleetd, and what waits for it.
_LATE = frozenset(
    {
        "fleet.service",
        "multi-user.target",
        "graphical.target",
        "systemd-update-utmp-runlevel.service",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """A node on its way: its process, its notify socket, and what tells that it is up anyway."""

    process: Process
    notices: socket.socket
    is_up: Callable[[], bool]


def listen(path: Path) -> socket.socket:
    """A fresh notify socket at the path."""
    path.unlink(missing_ok=True)
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    notices.bind(str(path))
    return notices


def wait_until_started(
    pending: Mapping[str, Starting], *, deadline_s: float, on_ready: Callable[[str, float], None]
) -> None:
    """Return when every node has said that it is ready.

    Raises Unavailable that names the nodes that ended or did not get there in `deadline_s`.
    """
    began = time.monotonic()
    left = dict(pending)
    with selectors.DefaultSelector() as selector:
        for name, starting in left.items():
            selector.register(starting.notices, selectors.EVENT_READ, name)
        while left:
            waited_s = time.monotonic() - began
            told = {key.data for key, _ in selector.select(_POLL_S) if _is_ready(key.fileobj)}
            for name, starting in list(left.items()):
                if name in told or (waited_s > _PATIENCE_S and starting.is_up()):
                    selector.unregister(left.pop(name).notices)
                    on_ready(name, time.monotonic() - began)
                elif not is_running(starting.process):
                    raise Unavailable(f"{name} ended while it was starting")
            if left and waited_s > deadline_s:
                raise Unavailable(f"{', '.join(left)} did not start in {deadline_s:g} s")


def _is_ready(notices: object) -> bool:
    assert isinstance(notices, socket.socket)  # noqa: S101  what listen() made
    with contextlib.suppress(BlockingIOError):
        return "READY=1" in notices.recv(4096).decode(errors="replace").split("\n")
    return False


def only_fleet_is_starting(jobs: str) -> bool:
    """Whether `systemctl list-jobs` names nothing but fleetd and what waits for it."""
    units = {line.split()[1] for line in jobs.splitlines() if len(line.split()) > 1}
    return units <= _LATE


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_REQUEST_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def machines_seen(path: Path) -> frozenset[str]:
    """The ids of the machines that the API at this socket lists; none if it does not answer."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", _MACHINES)
        response = connection.getresponse()
        body = response.read()
        if response.status != http.HTTPStatus.OK:
            return frozenset()
        return frozenset(machine["id"] for machine in json.loads(body).get("machines", ()))
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return frozenset()
    finally:
        connection.close()


def wait_until_one_cluster(
    sockets: Mapping[str, Path], *, machine_ids: Iterable[str], deadline_s: float
) -> float:
    """Return when every machine's API lists all these machines; the seconds it took.

    Raises Unavailable with the machines whose API does not answer, or lists fewer.
    """
    wanted = frozenset(machine_ids)
    began = time.monotonic()
    short: dict[str, int] = {}
    while (waited_s := time.monotonic() - began) < deadline_s:
        seen = {name: machines_seen(path) for name, path in sockets.items()}
        short = {name: len(ids & wanted) for name, ids in seen.items() if not wanted <= ids}
        if not short:
            return waited_s
        time.sleep(_POLL_S)
    told = ", ".join(f"fleetd on {name} knows {count}" for name, count in short.items())
    raise Unavailable(
        f"the machines did not find each other in {deadline_s:g} s: "
        f"{told} of {len(wanted)} machines"
    )
