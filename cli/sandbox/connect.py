"""Joins stdin and stdout to a TCP connection: `python -I -S connect.py HOST PORT`.

ssh's ProxyCommand runs it inside the sandbox's network. It stands alone, on the standard library,
and imports little, for it is started anew for every connection.
"""

import os
import select
import socket
import sys

_CHUNK = 65536
_CONNECT_TIMEOUT_S = 10.0


def join(connection: socket.socket) -> None:
    """Carry bytes both ways until the far side closes; the end of stdin is passed on."""
    sources = [0, connection.fileno()]
    while connection.fileno() in sources:
        for ready in select.select(sources, [], [])[0]:
            data = os.read(ready, _CHUNK)
            if not data:
                sources.remove(ready)
                if ready == 0:
                    connection.shutdown(socket.SHUT_WR)
            elif ready == 0:
                connection.sendall(data)
            else:
                _write_all(1, data)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main(host: str, port: str) -> int:
    """Connect and carry; the status is 0 once the connection was made."""
    try:
        connection = socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S)
    except OSError as error:
        sys.stderr.write(f"no connection to {host} port {port}: {error}\n")
        return 1
    connection.settimeout(None)
    # As ssh does with a socket of its own: many small messages wait for one another otherwise.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        try:
            join(connection)
        except OSError:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
