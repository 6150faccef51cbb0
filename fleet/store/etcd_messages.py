"""etcd's API in protobuf: the calls that fleet makes, and of their messages what it uses.

Names, numbers and types are etcd's own, of 3.4 to 3.6 (api/etcdserverpb/rpc.proto and
api/mvccpb/kv.proto). What is not named here is passed over in an answer. A message is made from a
document, which names its fields; a field that there is not is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

Document = Mapping[str, Any]
Message = Any
"""A message of protobuf, with its fields for attributes."""

EQUAL = 0
"""Of Compare.result."""
CREATE, MOD = 1, 2
"""Of Compare.target: which revision is compared."""
DELETED = 1
"""Of Event.type."""

_FIELDS = {
    "ResponseHeader": "uint64 cluster_id = 1, int64 revision = 3, uint64 raft_term = 4",
    "KeyValue": "bytes key = 1, int64 create_revision = 2, int64 mod_revision = 3, bytes value = 5,"
    " int64 lease = 6",
    "RangeRequest": "bytes key = 1, bytes range_end = 2, int64 limit = 3, int64 revision = 4,"
    " bool count_only = 9",
    "RangeResponse": "ResponseHeader header = 1, repeated KeyValue kvs = 2, bool more = 3",
    "PutRequest": "bytes key = 1, bytes value = 2, int64 lease = 3",
    "PutResponse": "ResponseHeader header = 1",
    "DeleteRangeRequest": "bytes key = 1, bytes range_end = 2",
    "DeleteRangeResponse": "ResponseHeader header = 1",
    "Compare": "int32 result = 1, int32 target = 2, bytes key = 3,"
    " oneof int64 create_revision = 5, oneof int64 mod_revision = 6",
    "RequestOp": "oneof RangeRequest request_range = 1, oneof PutRequest request_put = 2,"
    " oneof DeleteRangeRequest request_delete_range = 3",
    "ResponseOp": "oneof RangeResponse response_range = 1, oneof PutResponse response_put = 2,"
    " oneof DeleteRangeResponse response_delete_range = 3",
    "TxnRequest": "repeated Compare compare = 1, repeated RequestOp success = 2",
    "TxnResponse": "ResponseHeader header = 1, bool succeeded = 2, repeated ResponseOp responses"
    " = 3",
    "Event": "int32 type = 1, KeyValue kv = 2",
    "WatchCreateRequest": "bytes key = 1, bytes range_end = 2, int64 start_revision = 3,"
    " bool progress_notify = 4, bool fragment = 8",
    "WatchRequest": "oneof WatchCreateRequest create_request = 1",
    "WatchResponse": "ResponseHeader header = 1, bool created = 3, bool canceled = 4,"
    " int64 compact_revision = 5, string cancel_reason = 6, bool fragment = 7,"
    " repeated Event events = 11",
    "LeaseGrantRequest": "int64 TTL = 1, int64 ID = 2",
    "LeaseGrantResponse": "ResponseHeader header = 1, int64 ID = 2, int64 TTL = 3",
    "LeaseRevokeRequest": "int64 ID = 1",
    "LeaseRevokeResponse": "ResponseHeader header = 1",
    "LeaseKeepAliveRequest": "int64 ID = 1",
    "LeaseKeepAliveResponse": "ResponseHeader header = 1, int64 ID = 2, int64 TTL = 3",
    "LeaseTimeToLiveRequest": "int64 ID = 1",
    "LeaseTimeToLiveResponse": "ResponseHeader header = 1, int64 ID = 2, int64 TTL = 3",
    "AuthenticateRequest": "string name = 1, string password = 2",
    "AuthenticateResponse": "ResponseHeader header = 1, string token = 2",
}
_PACKAGE = "fleet.etcd"
_SCALARS = {
    kind: getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{kind.upper()}")
    for kind in ("bytes", "string", "bool", "int32", "int64", "uint64")
}


def _describe(name: str, fields: str) -> descriptor_pb2.DescriptorProto:
    described = descriptor_pb2.DescriptorProto(name=name)
    for text in fields.split(","):
        *marks, kind, field, _, number = text.split()
        added = described.field.add(name=field, number=int(number))
        added.label = added.LABEL_REPEATED if "repeated" in marks else added.LABEL_OPTIONAL
        if kind in _SCALARS:
            added.type = _SCALARS[kind]
        else:
            added.type = added.TYPE_MESSAGE
            added.type_name = f".{_PACKAGE}.{kind}"
        if "oneof" in marks:
            if not described.oneof_decl:
                described.oneof_decl.add(name="choice")
            added.oneof_index = 0
    return described


def _classes() -> dict[str, type[message.Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="fleet/etcd.proto", package=_PACKAGE, syntax="proto3"
    )
    file.message_type.extend(_describe(name, fields) for name, fields in _FIELDS.items())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _FIELDS
    }


_CLASSES = _classes()


def make(name: str, document: Document) -> Message:
    """The message of that name; raises ValueError for what its fields cannot hold."""
    return _CLASSES[name](**document)


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service of etcd's."""

    service: str
    name: str
    takes: str
    gives: str

    @property
    def path(self) -> str:
        return f"/etcdserverpb.{self.service}/{self.name}"

    def request(self, document: Document) -> bytes:
        """The message that the method is called with; raises ValueError as `make` does."""
        data: bytes = make(self.takes, document).SerializeToString()
        return data

    def answer(self, data: bytes) -> Message:
        """The message that came; raises ValueError for what cannot be one."""
        try:
            return _CLASSES[self.gives].FromString(data)
        except message.DecodeError as error:
            raise ValueError(str(error)) from error


RANGE = Method("KV", "Range", "RangeRequest", "RangeResponse")
TXN = Method("KV", "Txn", "TxnRequest", "TxnResponse")
WATCH = Method("Watch", "Watch", "WatchRequest", "WatchResponse")
GRANT = Method("Lease", "LeaseGrant", "LeaseGrantRequest", "LeaseGrantResponse")
KEEPALIVE = Method("Lease", "LeaseKeepAlive", "LeaseKeepAliveRequest", "LeaseKeepAliveResponse")
REVOKE = Method("Lease", "LeaseRevoke", "LeaseRevokeRequest", "LeaseRevokeResponse")
TIME_TO_LIVE = Method(
    "Lease", "LeaseTimeToLive", "LeaseTimeToLiveRequest", "LeaseTimeToLiveResponse"
)
AUTHENTICATE = Method("Auth", "Authenticate", "AuthenticateRequest", "AuthenticateResponse")
