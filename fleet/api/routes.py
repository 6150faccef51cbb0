"""Which endpoint a request means, and what is answered when it means none.

The rules are fleet 1.0's: the roots answer 405 without a message, a path that is nothing 404, and
a verb that a resource lacks 405 (400 for discovery) with a sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fleet.api.access import Verb

PREFIXES = ("/fleet/v1", "/v1-alpha")


class Endpoint(StrEnum):
    """What can be asked for."""

    LIST_UNITS = "list_units"
    CHANGE_UNITS = "change_units"
    GET_UNIT = "get_unit"
    SET_UNIT = "set_unit"
    DESTROY_UNIT = "destroy_unit"
    LIST_STATES = "list_states"
    GET_STATE = "get_state"
    LIST_MACHINES = "list_machines"
    CHANGE_MACHINES = "change_machines"
    DISCOVERY = "discovery"
    METRICS = "metrics"
    GET_HOLD = "get_hold"
    RELEASE_HOLD = "release_hold"
    GET_LOST = "get_lost"
    LIST_EVENTS = "list_events"
    WHY = "why"
    CHANGES = "changes"
    GET_INVENTORY = "get_inventory"
    PLAN_UNITS = "plan_units"
    PLAN_REBALANCE = "plan_rebalance"
    REBALANCE = "rebalance"
    GET_SYNC = "get_sync"
    SET_SYNC = "set_sync"
    SYNC_NOW = "sync_now"
    STOP_SYNC = "stop_sync"
    LIST_CORDONS = "list_cordons"
    CORDON = "cordon"
    UNCORDON = "uncordon"
    WATCH = "watch"

    @property
    def verb(self) -> Verb:
        """What a user has to be allowed to do."""
        return Verb.WRITE if self in _WRITES else Verb.READ

    @property
    def takes_body(self) -> bool:
        """Whether what is asked stands in the body of the request."""
        return self in _WRITES or self is Endpoint.PLAN_UNITS


_WRITES = frozenset(
    {
        Endpoint.CHANGE_UNITS,
        Endpoint.SET_UNIT,
        Endpoint.DESTROY_UNIT,
        Endpoint.CHANGE_MACHINES,
        Endpoint.REBALANCE,
        Endpoint.RELEASE_HOLD,
        Endpoint.SET_SYNC,
        Endpoint.SYNC_NOW,
        Endpoint.STOP_SYNC,
        Endpoint.CORDON,
        Endpoint.UNCORDON,
    }
)


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint, and the name of the thing in the path, if there is one."""

    endpoint: Endpoint
    item: str = ""


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Why there is no endpoint: an HTTP status and a sentence, which may be empty."""

    status: int
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resource:
    verbs: Mapping[str, Endpoint]
    refusal: str
    status: int = 405

    def resolve(self, method: str, item: str = "") -> Route | NoRoute:
        endpoint = self.verbs.get(method)
        return Route(endpoint, item) if endpoint else NoRoute(self.status, self.refusal)


_GET_ONLY = "only GET supported against this resource"

# The sentence for /units is fleet 1.0's, which knew no PATCH there.
_COLLECTIONS = {
    "units": _Resource(
        verbs={"GET": Endpoint.LIST_UNITS, "PATCH": Endpoint.CHANGE_UNITS}, refusal=_GET_ONLY
    ),
    "state": _Resource(verbs={"GET": Endpoint.LIST_STATES}, refusal=_GET_ONLY),
    "machines": _Resource(
        verbs={"GET": Endpoint.LIST_MACHINES, "PATCH": Endpoint.CHANGE_MACHINES},
        refusal="only GET and PATCH supported against this resource",
    ),
    "discovery": _Resource(
        verbs={"GET": Endpoint.DISCOVERY},
        refusal="only HTTP GET supported against this resource",
        status=400,
    ),
    "watch": _Resource(verbs={"GET": Endpoint.WATCH}, refusal=_GET_ONLY),
    "hold": _Resource(
        verbs={"GET": Endpoint.GET_HOLD, "DELETE": Endpoint.RELEASE_HOLD},
        refusal="only GET and DELETE supported against this resource",
    ),
    "lost": _Resource(verbs={"GET": Endpoint.GET_LOST}, refusal=_GET_ONLY),
    "why": _Resource(verbs={"GET": Endpoint.WHY}, refusal=_GET_ONLY),
    "changes": _Resource(verbs={"GET": Endpoint.CHANGES}, refusal=_GET_ONLY),
    "events": _Resource(verbs={"GET": Endpoint.LIST_EVENTS}, refusal=_GET_ONLY),
    "inventory": _Resource(verbs={"GET": Endpoint.GET_INVENTORY}, refusal=_GET_ONLY),
    "sync": _Resource(
        verbs={
            "GET": Endpoint.GET_SYNC,
            "PUT": Endpoint.SET_SYNC,
            "POST": Endpoint.SYNC_NOW,
            "DELETE": Endpoint.STOP_SYNC,
        },
        refusal="only GET, PUT, POST and DELETE supported against this resource",
    ),
    "plan": _Resource(
        verbs={"POST": Endpoint.PLAN_UNITS}, refusal="only POST supported against this resource"
    ),
    "rebalance": _Resource(
        verbs={"GET": Endpoint.PLAN_REBALANCE, "POST": Endpoint.REBALANCE},
        refusal="only GET and POST supported against this resource",
    ),
    "cordons": _Resource(verbs={"GET": Endpoint.LIST_CORDONS}, refusal=_GET_ONLY),
}
_ITEMS = {
    "units": _Resource(
        verbs={
            "GET": Endpoint.GET_UNIT,
            "PUT": Endpoint.SET_UNIT,
            "DELETE": Endpoint.DESTROY_UNIT,
        },
        refusal="only GET, PUT and DELETE supported against this resource",
    ),
    "state": _Resource(verbs={"GET": Endpoint.GET_STATE}, refusal=_GET_ONLY),
    "cordons": _Resource(
        verbs={"PUT": Endpoint.CORDON, "DELETE": Endpoint.UNCORDON},
        refusal="only PUT and DELETE supported against this resource",
    ),
}
_METRICS = _Resource(verbs={"GET": Endpoint.METRICS}, refusal=_GET_ONLY)


def resolve(method: str, path: str) -> Route | NoRoute:
    """The endpoint of a request; `path` is decoded already and has no query."""
    if path == "/" or path in PREFIXES:
        return NoRoute(405)
    if path == "/metrics":
        return _METRICS.resolve(method)
    for prefix in PREFIXES:
        if path.startswith(f"{prefix}/"):
            collection, slash, item = path.removeprefix(f"{prefix}/").partition("/")
            resource = (_ITEMS if slash else _COLLECTIONS).get(collection)
            if resource is None or "/" in item or (slash and not item):
                break
            return resource.resolve(method, item)
    return NoRoute(404)
