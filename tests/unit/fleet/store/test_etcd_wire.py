"""The gateway's JSON: what is sent, and what answers and errors of every version mean."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet.store import etcd_wire as wire
from fleet.store.etcd_faults import EtcdFault, Fault, decode_fault
from fleet.store.etcd_wire import Header, Horizon, Page, Span, WatchReader
from fleet.store.port import Changes, Commit, Delete, Entry, Event, Guard, LeaseId, LeaseLost, Put

HEADER = {"cluster_id": "14841639068965178418", "member_id": "1", "revision": "7", "raft_term": "2"}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kv(key: str, value: str = "", *, created: int = 2, modified: int = 3, **more: str) -> Any:
    document = {
        "key": b64(key),
        "create_revision": str(created),
        "mod_revision": str(modified),
        "version": "1",
        **more,
    }
    return document | ({"value": b64(value)} if value else {})


# Requests


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
                    "key": b64(key),
                    "range_end": b64(end),
                    "limit": "500",
                    "revision": "7",
                }
            }
            for key, end in (("/a", "/b"), ("/b", "/c"))
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
            {"key": b64("/a"), "result": "EQUAL", "target": "CREATE", "create_revision": "0"},
            {"key": b64("/b"), "result": "EQUAL", "target": "MOD", "mod_revision": "9"},
        ],
        "success": [
            {"request_put": {"key": b64("/a"), "value": "/w=="}},
            {"request_put": {"key": b64("/b"), "value": "", "lease": "12"}},
            {"request_delete_range": {"key": b64("/c")}},
        ],
    }


@pytest.mark.parametrize(
    ("asked_s", "ttl"),
    [
        pytest.param(6.0, "6", id="whole"),
        pytest.param(4.2, "5", id="never shorter"),
        pytest.param(0.1, "1", id="least"),
    ],
)
def test_grant_asks_for_whole_seconds(asked_s: float, ttl: str) -> None:
    assert wire.encode_grant(asked_s)["TTL"] == ttl


def test_watch_begins_after_the_revision_and_may_come_in_fragments() -> None:
    assert wire.encode_watch("/a/", 41)["create_request"] == {
        "key": b64("/a/"),
        "range_end": b64("/a0"),
        "start_revision": "42",
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
def test_lease_of_another_store_is_lost(encode: Callable[[LeaseId], object]) -> None:
    with pytest.raises(LeaseLost):
        encode(LeaseId("of-something-else"))


# Answers


def test_read_decodes_entries_with_what_the_gateway_leaves_out() -> None:
    spans = [wire.span_of("/a"), wire.span_of("/b"), wire.span_of("/c")]
    answer = {
        "header": HEADER,
        "succeeded": True,
        "responses": [
            {"response_range": {"header": {}, "kvs": [kv("/a", "x", lease="12")], "count": "1"}},
            {"response_range": {"header": {}, "kvs": [kv("/b1")], "more": True, "count": "9"}},
            {"response_range": {"header": {"revision": "7"}}},
        ],
    }
    entry = Entry(key="/a", value=b"x", created=2, modified=3, lease=LeaseId("12"))
    empty = Entry(key="/b1", value=b"", created=2, modified=3)
    assert wire.decode_read(answer, spans) == [
        Page((entry,), None),
        Page((empty,), Span(b"/b1\0", b"/c")),
        Page((), None),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"header": HEADER}, id="nothing"),
        pytest.param({"header": HEADER, "succeeded": True}, id="no answers"),
        pytest.param({"header": HEADER, "responses": [{"response_range": {}}]}, id="not done"),
        pytest.param({"header": HEADER, "succeeded": True, "responses": [{}]}, id="one left out"),
        pytest.param(
            {"header": HEADER, "succeeded": True, "responses": [{"response_range": {}}] * 2},
            id="too many answers",
        ),
        pytest.param(
            {
                "header": HEADER,
                "succeeded": True,
                "responses": [{"response_range": {"kvs": [{"key": "!!"}]}}],
            },
            id="malformed key",
        ),
    ],
)
def test_read_never_takes_a_strange_answer_for_an_empty_one(answer: Any) -> None:
    with pytest.raises(EtcdFault, match="not one of etcd's gateway"):
        wire.decode_read(answer, [wire.span_of("/a")])


@pytest.mark.parametrize(
    ("answer", "commit"),
    [
        pytest.param({"header": HEADER, "succeeded": True}, Commit(True, 7), id="done"),
        pytest.param({"header": HEADER}, Commit(False, 7), id="a guard failed"),
    ],
)
def test_commit_succeeded_only_if_it_says_so(answer: Any, commit: Commit) -> None:
    assert wire.decode_commit(answer) == commit


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({}, id="empty"),
        pytest.param({"header": None}, id="header of nothing"),
        pytest.param({"header": {"cluster_id": "1"}}, id="header without a revision"),
        pytest.param({"header": {"cluster_id": "1", "revision": "x"}}, id="not a number"),
    ],
)
def test_answer_without_its_header_is_none_of_etcd(answer: Any) -> None:
    for decode in (wire.decode_header, wire.decode_commit, wire.decode_grant):
        with pytest.raises(EtcdFault, match="no header"):
            decode(answer)


@pytest.mark.parametrize("text", ["", "<html>", "[]", "7", '"x"'])
def test_document_is_a_json_object_or_an_error(text: str) -> None:
    with pytest.raises(EtcdFault, match="not one of etcd's gateway"):
        wire.decode_document(text)


def test_renewal_without_time_to_live_is_a_lost_lease() -> None:
    lease = LeaseId("12")
    wire.decode_renewal({"result": {"header": HEADER, "ID": "12", "TTL": "6"}}, lease)
    for result in ({"header": HEADER, "ID": "12"}, {"header": HEADER, "TTL": "0"}):
        with pytest.raises(LeaseLost, match="lease 12 has ended"):
            wire.decode_renewal({"result": result}, lease)
    with pytest.raises(EtcdFault):
        wire.decode_renewal({}, lease)


# Watches


def line(**result: Any) -> str:
    return json.dumps({"result": {"header": HEADER, **result}})


def put_event(key: str, modified: int) -> Any:
    return {"kv": kv(key, "v", created=modified, modified=modified)}


def entry(key: str, modified: int) -> Entry:
    return Entry(key=key, value=b"v", created=modified, modified=modified)


def test_watch_delivers_each_revision_of_a_line_by_itself() -> None:
    reader = WatchReader()
    assert reader.read(line(created=True)) == []
    assert reader.header == Header("14841639068965178418", 7, 2)
    gone = {"type": "DELETE", "kv": {"key": b64("/c"), "mod_revision": "6"}}
    events = [put_event("/a", 5), put_event("/b", 5), gone, put_event("/d", 7)]
    assert reader.read(line(events=events)) == [
        Changes(5, (Event("/a", entry("/a", 5)), Event("/b", entry("/b", 5)))),
        Changes(6, (Event("/c", None),)),
        Changes(7, (Event("/d", entry("/d", 7)),)),
    ]


def test_watch_puts_fragments_together_before_it_delivers() -> None:
    reader = WatchReader()
    assert reader.read(line(fragment=True, events=[put_event("/a", 5)])) == []
    assert reader.read(line(fragment=True, events=[put_event("/b", 5)])) == []
    assert reader.read(line(events=[put_event("/c", 5), put_event("/d", 6)])) == [
        Changes(5, tuple(Event(key, entry(key, 5)) for key in ("/a", "/b", "/c"))),
        Changes(6, (Event("/d", entry("/d", 6)),)),
    ]


def test_watch_passes_progress_on_as_empty_changes() -> None:
    assert WatchReader().read(line()) == [Changes(7, ())]


@pytest.mark.parametrize(
    ("text", "fault", "words"),
    [
        pytest.param(
            line(canceled=True, compact_revision="40"), Fault.COMPACTED, "before 40", id="compacted"
        ),
        pytest.param(
            line(canceled=True, created=True, cancel_reason="etcdserver: permission denied"),
            Fault.DENIED,
            "may not use",
            id="not permitted",
        ),
        pytest.param(line(canceled=True), Fault.UNKNOWN, "ended the watch", id="no reason"),
        pytest.param(
            '{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}',
            Fault.NOT_DONE,
            "lost its quorum",
            id="no leader",
        ),
        pytest.param(
            '{"error":{"code":14,"message":"etcdserver: no leader","details":[]}}',
            Fault.NOT_DONE,
            "lost its quorum",
            id="no leader, as etcd 3.6 says it",
        ),
        pytest.param('{"result": 7}', Fault.UNKNOWN, "without a reason", id="strange"),
        pytest.param("{}", Fault.UNKNOWN, "without a reason", id="empty"),
        pytest.param('{"result":{"events":[]}}', Fault.UNKNOWN, "no header", id="no header"),
        pytest.param(
            line(events=[{"kv": {"key": "?"}}]), Fault.UNKNOWN, "cannot be read", id="malformed"
        ),
    ],
)
def test_watch_that_ends_says_why(text: str, fault: Fault, words: str) -> None:
    with pytest.raises(EtcdFault, match=words) as caught:
        WatchReader().read(text)
    assert caught.value.fault is fault


# Errors


@pytest.mark.parametrize(
    ("status", "document", "fault"),
    [
        pytest.param(
            404,
            {"error": "etcdserver: requested lease not found", "code": 5},
            Fault.LEASE_LOST,
            id="lease",
        ),
        pytest.param(
            400,
            {"code": 11, "message": "etcdserver: mvcc: required revision has been compacted"},
            Fault.COMPACTED,
            id="compacted",
        ),
        pytest.param(
            400,
            {"code": 11, "message": "etcdserver: mvcc: required revision is a future revision"},
            Fault.COMPACTED,
            id="still to come",
        ),
        pytest.param(
            503,
            {"error": "etcdserver: no leader", "message": "etcdserver: no leader", "code": 14},
            Fault.NOT_DONE,
            id="no leader",
        ),
        pytest.param(
            500, {"message": "context deadline exceeded", "code": 2}, Fault.UNKNOWN, id="deadline"
        ),
        pytest.param(
            503, {"message": "etcdserver: leader changed", "code": 14}, Fault.UNKNOWN, id="election"
        ),
        pytest.param(
            400,
            {"message": "etcdserver: not a primary lessor", "code": 2},
            Fault.UNKNOWN,
            id="moved",
        ),
        pytest.param(
            401,
            {"message": "etcdserver: invalid auth token", "code": 16},
            Fault.TOKEN,
            id="token expired",
        ),
        pytest.param(
            400,
            {"message": "etcdserver: revision of auth store is old", "code": 3},
            Fault.TOKEN,
            id="users were changed",
        ),
        pytest.param(
            400,
            {"message": "etcdserver: user name is empty", "code": 3},
            Fault.TOKEN,
            id="no token",
        ),
        pytest.param(
            400,
            {
                "message": "etcdserver: authentication failed, invalid user ID or password",
                "code": 3,
            },
            Fault.DENIED,
            id="wrong password",
        ),
        pytest.param(
            400,
            {"message": "etcdserver: authentication is not enabled", "code": 9},
            Fault.NO_AUTH,
            id="no users at all",
        ),
        pytest.param(
            403, {"message": "etcdserver: permission denied", "code": 7}, Fault.DENIED, id="denied"
        ),
        pytest.param(
            429,
            {"message": "etcdserver: mvcc: database space exceeded", "code": 8},
            Fault.NOT_DONE,
            id="full",
        ),
        pytest.param(
            429,
            {"message": "grpc: received message larger than max (5 vs. 4)", "code": 8},
            Fault.TOO_LONG,
            id="answer too long",
        ),
        pytest.param(
            400,
            {"message": "etcdserver: request is too large", "code": 3},
            Fault.REFUSED,
            id="request too large",
        ),
        pytest.param(404, {}, Fault.UNKNOWN, id="no gateway"),
        pytest.param(502, {}, Fault.UNKNOWN, id="a proxy in between"),
        pytest.param(500, {"error": None, "message": 7}, Fault.UNKNOWN, id="strange"),
    ],
)
def test_error_means(status: int, document: Any, fault: Fault) -> None:
    found = decode_fault(status, document)
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
