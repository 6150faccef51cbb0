"""Who may do what, and how the kernel's word becomes a peer."""

import os
import socket

import pytest

from fleet.api.access import (
    READERS,
    WRITERS,
    Peer,
    Verb,
    anonymous_peer,
    certified_peer,
    local_peer,
    may,
    refusal,
    signature,
)
from fleet.errors import Denied

ROOT = Peer(user="root", uid=0)
WRITER = Peer(user="alice", uid=1000, groups=frozenset({WRITERS}))
READER = Peer(user="bob", uid=1001, groups=frozenset({READERS}))
BOTH = Peer(user="carol", uid=1002, groups=frozenset({READERS, WRITERS}))
NOBODY = Peer(user="mallory", uid=1003)
OWNER = Peer(user="fleetd", uid=990)
ADDRESS = ("10.0.0.1", 4711)
REMOTE = anonymous_peer(ADDRESS)


def certificate(*attributes: tuple[str, str]) -> dict[str, object]:
    """As `ssl` tells of one that it has verified."""
    return {"subject": tuple((attribute,) for attribute in attributes)}


def shown(*organisations: str) -> Peer:
    """Who comes with a certificate of alice and these organisations."""
    pairs = [("organizationName", organisation) for organisation in organisations]
    return certified_peer(certificate(*pairs, ("commonName", "alice")), ADDRESS)


@pytest.mark.parametrize(
    ("peer", "reads", "writes"),
    [
        pytest.param(ROOT, True, True, id="root"),
        pytest.param(OWNER, True, True, id="the user who runs fleetd"),
        pytest.param(WRITER, True, True, id="a member of fleet"),
        pytest.param(READER, True, False, id="a member of fleet-viewers"),
        pytest.param(BOTH, True, True, id="a member of both"),
        pytest.param(NOBODY, False, False, id="a member of neither"),
        pytest.param(REMOTE, True, True, id="anybody on TCP without TLS"),
        pytest.param(shown("fleet"), True, True, id="a certificate of fleet"),
        pytest.param(shown("fleet-viewers"), True, False, id="a certificate of fleet-viewers"),
        pytest.param(shown("ACME", "fleet"), True, True, id="a certificate of two organisations"),
        pytest.param(shown("ACME"), False, False, id="a certificate of somebody else"),
        pytest.param(shown("Fleet", "fleet "), False, False, id="a certificate of nearly fleet"),
        pytest.param(shown(), False, False, id="a certificate of no organisation"),
    ],
)
def test_peer_may_do_what_their_groups_allow(peer: Peer, reads: bool, writes: bool) -> None:
    assert may(peer, Verb.READ, owner=990) is reads
    assert may(peer, Verb.WRITE, owner=990) is writes


def test_refusal_names_user_and_group() -> None:
    assert "user bob" in refusal(READER, Verb.WRITE)
    assert "group fleet " in refusal(READER, Verb.WRITE)
    assert "fleet-viewers" in refusal(NOBODY, Verb.READ)


@pytest.mark.parametrize(
    ("peer", "written"),
    [
        pytest.param(WRITER, "alice@box", id="a local user"),
        pytest.param(REMOTE, "anonymous@10.0.0.1", id="a remote one already has a host"),
        pytest.param(shown("fleet"), "alice@10.0.0.1", id="and so has one with a certificate"),
    ],
)
def test_signature_is_user_at_host(peer: Peer, written: str) -> None:
    assert signature(peer, "box") == written


@pytest.mark.parametrize(
    ("address", "user"),
    [
        pytest.param(("10.0.0.1", 4711), "anonymous@10.0.0.1", id="IPv4"),
        pytest.param(("fe80::1", 4711, 0, 0), "anonymous@fe80::1", id="IPv6"),
        pytest.param(("::ffff:10.0.0.1", 4711, 0, 0), "anonymous@10.0.0.1", id="IPv4 by IPv6"),
        pytest.param(None, "anonymous", id="unknown"),
    ],
)
def test_remote_peer_without_a_certificate_is_anonymous(address: object, user: str) -> None:
    assert anonymous_peer(address).user == user


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(None, id="no certificate"),
        pytest.param({}, id="one that was not verified"),
        pytest.param(certificate(("organizationName", "fleet")), id="no common name"),
        pytest.param(certificate(("commonName", "")), id="an empty one"),
        pytest.param(certificate(("commonName", " ")), id="a blank one"),
        pytest.param(certificate(("commonName", "a\nroot")), id="one of two lines"),
        pytest.param(certificate(("commonName", "a\x1b[2J")), id="one that rules a terminal"),
        pytest.param(certificate(("commonName", "a"), ("commonName", "b")), id="two of them"),
    ],
)
def test_certificate_that_does_not_name_one_user_is_refused(told: dict[str, object] | None) -> None:
    with pytest.raises(Denied, match="common name"):
        certified_peer(told, ADDRESS)


def test_kernel_names_the_peer_of_a_unix_socket() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = local_peer(ours, lambda name: os.getgid() if name == READERS else None)
    assert peer.uid == os.geteuid()
    assert peer.groups == (frozenset() if os.geteuid() == 0 else frozenset({READERS}))
