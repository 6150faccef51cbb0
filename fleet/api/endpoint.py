"""Where a server is, what verifies it, and why it cannot be reached."""

import os
import socket
import ssl
import urllib.parse
from dataclasses import dataclass

from fleet.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is: a URL, and the path of its Unix socket if it is one."""

    url: str
    unix_path: str | None = None

    def __str__(self) -> str:
        return self.unix_path or self.url

    @property
    def is_tls(self) -> bool:
        return self.url.startswith("https:")


def parse_endpoint(text: str) -> Endpoint:
    """The endpoint of that text, or the first of a comma list; raises InvalidRequest."""
    first = text.split(",")[0].strip()
    try:
        parts = urllib.parse.urlsplit(first)
        # It is read here, for a port that can be none is found when it is read.
        _ = parts.port
    except ValueError as error:
        raise InvalidRequest(f"endpoint {first!r} is none: {str(error).lower()}") from error
    if not parts.scheme:
        raise InvalidRequest(
            f"URL scheme undefined in {first!r}: use unix:///path, http:// or https://"
        )
    if parts.scheme in ("unix", "file"):
        if parts.netloc or not parts.path:
            raise InvalidRequest(
                f'unable to connect to host "{parts.netloc}" with scheme "{parts.scheme}": '
                f"a path has three slashes, {parts.scheme}:///{parts.netloc}{parts.path}"
            )
        return Endpoint("http://fleet", parts.path)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"endpoint {first!r} is none: use unix:///path, http:// or https://")
    if " " in first or not first.isprintable():
        raise InvalidRequest(f"endpoint {first!r} is none: it has a blank or a control sign in it")
    if not first.isascii():
        raise InvalidRequest(
            f"endpoint {first!r} has letters beyond ASCII: write its host as DNS does"
        )
    return Endpoint(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}")


def tls_context(*, ca_file: str = "", cert_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """What verifies an https server, against the file's authorities or the system's.

    Raises InvalidRequest naming the files if they cannot be read or do not belong together.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert_file or key_file:
            context.load_cert_chain(cert_file, key_file or None)
    except (OSError, ValueError) as error:
        files = ", ".join(name for name in (ca_file, cert_file, key_file) if name)
        cause = str(getattr(error, "strerror", None) or error).lower()
        raise InvalidRequest(f"the TLS files {files} cannot be used: {cause}") from error
    return context


def connect_failure(endpoint: Endpoint, error: OSError) -> str:
    """Why the endpoint cannot be reached, and what to do, in one sentence."""
    if endpoint.unix_path is None:
        return _tcp_failure(endpoint, error)
    match error:
        case FileNotFoundError():
            return f"there is no socket {endpoint}: is fleetd running?"
        case ConnectionRefusedError():
            return f"nobody listens on {endpoint}: is fleetd running?"
        case PermissionError():
            return (
                f"you may not use {endpoint}: that takes membership of group fleet "
                "(fleet-viewers to read), or root"
            )
    return f"cannot connect to {endpoint}: {_system_says(error)}"


def broken_connection(endpoint: Endpoint, error: Exception) -> str:
    """That the connection broke, and what it may be, in one sentence."""
    told = f"the connection to {endpoint} broke: {error}"
    if endpoint.is_tls:
        # A server of TLS 1.3 looks at the certificate when its client believes to be in already.
        told += (
            "; if it asks who you are, --cert-file and --key-file have to show a certificate "
            "that it trusts and that has not expired"
        )
    return told


def _tcp_failure(endpoint: Endpoint, error: OSError) -> str:
    match error:
        case ConnectionRefusedError():
            why = "nobody listens there; is it the right port, and does fleetd have a TCP socket?"
        case socket.gaierror():
            why = "no such host is known"
        case ssl.SSLCertVerificationError():
            why = _not_verified(error)
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "HTTP_REQUEST"):
            why = "what answers there is no TLS server; is it http:// rather than https://?"
        case ssl.SSLError():
            why = str(error)
        case _:
            why = _system_says(error)
    return f"cannot connect to {endpoint}: {why}"


def _not_verified(error: ssl.SSLCertVerificationError) -> str:
    cause = error.verify_message.rstrip(".")
    hint = "; --ca-file names the authority that vouches for it"
    is_stranger = "not valid for" not in cause and "mismatch" not in cause
    return f"certificate verify failed: {cause}{hint if is_stranger else ''}"


def _system_says(error: OSError) -> str:
    """The system's words: what asyncio puts in their place tells of the address once more."""
    return os.strerror(error.errno).lower() if error.errno else str(error)
