"""The etcd v3 JSON gateway on the wire: requests as documents, answers as values. No I/O.

What the gateway does that one has to know: 64-bit numbers are strings and bytes are base64; a zero
value is left out (no `kvs` when nothing was found, no `succeeded` when it is false, no `type` for a
put); unknown fields are ignored in silence, so requests are only ever built here. Above all, what
is not an answer of etcd is never taken for an empty one: every answer has to carry its header.
"""

import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.store.etcd_faults import (
    Document,
    EtcdFault,
    Fault,
    decode_fault,
    fault_of_message,
    foreign_answer,
)
from fleet.store.port import (
    Changes,
    Commit,
    Delete,
    Entry,
    Event,
    Guard,
    LeaseId,
    LeaseLost,
    Put,
)

RANGE = "/v3/kv/range"
TXN = "/v3/kv/txn"
WATCH = "/v3/watch"
GRANT = "/v3/lease/grant"
KEEPALIVE = "/v3/lease/keepalive"
REVOKE = "/v3/lease/revoke"
TIME_TO_LIVE = "/v3/lease/timetolive"
AUTHENTICATE = "/v3/auth/authenticate"


@dataclass(frozen=True, slots=True)
class Header:
    """Who answered, and how far it was."""

    cluster: str
    revision: int
    term: int


class Horizon:
    """The furthest that a cluster has been seen: what lies behind it is not its present.

    A member that was cut off, a backup that was restored and a cluster that was emptied all answer
    from the past. The floor has to be taken before a request is sent.
    """

    def __init__(self) -> None:
        self._cluster = ""
        self.floor = Header("", 0, 0)

    def check_cluster(self, header: Header) -> None:
        """Raise EtcdFault for an answer from another cluster than the first one."""
        self._cluster = self._cluster or header.cluster
        if header.cluster != self._cluster:
            words = (
                f"it is of cluster {header.cluster}, and cluster {self._cluster} answered before"
            )
            raise EtcdFault(Fault.NOT_DONE, f"{words}; if that is meant, restart fleetd")

    def check(self, header: Header, floor: Header) -> None:
        """Raise EtcdFault for an answer from before the floor; else go on to where it is."""
        if header.revision < floor.revision or header.term < floor.term:
            words = (
                f"it answers from the past (revision {header.revision} of term {header.term} after "
                f"{floor.revision} of {floor.term}): it is cut off, or was emptied or restored"
            )
            raise EtcdFault(Fault.UNKNOWN, f"{words}; if that is meant, restart fleetd")
        if header.revision > self.floor.revision or header.term > self.floor.term:
            self.floor = Header(
                header.cluster,
                max(header.revision, self.floor.revision),
                max(header.term, self.floor.term),
            )


@dataclass(frozen=True, slots=True)
class Span:
    """Keys from `start` up to but without `end`."""

    start: bytes
    end: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Part of an answer: entries of one span, and the span that is left if there is more."""

    entries: tuple[Entry, ...]
    rest: Span | None


# Reading


def span_of(prefix: str) -> Span:
    """All keys that begin with the prefix."""
    start = _raw(prefix)
    if not start:
        return Span(b"\0", b"\0")
    # UTF-8 never ends in 0xff, so the next byte always exists.
    return Span(start, start[:-1] + bytes([start[-1] + 1]))


def encode_read(spans: Sequence[Span], *, limit: int, revision: int = 0) -> Document:
    """A transaction that reads the spans, each up to the limit; revision 0 is the present one."""
    return {
        "success": [
            {
                "request_range": {
                    "key": _text64(span.start),
                    "range_end": _text64(span.end),
                    "limit": str(limit),
                    "revision": str(revision),
                }
            }
            for span in spans
        ]
    }


def decode_read(answer: Document, spans: Sequence[Span]) -> list[Page]:
    """The pages for the spans asked for; raises EtcdFault if these are not they."""
    responses = answer.get("responses", [])
    if len(responses) != len(spans) or not answer.get("succeeded"):
        raise foreign_answer("it left out a part of the answer")
    try:
        return [
            _page(span, part["response_range"]) for span, part in zip(spans, responses, strict=True)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise foreign_answer(f"its keys cannot be read ({error!r})") from error


def encode_probe(prefix: str, revision: int = 0) -> Document:
    """A question that costs nothing: is that revision there, and is there a quorum to say so?

    It names one key, since a user may be permitted no others than those of the prefix.
    """
    return {
        "key": _text64(span_of(prefix).start),
        "limit": "1",
        "count_only": True,
        "revision": str(revision),
    }


def _page(span: Span, document: Document) -> Page:
    entries = tuple(_entry(each) for each in document.get("kvs", ()))
    if document.get("more") and entries:
        return Page(entries, Span(_raw(entries[-1].key) + b"\0", span.end))
    return Page(entries, None)


def _entry(document: Document) -> Entry:
    lease = int(document.get("lease", 0))
    return Entry(
        key=_key(document),
        value=_bytes64(document.get("value", "")),
        created=int(document["create_revision"]),
        modified=int(document["mod_revision"]),
        lease=LeaseId(str(lease)) if lease else None,
    )


# Committing


def encode_commit(guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Document:
    """The transaction; raises LeaseLost for a lease that cannot be one of etcd's."""
    return {
        "compare": [_compare(guard) for guard in guards],
        "success": [_operation(operation) for operation in operations],
    }


def decode_commit(answer: Document) -> Commit:
    return Commit(bool(answer.get("succeeded", False)), decode_header(answer).revision)


def _compare(guard: Guard) -> Document:
    key = _text64(_raw(guard.key))
    if guard.created is not None:
        what = {"target": "CREATE", "create_revision": str(guard.created)}
    else:
        what = {"target": "MOD", "mod_revision": str(guard.modified)}
    return {"key": key, "result": "EQUAL", **what}


def _operation(operation: Put | Delete) -> Document:
    key = _text64(_raw(operation.key))
    if isinstance(operation, Delete):
        return {"request_delete_range": {"key": key}}
    put = {"key": key, "value": _text64(operation.value)}
    if operation.lease is not None:
        put["lease"] = _lease_number(operation.lease)
    return {"request_put": put}


# Leases


def encode_grant(ttl_s: float) -> Document:
    """A lease of whole seconds, as etcd has them, and of its own choice of number."""
    return {"TTL": str(max(1, math.ceil(ttl_s))), "ID": "0"}


def decode_grant(answer: Document) -> LeaseId:
    decode_header(answer)
    if not int(answer.get("ID", 0)):
        raise foreign_answer("it granted a lease without a number")
    return LeaseId(str(answer["ID"]))


def encode_lease(lease: LeaseId) -> Document:
    """What renews, revokes or looks up; raises LeaseLost for what cannot be a lease of etcd's."""
    return {"ID": _lease_number(lease)}


def decode_renewal(answer: Document, lease: LeaseId) -> None:
    """Raises LeaseLost: etcd says so by leaving the time to live out, under HTTP status 200."""
    result = answer.get("result", {})
    decode_header(result)
    if int(result.get("TTL", 0)) <= 0:
        raise lost_lease(lease)


def decode_time_to_live(answer: Document) -> float:
    """Whole seconds, rounded down; of a lease that has ended etcd says -1."""
    decode_header(answer)
    return float(max(0, int(answer.get("TTL", 0))))


def lost_lease(lease: LeaseId | str) -> LeaseLost:
    return LeaseLost(f"lease {lease} has ended, and its keys are gone with it")


def _lease_number(lease: LeaseId) -> str:
    if not lease.isdecimal():
        raise lost_lease(lease)
    return str(lease)


# Watching


def encode_watch(prefix: str, after: int) -> Document:
    span = span_of(prefix)
    return {
        "create_request": {
            "key": _text64(span.start),
            "range_end": _text64(span.end),
            "start_revision": str(after + 1),
            "progress_notify": True,
            # etcd would otherwise send a backlog beyond the gateway's limit in one piece.
            "fragment": True,
        }
    }


class WatchReader:
    """Turns the lines of a watch into changes, each of one whole revision."""

    def __init__(self) -> None:
        self._pending: list[Document] = []
        self.header: Header | None = None
        """Of the answer that said the watch had begun; None until then."""

    def read(self, line: str | bytes) -> list[Changes]:
        """The changes that the line completes; raises EtcdFault if it ends the watch."""
        document = decode_document(line)
        result = document.get("result")
        if not isinstance(result, dict):
            raise decode_fault(200, document)
        header = decode_header(result)
        if result.get("canceled"):
            raise _cancelled(result)
        if result.get("created"):
            self.header = header
            return []
        self._pending += result.get("events", ())
        if result.get("fragment"):
            return []
        events, self._pending = self._pending, []
        try:
            return _group(events) if events else [Changes(header.revision, ())]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise foreign_answer(f"its events cannot be read ({error!r})") from error


def _cancelled(result: Document) -> EtcdFault:
    if int(result.get("compact_revision", 0)):
        words = f"the revisions before {result['compact_revision']} are compacted"
        return EtcdFault(Fault.COMPACTED, words)
    return fault_of_message(str(result.get("cancel_reason", "")), 0, "it ended the watch")


def _group(events: Sequence[Document]) -> list[Changes]:
    """Events in order of revision, one Changes for each."""
    grouped: dict[int, list[Event]] = {}
    for each in events:
        document = each["kv"]
        entry = None if each.get("type") == "DELETE" else _entry(document)
        event = Event(entry.key if entry else _key(document), entry)
        grouped.setdefault(int(document["mod_revision"]), []).append(event)
    return [Changes(revision, tuple(found)) for revision, found in sorted(grouped.items())]


# Logging in


def encode_login(username: str, password: str) -> Document:
    return {"name": username, "password": password}


def decode_login(answer: Document) -> str:
    token = answer.get("token")
    if not isinstance(token, str) or not token:
        raise foreign_answer("it gave no token")
    return token


# Answers in general


def encode_document(document: Document) -> bytes:
    """The body of a request."""
    return json.dumps(document, separators=(",", ":")).encode()


def decode_document(text: str | bytes) -> Document:
    """The JSON object; raises EtcdFault for anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise foreign_answer("it is not JSON") from error
    if not isinstance(document, dict):
        raise foreign_answer("it is not a JSON object")
    return document


def decode_header(answer: Document) -> Header:
    """The header that every answer has; raises EtcdFault if it is missing."""
    try:
        header = answer["header"]
        return Header(
            str(header["cluster_id"]), int(header["revision"]), int(header.get("raft_term", 0))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise foreign_answer("it has no header") from error


# Bytes


def _raw(key: str) -> bytes:
    # Foreign keys may be any bytes; they have to come back as they went.
    return key.encode("utf-8", "surrogateescape")


def _key(document: Document) -> str:
    return _bytes64(document["key"]).decode("utf-8", "surrogateescape")


def _text64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _bytes64(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)
