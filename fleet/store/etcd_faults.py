"""What etcd's errors mean, whichever version gives them. No I/O."""

from enum import StrEnum

from fleet.errors import FleetError


class Fault(StrEnum):
    """What an error of etcd means for whoever asked."""

    NOT_DONE = "not done"
    """This server could not, and surely did not: ask another."""
    UNKNOWN = "unknown"
    """This server may or may not have done it."""
    COMPACTED = "compacted"
    LEASE_LOST = "lease lost"
    TOKEN = "token"  # noqa: S105 - no password
    """The token has expired or is missing: log in and ask again."""
    NO_AUTH = "no auth"
    """A login was tried, and the cluster has no users."""
    DENIED = "denied"
    REFUSED = "refused"


class EtcdFault(FleetError):
    """An error answer of etcd, or an answer that cannot be one of etcd's."""

    def __init__(self, fault: Fault, words: str) -> None:
        self.fault = fault
        super().__init__(words)


# Fragments of etcd's error messages (api/v3rpc/rpctypes/error.go) with what they mean, and in
# whose words; "" keeps etcd's own. The first that fits counts.
_MESSAGES: tuple[tuple[str, Fault, str], ...] = (
    ("requested lease not found", Fault.LEASE_LOST, ""),
    ("has been compacted", Fault.COMPACTED, ""),
    ("is a future revision", Fault.COMPACTED, ""),
    ("invalid auth token", Fault.TOKEN, ""),
    ("revision of auth store is old", Fault.TOKEN, ""),
    ("user name is empty", Fault.TOKEN, "it asks for a user and a password"),
    ("authentication is not enabled", Fault.NO_AUTH, ""),
    ("authentication failed", Fault.DENIED, "it refuses this user or password"),
    (
        "permission denied",
        Fault.DENIED,
        "this user (etcd_username, else the common name of etcd_certfile) may not use the keys of "
        "fleet there",
    ),
    ("no leader", Fault.NOT_DONE, "no leader: the etcd cluster has lost its quorum"),
    ("proposal dropped", Fault.NOT_DONE, "no leader: the etcd cluster is electing one"),
    ("too many requests", Fault.NOT_DONE, "it is overloaded"),
    ("database space exceeded", Fault.NOT_DONE, "its database is full: compact and defragment it"),
    ("leader changed", Fault.UNKNOWN, "its leader changed in between"),
    ("not a primary lessor", Fault.UNKNOWN, "its leader changed in between"),
    ("request timed out", Fault.UNKNOWN, "it timed out: no quorum, or overloaded"),
    ("deadline exceeded", Fault.UNKNOWN, "it timed out: no quorum, or overloaded"),
    ("message larger than max", Fault.REFUSED, ""),
    ("request is too large", Fault.REFUSED, ""),
)
# By gRPC code, where the message says nothing: unknown, deadline exceeded, ...
_CODES = {5: Fault.REFUSED, 7: Fault.DENIED, 8: Fault.NOT_DONE, 16: Fault.TOKEN}


def fault_of_message(message: str, code: int, fallback: str) -> EtcdFault:
    """What the message means, else the gRPC code; `fallback` is said where there is no message."""
    for fragment, fault, words in _MESSAGES:
        if fragment in message:
            return EtcdFault(fault, words or message)
    return EtcdFault(_CODES.get(code, Fault.UNKNOWN), message or fallback)


def foreign_answer(what: str) -> EtcdFault:
    """The error for an answer that etcd would not give."""
    return EtcdFault(Fault.UNKNOWN, f"its answer is not one of etcd's: {what}")
