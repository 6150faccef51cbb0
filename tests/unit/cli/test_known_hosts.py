"""What known_hosts files say, line by line and all together."""

import base64
import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from cli.known_hosts import (
    Entry,
    Marker,
    Verdict,
    add_known_host,
    entries_for,
    fingerprint_md5,
    fingerprint_sha256,
    has_name,
    host_name,
    host_names,
    judge,
    key_kind,
    parse_known_hosts,
    read_known_hosts,
    render_entry,
)

# A real Ed25519 key; its fingerprints below are ssh-keygen's.
TEXT = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
KEY = base64.b64decode(TEXT)


def key(letter: str, algorithm: str = "ssh-ed25519") -> bytes:
    """A key in wire form that is told apart by one letter."""
    parts = (algorithm.encode(), letter.encode() * 32)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def hashed(name: str) -> str:
    salt = b"a salt of 20 bytes.."
    digest = hmac.digest(salt, name.encode(), hashlib.sha1)
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def line(hosts: str, letter: str = "a", algorithm: str = "ssh-ed25519") -> str:
    return f"{hosts} {algorithm} {base64.b64encode(key(letter, algorithm)).decode()}"


def entries(*lines: str) -> tuple[Entry, ...]:
    reading = parse_known_hosts("\n".join(lines), "file")
    assert reading.complaints == ()
    return reading.entries


@pytest.mark.parametrize(
    ("hosts", "name", "expected"),
    [
        pytest.param("10.0.0.1", "10.0.0.1", True, id="the name itself"),
        pytest.param("10.0.0.1", "10.0.0.10", False, id="a name that only begins so"),
        pytest.param("a,b,c", "b", True, id="one of a list"),
        pytest.param("*.example.com", "web.example.com", True, id="a star"),
        pytest.param("*.example.com", "example.com", False, id="a star needs its dot"),
        pytest.param("10.0.0.?", "10.0.0.7", True, id="a question mark is one letter"),
        pytest.param("10.0.0.?", "10.0.0.17", False, id="a question mark is not two letters"),
        pytest.param("*,!bad", "bad", False, id="a negation after the match"),
        pytest.param("!bad,*", "bad", False, id="a negation before the match"),
        pytest.param("!bad", "good", False, id="a negation alone matches nothing"),
        pytest.param("[10.0.0.1]:2222", "[10.0.0.1]:2222", True, id="a port"),
        pytest.param("[10.0.0.1]:2222", "10.0.0.1", False, id="a line with a port, a name without"),
        pytest.param("[10.0.0.1]:2222", "1", False, id="brackets are not a set of letters"),
        pytest.param("[*]:2222", "[web]:2222", True, id="a star within brackets"),
        pytest.param("fe80::1", "fe80::1", True, id="IPv6"),
        pytest.param("Web.Example.COM", "web.example.com", True, id="case does not count"),
        pytest.param(hashed("web"), "web", True, id="a hashed host"),
        pytest.param(hashed("web"), "db", False, id="another hashed host"),
        pytest.param(hashed("[web]:2222"), "[web]:2222", True, id="a hashed host with its port"),
    ],
)
def test_first_field_names_hosts(hosts: str, name: str, expected: bool) -> None:
    assert has_name(hosts, name) is expected


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        pytest.param("web", 22, "web", id="SSH's own port is not named"),
        pytest.param("web", 2222, "[web]:2222", id="another port is"),
        pytest.param("[fe80::1]", 22, "fe80::1", id="IPv6 loses its brackets at port 22"),
        pytest.param("fe80::1", 2222, "[fe80::1]:2222", id="IPv6 gains them elsewhere"),
        pytest.param("WEB", 22, "web", id="capitals"),
    ],
)
def test_host_is_named_as_openssh_does(host: str, port: int, expected: str) -> None:
    assert host_name(host, port) == expected


@pytest.mark.parametrize(
    ("host", "address", "alias", "expected"),
    [
        pytest.param("web", "10.0.0.1", None, ("web", "10.0.0.1"), id="name and address"),
        pytest.param("10.0.0.1", "10.0.0.1", None, ("10.0.0.1",), id="an address once"),
        pytest.param("web", "", None, ("web",), id="no address behind a jump host"),
        pytest.param("web", "10.0.0.1", "cluster", ("cluster",), id="HostKeyAlias replaces both"),
    ],
)
def test_host_is_looked_up_by_every_name(
    host: str, address: str, alias: str | None, expected: tuple[str, ...]
) -> None:
    assert host_names(host, address, 22, alias) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("web ssh-ed25519", "file:1: a host, a key type", id="no key"),
        pytest.param("web", "file:1: a host, a key type", id="only a host"),
        pytest.param(f"@wrong {line('web')}", "file:1: unknown marker '@wrong'", id="a marker"),
        pytest.param("web ssh-ed25519 AAAA!", "file:1: the key is not base64", id="not base64"),
        pytest.param(f"web ssh-rsa {TEXT}", "file:1: the key is not of the type", id="other type"),
        pytest.param("|2|a|b ssh-ed25519 " + TEXT, "file:1: unknown form", id="unknown hash"),
        pytest.param("|1|!|b ssh-ed25519 " + TEXT, "file:1: the hashed host", id="broken hash"),
        pytest.param("web 1024 37 1234567", "file:1: the key is", id="a key of SSH 1"),
    ],
)
def test_bad_line_is_skipped_with_its_place(text: str, complaint: str) -> None:
    reading = parse_known_hosts(f"{text}\n{line('good')}", "file")
    assert [entry.hosts for entry in reading.entries] == ["good"]
    assert len(reading.complaints) == 1
    assert reading.complaints[0].startswith(complaint)


def test_comments_blank_lines_and_trailing_words_mean_nothing() -> None:
    (entry,) = entries("# a comment", "", f"  {line('web')} root@web  ")
    assert (entry.hosts, entry.line, entry.place) == ("web", 3, "file:3")


def test_markers_are_read() -> None:
    authority, revoked = entries(f"@cert-authority {line('*')}", f"@revoked {line('*')}")
    assert (authority.marker, revoked.marker) == (Marker.AUTHORITY, Marker.REVOKED)


@pytest.mark.parametrize(
    ("lines", "names", "verdict"),
    [
        pytest.param([], ["web"], Verdict.UNKNOWN, id="empty files"),
        pytest.param([line("web")], ["web"], Verdict.KNOWN, id="its key"),
        pytest.param([line("db")], ["web"], Verdict.UNKNOWN, id="another host's line"),
        pytest.param([line("web", "b")], ["web"], Verdict.CHANGED, id="another key"),
        pytest.param(
            [line("web", "b", "ssh-rsa")], ["web"], Verdict.CHANGED, id="a key of another type"
        ),
        pytest.param([line("web", "b"), line("web")], ["web"], Verdict.KNOWN, id="any one counts"),
        pytest.param(
            [line("10.0.0.1")], ["web", "10.0.0.1"], Verdict.KNOWN, id="known by its address"
        ),
        pytest.param(
            [line("10.0.0.1", "b")], ["web", "10.0.0.1"], Verdict.CHANGED, id="address of another"
        ),
        pytest.param([line("web")], ["[web]:2222"], Verdict.KNOWN, id="line without the port"),
        pytest.param(
            [line("web", "b")], ["[web]:2222"], Verdict.UNKNOWN, id="it accuses no other port"
        ),
        pytest.param(
            [line("[web]:2222")], ["web"], Verdict.UNKNOWN, id="line of another port says nothing"
        ),
        pytest.param(
            [line("web"), f"@revoked {line('*')}"], ["web"], Verdict.REVOKED, id="revoked beats all"
        ),
        pytest.param(
            [f"@cert-authority {line('web')}"], ["web"], Verdict.UNKNOWN, id="an authority's key"
        ),
    ],
)
def test_key_is_judged(lines: list[str], names: list[str], verdict: Verdict) -> None:
    assert judge(entries(*lines), names, key("a")) is verdict


def test_fingerprints_are_those_of_ssh_keygen() -> None:
    assert fingerprint_sha256(KEY) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
    assert fingerprint_md5(KEY) == "MD5:65:96:2d:fc:e8:d5:a9:11:64:0c:0f:ea:00:6e:5b:bd"


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("ssh-ed25519", "ED25519"),
        ("ecdsa-sha2-nistp256", "ECDSA"),
        ("rsa-sha2-512", "RSA"),
        ("ssh-dss", "DSA"),
        ("sk-ssh-ed25519@openssh.com", "ED25519"),
        ("made-up", "made-up"),
    ],
)
def test_key_is_called_as_people_do(algorithm: str, kind: str) -> None:
    assert key_kind(algorithm) == kind


def test_rendered_entry_is_read_back() -> None:
    (entry,) = entries(render_entry(("web", "10.0.0.1"), "ssh-ed25519", key("a")))
    assert entries_for((entry,), ["10.0.0.1"]) == (entry,)
    assert entry.key == key("a")


def test_first_host_makes_folder_and_file(tmp_path: Path) -> None:
    path = tmp_path / ".fleetctl" / "known_hosts"
    add_known_host(str(path), line("web"))
    add_known_host(str(path), line("db"))
    assert path.read_text() == f"{line('web')}\n{line('db')}\n"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_host_is_not_glued_to_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("web"))
    add_known_host(str(path), line("db"))
    assert [entry.hosts for entry in read_known_hosts([str(path)]).entries] == ["web", "db"]


def test_files_that_are_not_there_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("web"))
    reading = read_known_hosts([str(tmp_path / "missing"), str(path), str(path)])
    assert [entry.hosts for entry in reading.entries] == ["web"]
    assert reading.complaints == ()


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    reading = read_known_hosts([str(tmp_path)])
    assert reading.complaints == (f"{tmp_path}: Is a directory",)
