"""etcd's messages: what is sent, and what answers and errors of every version mean."""

from collections.abc import Callable
from typing import Any

import pytest

from fleet.store import etcd_messages as api
from fleet.store import etcd_wire as wire
from fleet.store.etcd_faults import EtcdFault, Fault, fault_of_message
from fleet.store.etcd_wire import Header, Horizon, Page, Span, WatchReader
from fleet.store.port import Changes, Commit, Delete, Entry, Event, Guard, LeaseId, LeaseLost, Put

HEADER = {"cluster_id": 14841639068965178418, "revision": 7, "raft_term": 2}


def kv(key: str, value: str = "", *, created: int = 2, modified: int = 3, **more: int) -> Any:
    return {
        "key": key.encode(),
        "value": value.encode(),
        "create_revision": created,
        "mod_revision": modified,
        **more,
    }


def txn(**fields: Any) -> Any:
    return api.make("TxnResponse", fields)


# What is sent


def test_every_method_is_one_of_etcd_with_messages_of_its_own() -> None:
    methods = [each for each in vars(api).values() if isinstance(each, api.Method)]
    assert {each.path for each in methods} == {
        "/etcdserverpb.Auth/Authenticate",
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.KV/Txn",
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.Lease/LeaseKeepAlive",
        "/etcdserverpb.Lease/LeaseRevoke",
        "/etcdserverpb.Lease/LeaseTimeToLive",
        "/etcdserverpb.Watch/Watch",
    }
    for method in methods:
        assert method.request({}) == b""
        assert not method.answer(b"").header.revision


def test_numbers_of_fields_are_those_of_etcd() -> None:
    """By hand, as etcd's rpc.proto has them: else both sides of the tests could err alike."""
    guards = [Guard("/a", created=0), Guard("/b", modified=9)]
    operations: list[Put | Delete] = [Put("/a", b"x", LeaseId("12")), Delete("/c")]
    compare = b"\x0a\x08\x10\x01\x1a\x02/a\x28\x00" + b"\x0a\x08\x10\x02\x1a\x02/b\x30\x09"
    put = b"\x12\x0b\x12\x09\x0a\x02/a\x12\x01x\x18\x0c"
    delete = b"\x12\x06\x1a\x04\x0a\x02/c"
    assert api.TXN.request(wire.encode_commit(guards, operations)) == compare + put + delete


def test_field_that_there_is_not_is_never_sent_as_nothing() -> None:
    with pytest.raises(ValueError, match="range_ende"):
        api.RANGE.request({"range_ende": b"x"})


@pytest.mark.parametrize(
    ("prefix", "span"),
    [
        pytest.param("/fleet/", Span(b"/fleet/", b"/fleet0"), id="folder"),
        pytest.param("/fleet/ü", Span(b"/fleet/\xc3\xbc", b"/fleet/\xc3\xbd"), id="not ASCII"),
        pytest.param("", Span(b"\0", b"\0"), id="everything"),
        pytest.param("/\udcfe", Span(b"/\xfe", b"/\xff"), id="bytes of others"),
    ],
)
def test_span_is_all_keys_that_begin_with_the_prefix(prefix: str, span: Span) -> None:
    assert wire.span_of(prefix) == span


def test_read_asks_for_each_span_at_the_same_revision() -> None:
    spans = [wire.span_of("/a"), wire.span_of("/b")]
    document = wire.encode_read(spans, limit=500, revision=7)
    assert document == {
        "success": [
            {
                "request_range": {
                    "key": key,
                    "range_end": end,
                    "limit": 500,
                    "revision": 7,
                }
            }
            for key, end in ((b"/a", b"/b"), (b"/b", b"/c"))
        ]
    }


def test_commit_compares_and_then_does() -> None:
    guards = [Guard("/a", created=0), Guard("/b", modified=9)]
    operations: list[Put | Delete] = [
        Put("/a", b"\xff"),
        Put("/b", b"", LeaseId("12")),
        Delete("/c"),
    ]
    assert wire.encode_commit(guards, operations) == {
        "compare": [
            {"key": b"/a", "result": api.EQUAL, "target": api.CREATE, "create_revision": 0},
            {"key": b"/b", "result": api.EQUAL, "target": api.MOD, "mod_revision": 9},
        ],
        "success": [
            {"request_put": {"key": b"/a", "value": b"\xff", "lease": 0}},
            {"request_put": {"key": b"/b", "value": b"", "lease": 12}},
            {"request_delete_range": {"key": b"/c"}},
        ],
    }


@pytest.mark.parametrize(
    ("asked_s", "ttl"),
    [
        pytest.param(6.0, 6, id="whole"),
        pytest.param(4.2, 5, id="never shorter"),
        pytest.param(0.1, 1, id="least"),
    ],
)
def test_grant_asks_for_whole_seconds(asked_s: float, ttl: int) -> None:
    assert wire.encode_grant(asked_s)["TTL"] == ttl


def test_watch_begins_after_the_revision_and_may_come_in_fragments() -> None:
    assert wire.encode_watch("/a/", 41)["create_request"] == {
        "key": b"/a/",
        "range_end": b"/a0",
        "start_revision": 42,
        "progress_notify": True,
        "fragment": True,
    }


@pytest.mark.parametrize(
    "encode",
    [
        pytest.param(wire.encode_lease, id="renew or revoke"),
        pytest.param(lambda lease: wire.encode_commit([], [Put("/a", b"", lease)]), id="put"),
    ],
)
@pytest.mark.parametrize("lease", ["of-something-else", "9223372036854775808", "-1"])
def test_lease_of_another_store_is_lost(encode: Callable[[LeaseId], object], lease: str) -> None:
    with pytest.raises(LeaseLost):
        encode(LeaseId(lease))


# Answers


def test_read_decodes_entries_page_by_page() -> None:
    spans = [wire.span_of("/a"), wire.span_of("/b"), wire.span_of("/c")]
    answer = txn(
        header=HEADER,
        succeeded=True,
        responses=[
            {"response_range": {"kvs": [kv("/a", "x", lease=12)]}},
            {"response_range": {"kvs": [kv("/b1")], "more": True}},
            {"response_range": {"header": {"revision": 7}}},
        ],
    )
    entry = Entry(key="/a", value=b"x", created=2, modified=3, lease=LeaseId("12"))
    empty = Entry(key="/b1", value=b"", created=2, modified=3)
    assert wire.decode_read(answer, spans) == [
        Page((entry,), None),
        Page((empty,), Span(b"/b1\0", b"/c")),
        Page((), None),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"succeeded": True}, id="no answers"),
        pytest.param({"responses": [{"response_range": {}}]}, id="not done"),
        pytest.param({"succeeded": True, "responses": [{}]}, id="one left out"),
        pytest.param(
            {"succeeded": True, "responses": [{"response_range": {}}] * 2}, id="too many answers"
        ),
        pytest.param({"succeeded": True, "responses": [{"response_put": {}}]}, id="another answer"),
    ],
)
def test_read_never_takes_a_strange_answer_for_an_empty_one(fields: Any) -> None:
    with pytest.raises(EtcdFault, match="not one of etcd's"):
        wire.decode_read(txn(header=HEADER, **fields), [wire.span_of("/a")])


@pytest.mark.parametrize(
    ("fields", "commit"),
    [
        pytest.param({"succeeded": True}, Commit(True, 7), id="done"),
        pytest.param({}, Commit(False, 7), id="a guard failed"),
    ],
)
def test_commit_succeeded_only_if_it_says_so(fields: Any, commit: Commit) -> None:
    assert wire.decode_commit(txn(header=HEADER, **fields)) == commit


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="empty"),
        pytest.param({"header": {}}, id="header of nothing"),
        pytest.param({"header": {"cluster_id": 1}}, id="header without a revision"),
        pytest.param({"header": {"revision": 1}}, id="header without a cluster"),
    ],
)
def test_answer_without_its_header_is_none_of_etcd(fields: Any) -> None:
    grant = api.make("LeaseGrantResponse", fields)
    for decode, answer in (
        (wire.decode_header, txn(**fields)),
        (wire.decode_commit, txn(**fields)),
        (wire.decode_grant, grant),
    ):
        with pytest.raises(EtcdFault, match="no header"):
            decode(answer)


@pytest.mark.parametrize("data", [b"<html>", b"\xff", b'{"header":'])
def test_answer_is_a_message_or_an_error(data: bytes) -> None:
    with pytest.raises(EtcdFault, match="not one of etcd's"):
        wire.decode_answer(api.TXN, data)


def test_grant_without_a_number_is_no_grant() -> None:
    with pytest.raises(EtcdFault, match="without a number"):
        wire.decode_grant(api.make("LeaseGrantResponse", {"header": HEADER}))


@pytest.mark.parametrize("ttl", [0, -1])
def test_renewal_without_time_to_live_is_a_lost_lease(ttl: int) -> None:
    lease = LeaseId("12")

    def renewal(**fields: Any) -> Any:
        return api.make("LeaseKeepAliveResponse", {"ID": 12, **fields})

    wire.decode_renewal(renewal(header=HEADER, TTL=6), lease)
    with pytest.raises(LeaseLost, match="lease 12 has ended"):
        wire.decode_renewal(renewal(header=HEADER, TTL=ttl), lease)
    with pytest.raises(EtcdFault):
        wire.decode_renewal(renewal(TTL=6), lease)


@pytest.mark.parametrize(("ttl", "seconds"), [(7, 7.0), (-1, 0.0)])
def test_time_to_live_of_a_lease_that_has_ended_is_nothing(ttl: int, seconds: float) -> None:
    answer = api.make("LeaseTimeToLiveResponse", {"header": HEADER, "TTL": ttl})
    assert wire.decode_time_to_live(answer) == seconds


# Watches


def told(**fields: Any) -> bytes:
    data: bytes = api.make("WatchResponse", {"header": HEADER, **fields}).SerializeToString()
    return data


def put_event(key: str, modified: int) -> Any:
    return {"kv": kv(key, "v", created=modified, modified=modified)}


def entry(key: str, modified: int) -> Entry:
    return Entry(key=key, value=b"v", created=modified, modified=modified)


def test_watch_delivers_each_revision_of_a_message_by_itself() -> None:
    reader = WatchReader()
    assert reader.read(told(created=True)) == []
    assert reader.header == Header("14841639068965178418", 7, 2)
    gone = {"type": api.DELETED, "kv": {"key": b"/c", "mod_revision": 6}}
    events = [put_event("/a", 5), put_event("/b", 5), gone, put_event("/d", 7)]
    assert reader.read(told(events=events)) == [
        Changes(5, (Event("/a", entry("/a", 5)), Event("/b", entry("/b", 5)))),
        Changes(6, (Event("/c", None),)),
        Changes(7, (Event("/d", entry("/d", 7)),)),
    ]


def test_watch_puts_fragments_together_before_it_delivers() -> None:
    reader = WatchReader()
    assert reader.read(told(fragment=True, events=[put_event("/a", 5)])) == []
    assert reader.read(told(fragment=True, events=[put_event("/b", 5)])) == []
    assert reader.read(told(events=[put_event("/c", 5), put_event("/d", 6)])) == [
        Changes(5, tuple(Event(key, entry(key, 5)) for key in ("/a", "/b", "/c"))),
        Changes(6, (Event("/d", entry("/d", 6)),)),
    ]


def test_watch_passes_progress_on_as_empty_changes() -> None:
    assert WatchReader().read(told()) == [Changes(7, ())]


@pytest.mark.parametrize(
    ("data", "fault", "words"),
    [
        pytest.param(
            told(canceled=True, compact_revision=40), Fault.COMPACTED, "before 40", id="compacted"
        ),
        pytest.param(
            told(header={}, canceled=True, compact_revision=40),
            Fault.COMPACTED,
            "before 40",
            id="compacted, without a header",
        ),
        pytest.param(
            told(canceled=True, created=True, cancel_reason="etcdserver: permission denied"),
            Fault.DENIED,
            "may not use",
            id="not permitted",
        ),
        pytest.param(told(canceled=True), Fault.UNKNOWN, "ended the watch", id="no reason"),
        pytest.param(b"", Fault.UNKNOWN, "no header", id="empty"),
        pytest.param(
            told(header={}, events=[put_event("/a", 5)]), Fault.UNKNOWN, "no header", id="no header"
        ),
        pytest.param(b"\xff", Fault.UNKNOWN, "no message", id="malformed"),
    ],
)
def test_watch_that_ends_says_why(data: bytes, fault: Fault, words: str) -> None:
    with pytest.raises(EtcdFault, match=words) as caught:
        WatchReader().read(data)
    assert caught.value.fault is fault


# Errors: as etcd 3.4 to 3.6 word them, with the codes that they give


@pytest.mark.parametrize(
    ("code", "message", "fault"),
    [
        pytest.param(5, "etcdserver: requested lease not found", Fault.LEASE_LOST, id="lease"),
        pytest.param(
            11,
            "etcdserver: mvcc: required revision has been compacted",
            Fault.COMPACTED,
            id="compacted",
        ),
        pytest.param(
            11,
            "etcdserver: mvcc: required revision is a future revision",
            Fault.COMPACTED,
            id="still to come",
        ),
        pytest.param(14, "etcdserver: no leader", Fault.NOT_DONE, id="no leader"),
        pytest.param(2, "raft proposal dropped", Fault.NOT_DONE, id="between two leaders"),
        pytest.param(2, "context deadline exceeded", Fault.UNKNOWN, id="deadline"),
        pytest.param(14, "etcdserver: request timed out", Fault.UNKNOWN, id="timeout"),
        pytest.param(14, "etcdserver: leader changed", Fault.UNKNOWN, id="election"),
        pytest.param(2, "etcdserver: not a primary lessor", Fault.UNKNOWN, id="moved"),
        pytest.param(16, "etcdserver: invalid auth token", Fault.TOKEN, id="token expired"),
        pytest.param(
            3, "etcdserver: revision of auth store is old", Fault.TOKEN, id="users were changed"
        ),
        pytest.param(3, "etcdserver: user name is empty", Fault.TOKEN, id="no token"),
        pytest.param(
            3,
            "etcdserver: authentication failed, invalid user ID or password",
            Fault.DENIED,
            id="wrong password",
        ),
        pytest.param(
            9, "etcdserver: authentication is not enabled", Fault.NO_AUTH, id="no users at all"
        ),
        pytest.param(7, "etcdserver: permission denied", Fault.DENIED, id="denied"),
        pytest.param(8, "etcdserver: mvcc: database space exceeded", Fault.NOT_DONE, id="full"),
        pytest.param(
            8,
            "grpc: received message larger than max (5 vs. 4)",
            Fault.REFUSED,
            id="request too large for its server",
        ),
        pytest.param(
            3, "etcdserver: request is too large", Fault.REFUSED, id="request too large for etcd"
        ),
        pytest.param(16, "who are you", Fault.TOKEN, id="by its code"),
        pytest.param(12, "unknown service etcdserverpb.KV", Fault.UNKNOWN, id="another server"),
        pytest.param(0, "", Fault.UNKNOWN, id="nothing"),
    ],
)
def test_error_means(code: int, message: str, fault: Fault) -> None:
    found = fault_of_message(message, code, "without a reason")
    assert found.fault is fault
    assert str(found)


# From the past


def test_horizon_takes_answers_that_go_on_from_the_floor() -> None:
    horizon = Horizon()
    for header in (Header("c", 5, 2), Header("c", 5, 2), Header("c", 9, 3)):
        horizon.check_cluster(header)
        horizon.check(header, horizon.floor)
    assert (horizon.floor.revision, horizon.floor.term) == (9, 3)


def test_horizon_judges_by_what_was_known_when_the_request_was_sent() -> None:
    horizon = Horizon()
    floor = horizon.floor
    horizon.check(Header("c", 9, 3), floor)
    horizon.check(Header("c", 8, 2), floor)
    assert (horizon.floor.revision, horizon.floor.term) == (9, 3)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(Header("c", 8, 3), id="an earlier revision"),
        pytest.param(Header("c", 20, 2), id="an earlier term: a member that was cut off"),
        pytest.param(Header("c", 1, 2), id="an emptied cluster"),
    ],
)
def test_horizon_refuses_answers_from_the_past(header: Header) -> None:
    horizon = Horizon()
    horizon.check(Header("c", 9, 3), horizon.floor)
    with pytest.raises(EtcdFault, match=r"from the past .* restart fleetd"):
        horizon.check(header, horizon.floor)


def test_horizon_refuses_another_cluster() -> None:
    horizon = Horizon()
    horizon.check_cluster(Header("c", 9, 3))
    with pytest.raises(EtcdFault, match="it is of cluster d, and cluster c answered before"):
        horizon.check_cluster(Header("d", 90, 30))
