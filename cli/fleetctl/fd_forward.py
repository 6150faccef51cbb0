"""fleetctl fd-forward: standard input and output joined to a Unix socket.

A `fleetctl --tunnel` elsewhere runs it over SSH where sshd does not forward to sockets by itself.
"""

import os
import selectors
import socket

import click

from fleet.errors import InvalidRequest, Unavailable

_CHUNK = 65536


@click.command(hidden=True, epilog="\b\nExamples:\n  fleetctl fd-forward /run/fleet.sock")
@click.argument("sockets", nargs=-1, metavar="SOCKET")
def command(sockets: tuple[str, ...]) -> None:
    """Join standard input and output to the Unix socket SOCKET, until either side ends."""
    if len(sockets) != 1:
        raise InvalidRequest("Provide a single argument")
    path = sockets[0].removeprefix("unix://")
    with socket.socket(socket.AF_UNIX) as far:
        try:
            far.connect(path)
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            raise Unavailable(f"cannot connect to {path}: {cause}") from error
        forward(far, stdin=0, stdout=1)


def forward(far: socket.socket, *, stdin: int, stdout: int) -> None:
    """Carry bytes between the descriptors and the socket until either side ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(far, selectors.EVENT_READ)
        try:
            selector.register(stdin, selectors.EVENT_READ)
        except PermissionError:  # a regular file, which epoll refuses: it is ready at once
            while data := os.read(stdin, _CHUNK):
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)
        while True:
            for key, _ in selector.select():
                if not _carry(key.fd == stdin, far, stdin, stdout):
                    return


def _carry(upward: bool, far: socket.socket, stdin: int, stdout: int) -> bool:
    """Carry what is there one way; false if nothing more can follow."""
    try:
        if upward:
            data = os.read(stdin, _CHUNK)
            far.sendall(data)
        else:
            data = far.recv(_CHUNK)
            view = memoryview(data)
            while view:
                view = view[os.write(stdout, view) :]
    except (BrokenPipeError, ConnectionError):
        return False
    return bool(data)
