"""fleetctl without the wait for its imports: a process that has made them forks for each command.

A command is a process of its own as ever, with its own arguments, environment, directory and
standard streams, and ends as any interpreter does; it only begins where its imports are done, which
is most of what a short command costs. A scenario runs hundreds of them.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import cli.fleetctl
import cli.tunnel
from fleet.api.client import FleetClient

Done = subprocess.CompletedProcess[str]
_MAX_REQUEST = 1 << 20
_ROOT = Path(__file__).resolve().parents[1]


def run_fleetctl(
    words: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str],
    stdin: str = "",
    timeout_s: float,
) -> Done:
    """Run fleetctl to its end, like `subprocess.run`; raises TimeoutExpired."""
    asked = {"words": list(words), "cwd": str(cwd or Path.cwd()), "env": dict(env)}
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin.encode())
        given.seek(0)
        status = _ask(asked, [given, out, err], timeout_s)
        return Done(["fleetctl", *words], status, _read(out), _read(err))


def _ask(asked: Mapping[str, object], streams: Sequence[BinaryIO], timeout_s: float) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(timeout_s)
        line.connect(_zygote())
        fds = [stream.fileno() for stream in streams]
        socket.send_fds(line, [json.dumps(asked).encode()], fds)
        pid = int(line.recv(64))
        try:
            return int(line.recv(64))
        except TimeoutError as error:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(cast(list[str], asked["words"]), timeout_s) from error


def _read(stream: BinaryIO) -> str:
    stream.seek(0)
    return stream.read().decode()


@functools.cache
def _zygote() -> str:
    """The address of this process's zygote, which ends when this process does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        address = f"\0fleetctl-zygote-{os.getpid()}"
        listener.bind(address)
        listener.listen(64)
        zygote = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.zygote", str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=_ROOT,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            pass_fds=[listener.fileno()],
        )
    atexit.register(zygote.communicate)  # its input ends, and so does it
    return address


# In the zygote


def _serve(listener: socket.socket) -> list[str]:
    """Fork for each request; returns in the child, with the words of the command."""
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    ready.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is sys.stdin:
                sys.exit()  # whoever asked for commands has ended
            if key.fileobj is not listener:
                ready.unregister(key.fileobj)
                _tell_end(cast(int, key.fileobj), *key.data)
                continue
            line, _ = listener.accept()
            request, fds, _, _ = socket.recv_fds(line, _MAX_REQUEST, 3)
            pid = os.fork()
            if not pid:
                return _become(json.loads(request), fds)
            for fd in fds:
                os.close(fd)
            ready.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, line))
            line.send(str(pid).encode())


def _tell_end(pidfd: int, pid: int, line: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    with line, contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        line.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(asked: Mapping[str, object], fds: Sequence[int]) -> list[str]:
    for place, fd in enumerate(fds):
        os.dup2(fd, place)
    os.chdir(cast(str, asked["cwd"]))
    os.environ.clear()
    os.environ.update(cast(dict[str, str], asked["env"]))
    return cast(list[str], asked["words"])


def _import_all() -> None:
    for package in (cli.fleetctl, cli.tunnel):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    FleetClient("unix:///")  # which has its HTTP library import the rest of itself
    gc.freeze()  # children share what is there, and look for no garbage in it


if __name__ == "__main__":
    _import_all()
    words = _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv = ["fleetctl", *words]
    importlib.import_module("cli.fleetctl.main").main()
