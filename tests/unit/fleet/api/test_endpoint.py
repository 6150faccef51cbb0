"""Endpoints: fleet 1.0's ways to write them, and why they cannot be reached."""

import re
import socket
import ssl
from pathlib import Path

import pytest

from fleet.api.endpoint import Endpoint, connect_failure, parse_endpoint, tls_context
from fleet.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        pytest.param(
            "unix:///var/run/fleet.sock",
            Endpoint("http://fleet", "/var/run/fleet.sock"),
            id="a Unix socket",
        ),
        pytest.param("file:///a", Endpoint("http://fleet", "/a"), id="fleet 1.0's other word"),
        pytest.param("http://h:1/", Endpoint("http://h:1"), id="TCP"),
        pytest.param("https://h", Endpoint("https://h"), id="TLS"),
        pytest.param("http://a,http://b", Endpoint("http://a"), id="the first of several"),
    ],
)
def test_endpoint_is_understood(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "^URL scheme undefined in '': use unix:///path", id="nothing"),
        pytest.param(
            "/var/run/fleet.sock", "^URL scheme undefined in .*: use unix", id="a mere path"
        ),
        pytest.param(
            "unix://var/run/fleet.sock",
            '^unable to connect to host "var" with scheme "unix": .* unix:///var/run/fleet.sock$',
            id="two slashes",
        ),
        pytest.param("ftp://h", "use unix:///path", id="another scheme"),
        pytest.param("http://", "use unix:///path", id="no host"),
        pytest.param("http://h:99999", "'http://h:99999' is none: port out", id="no such port"),
        pytest.param("http://bücher.example", "write its host as DNS does", id="no ASCII"),
        pytest.param("http://h/a b", "'http://h/a b' is none: it has a blank", id="a blank"),
        pytest.param("http://h/a\x00b", "is none: it has a blank or a control sign", id="a zero"),
        pytest.param("http://[::1", "is none: invalid ipv6 url", id="half an address"),
    ],
)
def test_endpoint_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        pytest.param(FileNotFoundError(2, "no"), "is fleetd running", id="no socket"),
        pytest.param(ConnectionRefusedError(111, "no"), "is fleetd running", id="a dead one"),
        pytest.param(PermissionError(13, "no"), "group fleet", id="not allowed"),
        pytest.param(OSError(40, "no"), ": too many levels of symbolic links", id="anything else"),
    ],
)
def test_failure_to_connect_says_why_and_what_to_do(cause: OSError, message: str) -> None:
    told = connect_failure(Endpoint("http://fleet", "/run/fleet.sock"), cause)
    assert "/run/fleet.sock" in told
    assert message in told


def _not_trusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] (_ssl.c:992)")
    error.verify_message = "self-signed certificate"
    return error


def _no_tls() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        pytest.param(ConnectionRefusedError(111, "no"), "nobody listens there", id="nobody"),
        pytest.param(socket.gaierror(-2, "Name"), "no such host is known", id="no such host"),
        pytest.param(
            _not_trusted(), "verify failed: self-signed certificate; --ca-file", id="not trusted"
        ),
        pytest.param(_no_tls(), "is it http:// rather than https://", id="no TLS there"),
        pytest.param(OSError(113, "Connect call failed"), ": no route to host$", id="no way there"),
        pytest.param(OSError("several"), ": several$", id="for several reasons"),
    ],
)
def test_failure_to_connect_over_tcp_says_why(cause: OSError, message: str) -> None:
    told = connect_failure(Endpoint("https://h:1"), cause)
    assert told.startswith("cannot connect to https://h:1: ")
    assert re.search(message, told)


def test_tls_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"none\.pem"):
        tls_context(ca_file=str(tmp_path / "none.pem"))
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    with pytest.raises(InvalidRequest, match=r"rubbish\.pem"):
        tls_context(cert_file=str(rubbish), key_file=str(rubbish))
