"""What may be followed, what is kept of it, and what counts as drift."""

import json
import zlib
from hashlib import sha256

import pytest

from fleet.cluster import UnitRecord
from fleet.errors import InvalidRequest
from fleet.names import UnitName
from fleet.states import TargetState
from fleet.sync.git import complaint
from fleet.sync.values import (
    Commit,
    Drift,
    SyncSettings,
    SyncStatus,
    check_sync,
    decode_settings,
    decode_status,
    encode_settings,
    encode_status,
    find_drift,
    tell_texts,
)
from fleet.sync.wanted import Wanted, check_size, decode_wanted, encode_wanted
from fleet.unit import parse_unit

URL = "https://git.example.com/shop.git"
A, B, C = UnitName("a.service"), UnitName("b.service"), UnitName("c.service")


@pytest.mark.parametrize(
    "url", [URL, "ssh://git@host:22/x.git", "git@host:x.git", "/srv/x.git", "file:///srv/x.git"]
)
def test_url_of_a_known_protocol_can_be_followed(url: str) -> None:
    assert check_sync(SyncSettings(url=url)).url == url


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        pytest.param(SyncSettings(url="ext::sh -c true"), "is no repository", id="a command"),
        pytest.param(SyncSettings(url="ext::sh"), "is no repository", id="a short command"),
        pytest.param(SyncSettings(url="--upload-pack=x"), "is no repository", id="a flag"),
        pytest.param(SyncSettings(url="-x:y"), "is no repository", id="a flag as host"),
        pytest.param(SyncSettings(url="units"), "is no repository", id="a relative path"),
        pytest.param(SyncSettings(url=""), "is no repository", id="nothing"),
        pytest.param(SyncSettings(url="https://a:b@host/x"), "has a password", id="a password"),
        pytest.param(SyncSettings(url=URL, branch="-x"), "name of a branch", id="a flag as branch"),
        pytest.param(SyncSettings(url=URL, branch="a..b"), "name of a branch", id="a range"),
        pytest.param(SyncSettings(url=URL, path="../x"), "no folder within", id="a way out"),
        pytest.param(SyncSettings(url=URL, path="/etc"), "no folder within", id="a path from /"),
        pytest.param(SyncSettings(url=URL, credentials="key"), "path from /", id="a relative file"),
        pytest.param(SyncSettings(url=URL, interval_s=1), "from 5 s to a day", id="no time"),
        pytest.param(SyncSettings(url=URL, interval_s=float("nan")), "from 5 s", id="no number"),
    ],
)
def test_what_cannot_be_followed_is_refused(settings: SyncSettings, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        check_sync(settings)


def test_values_read_back_as_they_were_written() -> None:
    settings = SyncSettings(url=URL, branch="x", path="u", interval_s=9, credentials="/k")
    assert decode_settings(json.loads(json.dumps(encode_settings(settings)))) == settings
    commit = Commit(id="abc", author="A <a@b>", subject="ü", at_s=5.0)
    status = SyncStatus(applied=commit, applied_at_s=6.0, tried="abc", problem="p", by="m")
    assert decode_status(json.loads(json.dumps(encode_status(status)))) == status
    assert decode_status(encode_status(SyncStatus())) == SyncStatus()
    wanted = Wanted(source="s", units={A: ("h", "f", "launched")})
    assert decode_wanted(encode_wanted(wanted)) == wanted
    assert decode_wanted(zlib.compress(_NOTHING)) == Wanted()


def _packed(document: object) -> bytes:
    return zlib.compress(json.dumps(document).encode())


_NOTHING = b'{"source":"","units":{}}'


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="not compressed"),
        pytest.param(_packed({"units": {A: ["h", "f", "paused"]}}), id="a state of the future"),
        pytest.param(zlib.compress(b" " * (65 << 20) + _NOTHING, 1), id="far too long"),
    ],
)
def test_malformed_list_of_what_is_wanted_says_so(value: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_wanted(value)


def record(name: UnitName, target: str = "launched", **more: str) -> UnitRecord:
    given = {"hash": "h", "file": "f", **more}
    return UnitRecord(name=name, target=TargetState(target), **given)  # type: ignore[arg-type]


def test_drift_is_what_is_not_as_the_commit_has_it() -> None:
    wanted = Wanted(source="git", units=dict.fromkeys((A, B, C), ("h", "f", "launched")))
    there = {
        A: record(A, "loaded"),
        B: record(B, hash="other"),
        C: record(C),
        UnitName("left.service"): record(UnitName("left.service"), source="git"),
        UnitName("mine.service"): record(UnitName("mine.service")),
    }
    assert [(one.unit, one.what) for one in find_drift(wanted, there, prune=True)] == [
        (A, "its target state is loaded, not launched"),
        (B, "its contents are others"),
        ("left.service", "the repository does not have it any more"),
    ]
    kept = [one.unit for one in find_drift(wanted, there, prune=False)]
    assert kept == [A, B]  # what is not to go has not drifted
    changed = {A: record(A), C: record(C, file="g")}
    assert [one.what for one in find_drift(wanted, changed, prune=True)] == [
        "it is not in the cluster",
        "its comments are others",
    ]


def test_more_units_than_one_write_takes_are_refused() -> None:
    def of(count: int) -> Wanted:
        digests = (sha256(str(number).encode()).hexdigest() for number in range(count))
        units = {UnitName(f"u{d[:8]}.service"): (d[:40], d, "launched") for d in digests}
        return Wanted(source="git", units=units)

    check_size(of(1_000))
    with pytest.raises(InvalidRequest, match="30000 units are more than can be followed"):
        check_size(of(30_000))


def test_drift_is_told_with_what_the_commit_has_as_far_as_that_is_known() -> None:
    wanted = Wanted(source="git", units={A: ("h", "f", "loaded"), B: ("h", "g", "launched")})
    drift = [Drift(unit=name, what="why") for name in (A, B, C)]
    told = tell_texts(drift, wanted, {"f": parse_unit("[Service]\nExecStart=/bin/a\n")})
    assert [(one.unit, one.text, one.target) for one in told] == [
        (A, "[Service]\nExecStart=/bin/a\n", TargetState.LOADED),
        (B, None, None),
        (C, "", None),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("warning: x\nfatal: no\n", "git: no", id="a fatal error"),
        pytest.param("a\nb\n", "git: b", id="only talk"),
        pytest.param("", "git: it said nothing", id="silence"),
        pytest.param(
            "git@host: Permission denied (publickey).\nfatal: Could not read from remote.\n",
            "git: git@host: Permission denied (publickey).; Could not read from remote.",
            id="ssh's own words",
        ),
    ],
)
def test_complaint_is_the_line_that_says_what_is_wrong(text: str, told: str) -> None:
    assert complaint(text) == told
