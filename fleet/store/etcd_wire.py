"""etcd's v3 API on the wire: requests as documents, answers as values. No I/O.

What is not an answer of etcd is never taken for an empty one: in protobuf nothing at all is a
message whose fields are all empty, so every answer has to carry its header.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.store.etcd_faults import EtcdFault, Fault, fault_of_message, foreign_answer
from fleet.store.etcd_messages import CREATE, DELETED, EQUAL, MOD, WATCH, Document, Message, Method
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

# Numbers of leases are positive, and signed ones of 64 bits.
_LAST_LEASE = 2**63 - 1


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
                    "key": span.start,
                    "range_end": span.end,
                    "limit": limit,
                    "revision": revision,
                }
            }
            for span in spans
        ]
    }


def decode_read(answer: Message, spans: Sequence[Span]) -> list[Page]:
    """The pages for the spans asked for; raises EtcdFault if these are not they."""
    ranges = [
        each.response_range
        for each in answer.responses
        if each.WhichOneof("choice") == "response_range"
    ]
    if not answer.succeeded or not len(spans) == len(ranges) == len(answer.responses):
        raise foreign_answer("it left out a part of the answer")
    return [_page(span, found) for span, found in zip(spans, ranges, strict=True)]


def encode_probe(prefix: str, revision: int = 0) -> Document:
    """A question that costs nothing: is that revision there, and is there a quorum to say so?

    It names one key, since a user may be permitted no others than those of the prefix.
    """
    return {
        "key": span_of(prefix).start,
        "limit": 1,
        "count_only": True,
        "revision": revision,
    }


def _page(span: Span, found: Message) -> Page:
    entries = tuple(_entry(each) for each in found.kvs)
    if found.more and entries:
        return Page(entries, Span(_raw(entries[-1].key) + b"\0", span.end))
    return Page(entries, None)


def _entry(found: Message) -> Entry:
    return Entry(
        key=_key(found),
        value=found.value,
        created=found.create_revision,
        modified=found.mod_revision,
        lease=LeaseId(str(found.lease)) if found.lease else None,
    )


# Committing


def encode_commit(guards: Sequence[Guard], operations: Sequence[Put | Delete]) -> Document:
    """The transaction; raises LeaseLost for a lease that cannot be one of etcd's."""
    return {
        "compare": [_compare(guard) for guard in guards],
        "success": [_operation(operation) for operation in operations],
    }


def decode_commit(answer: Message) -> Commit:
    return Commit(answer.succeeded, decode_header(answer).revision)


def _compare(guard: Guard) -> Document:
    compared = {"key": _raw(guard.key), "result": EQUAL}
    if guard.created is not None:
        return compared | {"target": CREATE, "create_revision": guard.created}
    return compared | {"target": MOD, "mod_revision": guard.modified}


def _operation(operation: Put | Delete) -> Document:
    key = _raw(operation.key)
    if isinstance(operation, Delete):
        return {"request_delete_range": {"key": key}}
    lease = 0 if operation.lease is None else _lease_number(operation.lease)
    return {"request_put": {"key": key, "value": operation.value, "lease": lease}}


# Leases


def encode_grant(ttl_s: float) -> Document:
    """A lease of whole seconds, as etcd has them, and of its own choice of number."""
    return {"TTL": max(1, math.ceil(ttl_s)), "ID": 0}


def decode_grant(answer: Message) -> LeaseId:
    decode_header(answer)
    if not answer.ID:
        raise foreign_answer("it granted a lease without a number")
    return LeaseId(str(answer.ID))


def encode_lease(lease: LeaseId) -> Document:
    """What renews, revokes or looks up; raises LeaseLost for what cannot be a lease of etcd's."""
    return {"ID": _lease_number(lease)}


def decode_renewal(answer: Message, lease: LeaseId) -> None:
    """Raises LeaseLost: etcd says so by a time to live of nothing, and calls that no error."""
    decode_header(answer)
    if answer.TTL <= 0:
        raise lost_lease(lease)


def decode_time_to_live(answer: Message) -> float:
    """Whole seconds, rounded down; of a lease that has ended etcd says -1."""
    decode_header(answer)
    return float(max(0, answer.TTL))


def lost_lease(lease: LeaseId | str) -> LeaseLost:
    return LeaseLost(f"lease {lease} has ended, and its keys are gone with it")


def _lease_number(lease: LeaseId) -> int:
    if not lease.isdecimal() or int(lease) > _LAST_LEASE:
        raise lost_lease(lease)
    return int(lease)


# Watching


def encode_watch(prefix: str, after: int) -> Document:
    span = span_of(prefix)
    return {
        "create_request": {
            "key": span.start,
            "range_end": span.end,
            "start_revision": after + 1,
            "progress_notify": True,
            # etcd would otherwise send a backlog in one piece, however long.
            "fragment": True,
        }
    }


class WatchReader:
    """Turns the messages of a watch into changes, each of one whole revision."""

    def __init__(self) -> None:
        self._pending: list[Message] = []
        self.header: Header | None = None
        """Of the answer that said the watch had begun; None until then."""

    def read(self, data: bytes) -> list[Changes]:
        """The changes that the message completes; raises EtcdFault if it ends the watch."""
        answer = decode_answer(WATCH, data)
        if answer.canceled:
            raise _cancelled(answer)
        header = decode_header(answer)
        if answer.created:
            self.header = header
            return []
        self._pending += answer.events
        if answer.fragment:
            return []
        events, self._pending = self._pending, []
        return _group(events) if events else [Changes(header.revision, ())]


def _cancelled(answer: Message) -> EtcdFault:
    if answer.compact_revision:
        words = f"the revisions before {answer.compact_revision} are compacted"
        return EtcdFault(Fault.COMPACTED, words)
    return fault_of_message(answer.cancel_reason, 0, "it ended the watch")


def _group(events: Sequence[Message]) -> list[Changes]:
    """Events in order of revision, one Changes for each."""
    grouped: dict[int, list[Event]] = {}
    for each in events:
        entry = None if each.type == DELETED else _entry(each.kv)
        event = Event(entry.key if entry else _key(each.kv), entry)
        grouped.setdefault(each.kv.mod_revision, []).append(event)
    return [Changes(revision, tuple(found)) for revision, found in sorted(grouped.items())]


# Logging in


def encode_login(username: str, password: str) -> Document:
    return {"name": username, "password": password}


def decode_login(answer: Message) -> str:
    if not answer.token:
        raise foreign_answer("it gave no token")
    return str(answer.token)


# Answers in general


def decode_answer(method: Method, data: bytes) -> Message:
    """The message; raises EtcdFault for what is none."""
    try:
        return method.answer(data)
    except ValueError as error:
        raise foreign_answer("it is no message of protobuf's") from error


def decode_header(answer: Message) -> Header:
    """The header that every answer has; raises EtcdFault if it is missing."""
    header = answer.header
    if not (header.cluster_id and header.revision):
        raise foreign_answer("it has no header")
    return Header(str(header.cluster_id), header.revision, header.raft_term)


# Keys


def _raw(key: str) -> bytes:
    # Foreign keys may be any bytes; they have to come back as they went.
    return key.encode("utf-8", "surrogateescape")


def _key(found: Message) -> str:
    key: bytes = found.key
    return key.decode("utf-8", "surrogateescape")
