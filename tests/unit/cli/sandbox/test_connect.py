import socket
import subprocess
import sys
import threading
from pathlib import Path

import cli.sandbox.connect

PROGRAM = Path(cli.sandbox.connect.__file__)
BIG = bytes(range(256)) * 8192


def _connect(port: int, sent: bytes) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-I", "-S", str(PROGRAM), "127.0.0.1", str(port)]
    return subprocess.run(argv, input=sent, capture_output=True, timeout=30)


def test_connect_carries_bytes_both_ways_and_passes_on_their_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                received = b"".join(iter(lambda: connection.recv(65536), b""))
                connection.sendall(received[::-1])

        thread = threading.Thread(target=echo)
        thread.start()
        done = _connect(server.getsockname()[1], BIG)
        thread.join()

    assert done.returncode == 0
    assert done.stdout == BIG[::-1]


def test_connect_says_when_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    done = _connect(port, b"")

    assert done.returncode == 1
    assert f"no connection to 127.0.0.1 port {port}".encode() in done.stderr
