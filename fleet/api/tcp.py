"""TCP sockets that systemd passes: with TLS and client certificates, or not at all.

Whoever may change the cluster runs code as root on every machine, so a TCP socket that asks nobody
who they are takes the administrator's own word, `api_insecure=true`. Loopback is no exception:
every user and every service of the machine gets there.
"""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFiles:
    """What TLS takes, as PEM: the server's certificate and key, and the clients' authority."""

    certfile: Path
    keyfile: Path
    cafile: Path


def server_context(files: ServerFiles) -> ssl.SSLContext:
    """What serves TLS, and takes no client without a certificate of the authority.

    Raises InvalidRequest naming the file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # some Pythons leave it to the system
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files.certfile, files.keyfile)
    except (OSError, ValueError) as error:
        raise _unusable(f"{files.certfile} and {files.keyfile}", error) from error
    try:
        context.load_verify_locations(files.cafile)
    except (OSError, ValueError) as error:
        raise _unusable(f"{files.cafile}", error) from error
    return context


def _unusable(files: str, error: Exception) -> InvalidRequest:
    cause = str(getattr(error, "strerror", None) or error).lower()
    return InvalidRequest(f"the API cannot have TLS with {files}: {cause}")


def is_tcp(listener: socket.socket) -> bool:
    """Whether it takes connections of which the kernel cannot say who is there."""
    return listener.family != socket.AF_UNIX


def check_listener(listener: socket.socket, *, has_tls: bool, insecure: bool) -> None:
    """Raise InvalidRequest for a socket on which nobody would be asked who they are."""
    if is_tcp(listener) and not (has_tls or insecure):
        raise InvalidRequest(
            f"whoever reaches the TCP socket {address_of(listener)} could change the cluster: set "
            "api_certfile, api_keyfile and api_cafile to ask for client certificates there, "
            "or api_insecure=true, or take the socket away"
        )


def address_of(listener: socket.socket) -> str:
    """Where it listens, for people."""
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return str(name)
    host, port = name[:2]
    return f"[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{host}:{port}"
