"""The text of known_hosts files: what they say of a host, and the line that remembers a new one.

The format is OpenSSH's, hashed hosts and `@` markers included. Everything but `read_known_hosts`
and `add_known_host` is a pure function; nothing here speaks SSH.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

DEFAULT_PORT = 22


class Marker(StrEnum):
    """What a line claims of its key."""

    HOST = ""
    AUTHORITY = "@cert-authority"
    REVOKED = "@revoked"


class Verdict(StrEnum):
    """What the known_hosts files say of a key that a host has shown."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a known_hosts file; `key` is the public key in SSH's wire form."""

    path: str
    line: int
    marker: Marker = Marker.HOST
    hosts: str
    algorithm: str
    key: bytes

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read from known_hosts files, and a complaint for each line that was skipped."""

    entries: tuple[Entry, ...] = ()
    complaints: tuple[str, ...] = ()


def parse_known_hosts(text: str, path: str) -> Reading:
    """The entries of a known_hosts file; a bad line is skipped, with a `path:line: …` complaint."""
    entries: list[Entry] = []
    complaints: list[str] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            entries.append(_parse_line(line, path=path, number=number))
        except ValueError as error:
            complaints.append(f"{path}:{number}: {error}")
    return Reading(entries=tuple(entries), complaints=tuple(complaints))


def _parse_line(line: str, *, path: str, number: int) -> Entry:
    fields = line.split()
    marker = Marker.HOST
    if fields[0].startswith("@"):
        try:
            marker = Marker(fields.pop(0))
        except ValueError:
            raise ValueError(f"unknown marker {line.split()[0]!r}") from None
    if len(fields) < 3:
        raise ValueError("a host, a key type and a key are needed")
    hosts, algorithm, encoded = fields[:3]
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("the key is not base64") from None
    if _algorithm_of(key) != algorithm:
        raise ValueError(f"the key is not of the type {algorithm!r}")
    if hosts.startswith("|"):
        _split_hash(hosts)
    return Entry(path=path, line=number, marker=marker, hosts=hosts, algorithm=algorithm, key=key)


def _algorithm_of(key: bytes) -> str:
    """The name a public key's wire form starts with (RFC 4253, section 6.6)."""
    length = int.from_bytes(key[:4], "big")
    return key[4 : 4 + length].decode("ascii", "replace")


def _split_hash(hosts: str) -> tuple[bytes, bytes]:
    """Salt and digest of a hashed host, `|1|salt|digest`."""
    parts = hosts.split("|")
    if len(parts) != 4 or parts[1] != "1":
        raise ValueError("unknown form of hashed host")
    try:
        return base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except binascii.Error:
        raise ValueError("the hashed host is not base64") from None


def host_name(host: str, port: int) -> str:
    """How known_hosts files name a host at a port: `host`, or `[host]:port` if it is not 22."""
    bare = host.strip("[]").lower()
    return bare if port == DEFAULT_PORT else f"[{bare}]:{port}"


def host_names(host: str, address: str, port: int, alias: str | None = None) -> tuple[str, ...]:
    """Every name under which a host is looked up and stored; only its alias, if it has one."""
    if alias:
        return (alias.lower(),)
    wanted = [text for text in (host, address) if text]
    return tuple(dict.fromkeys(host_name(text, port) for text in wanted))


def has_name(hosts: str, name: str) -> bool:
    """Whether the first field of a line speaks of the host of that name."""
    if hosts.startswith("|"):
        salt, digest = _split_hash(hosts)
        return hmac.compare_digest(hmac.digest(salt, name.encode(), hashlib.sha1), digest)
    found = False
    for pattern in hosts.lower().split(","):
        negated = pattern.startswith("!")
        if _glob(pattern.removeprefix("!")).fullmatch(name):
            if negated:
                return False
            found = True
    return found


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    """A host pattern: only `*` and `?` are special in it, brackets are not."""
    table = {"*": ".*", "?": "."}
    return re.compile("".join(table.get(letter) or re.escape(letter) for letter in pattern))


def entries_for(entries: Iterable[Entry], names: Sequence[str]) -> tuple[Entry, ...]:
    """The entries that speak of a host under any of its names."""
    return tuple(e for e in entries if any(has_name(e.hosts, name) for name in names))


def without_ports(names: Sequence[str]) -> tuple[str, ...]:
    """The names as they would be at port 22, of those that are not."""
    return tuple(name[1:].rpartition("]")[0] for name in names if name.startswith("["))


def judge(entries: Sequence[Entry], names: Sequence[str], key: bytes) -> Verdict:
    """What the entries say of a host's key.

    A line for the host without its port can vouch for a key, as with OpenSSH, but accuse none.
    """
    here = entries_for(entries, names)
    plain = entries_for(entries, without_ports(names))
    if any(e.key == key for e in (*here, *plain) if e.marker is Marker.REVOKED):
        return Verdict.REVOKED
    hosts = [e for e in here if e.marker is Marker.HOST]
    if any(e.key == key for e in hosts):
        return Verdict.KNOWN
    if hosts:
        return Verdict.CHANGED
    if any(e.key == key for e in plain if e.marker is Marker.HOST):
        return Verdict.KNOWN
    return Verdict.UNKNOWN


def fingerprint_sha256(key: bytes) -> str:
    """The fingerprint that OpenSSH shows since 6.8."""
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def fingerprint_md5(key: bytes) -> str:
    """The fingerprint that older tools, fleet 1.0 among them, show."""
    digest = hashlib.md5(key, usedforsecurity=False).hexdigest()
    return "MD5:" + ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def key_kind(algorithm: str) -> str:
    """What people call a key of that algorithm: `ssh-ed25519` is ED25519."""
    for word, kind in (("ed25519", "ED25519"), ("ecdsa", "ECDSA"), ("rsa", "RSA"), ("dss", "DSA")):
        if word in algorithm:
            return kind
    return algorithm


def render_entry(names: Sequence[str], algorithm: str, key: bytes) -> str:
    """The line, without its end, that makes a host known."""
    return f"{','.join(names)} {algorithm} {base64.b64encode(key).decode()}"


def read_known_hosts(paths: Iterable[str]) -> Reading:
    """What the files say together; a file that is not there or not readable says nothing."""
    entries: list[Entry] = []
    complaints: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            text = Path(path).read_text(errors="replace")
        except FileNotFoundError:
            continue
        except OSError as error:
            complaints.append(f"{path}: {error.strerror}")
            continue
        reading = parse_known_hosts(text, path)
        entries += reading.entries
        complaints += reading.complaints
    return Reading(entries=tuple(entries), complaints=tuple(complaints))


def add_known_host(path: str, line: str) -> None:
    """Append the line to the file, made with 0644 in a 0700 folder if it is new; raises OSError."""
    file = Path(path)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size:
            stream.seek(size - 1)
        torn = bool(size) and stream.read(1) != b"\n"
        stream.write((b"\n" if torn else b"") + line.encode() + b"\n")
