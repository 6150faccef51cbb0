"""Which endpoint a method and a path mean, and the refusals of fleet 1.0."""

import pytest

from fleet.api.access import Verb
from fleet.api.routes import Endpoint, NoRoute, Route, resolve

GET_ONLY = "only GET supported against this resource"
UNIT_VERBS = "only GET, PUT and DELETE supported against this resource"
MACHINE_VERBS = "only GET and PATCH supported against this resource"


@pytest.mark.parametrize("prefix", ["/fleet/v1", "/v1-alpha"])
@pytest.mark.parametrize(
    ("method", "path", "endpoint", "item"),
    [
        pytest.param("GET", "/units", Endpoint.LIST_UNITS, ""),
        pytest.param("PATCH", "/units", Endpoint.CHANGE_UNITS, ""),
        pytest.param("GET", "/units/a@1.service", Endpoint.GET_UNIT, "a@1.service"),
        pytest.param("PUT", "/units/a.service", Endpoint.SET_UNIT, "a.service"),
        pytest.param("DELETE", "/units/a.service", Endpoint.DESTROY_UNIT, "a.service"),
        pytest.param("GET", "/state", Endpoint.LIST_STATES, ""),
        pytest.param("GET", "/state/a.service", Endpoint.GET_STATE, "a.service"),
        pytest.param("GET", "/machines", Endpoint.LIST_MACHINES, ""),
        pytest.param("PATCH", "/machines", Endpoint.CHANGE_MACHINES, ""),
        pytest.param("GET", "/discovery", Endpoint.DISCOVERY, ""),
        pytest.param("GET", "/watch", Endpoint.WATCH, ""),
        pytest.param("GET", "/hold", Endpoint.GET_HOLD, ""),
        pytest.param("GET", "/lost", Endpoint.GET_LOST, ""),
        pytest.param("DELETE", "/hold", Endpoint.RELEASE_HOLD, ""),
        pytest.param("GET", "/events", Endpoint.LIST_EVENTS, ""),
        pytest.param("GET", "/rebalance", Endpoint.PLAN_REBALANCE, ""),
        pytest.param("POST", "/rebalance", Endpoint.REBALANCE, ""),
    ],
)
def test_request_means_an_endpoint(
    prefix: str, method: str, path: str, endpoint: Endpoint, item: str
) -> None:
    assert resolve(method, prefix + path) == Route(endpoint, item)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        pytest.param("GET", "/", 405, "", id="the root"),
        pytest.param("GET", "/fleet/v1", 405, "", id="the root of the API"),
        pytest.param("GET", "/v1-alpha", 405, "", id="the alias of it"),
        pytest.param("GET", "/fleet/v1/", 404, "", id="that with a slash"),
        pytest.param("GET", "/fleet", 404, "", id="half a prefix"),
        pytest.param("GET", "/fleet/v2/units", 404, "", id="another version"),
        pytest.param("GET", "/fleet/v1units", 404, "", id="a prefix without its slash"),
        pytest.param("GET", "/fleet/v1/units/", 404, "", id="a collection with a slash"),
        pytest.param("GET", "/fleet/v1/units/a.service/b", 404, "", id="a deeper path"),
        pytest.param("GET", "/fleet/v1/units/a.service/", 404, "", id="a unit with a slash"),
        pytest.param("GET", "/fleet/v1/state/", 404, "", id="states with a slash"),
        pytest.param("GET", "/fleet/v1/machines/", 404, "", id="machines with a slash"),
        pytest.param("GET", "/fleet/v1/machines/XXX", 404, "", id="one machine"),
        pytest.param("GET", "/fleet/v1/discovery/x", 404, "", id="below discovery"),
        pytest.param("GET", "/fleet/v1/nothing", 404, "", id="no such collection"),
        pytest.param("GET", "/metrics/", 404, "", id="metrics with a slash"),
        pytest.param("POST", "/fleet/v1/units", 405, GET_ONLY, id="post a unit"),
        pytest.param("PUT", "/fleet/v1/units", 405, GET_ONLY, id="put all units"),
        pytest.param("POST", "/fleet/v1/units/a.service", 405, UNIT_VERBS, id="post to a unit"),
        pytest.param("PATCH", "/fleet/v1/units/a.service", 405, UNIT_VERBS, id="patch a unit"),
        pytest.param("PUT", "/fleet/v1/state", 405, GET_ONLY, id="put states"),
        pytest.param("DELETE", "/fleet/v1/state/a.service", 405, GET_ONLY, id="delete a state"),
        pytest.param("DELETE", "/fleet/v1/machines", 405, MACHINE_VERBS, id="delete machines"),
        pytest.param("POST", "/fleet/v1/watch", 405, GET_ONLY, id="post a watch"),
        pytest.param(
            "PUT",
            "/fleet/v1/hold",
            405,
            "only GET and DELETE supported against this resource",
            id="put a hold",
        ),
        pytest.param("DELETE", "/fleet/v1/events", 405, GET_ONLY, id="delete events"),
        pytest.param("POST", "/metrics", 405, GET_ONLY, id="post metrics"),
        pytest.param(
            "POST",
            "/fleet/v1/discovery",
            400,
            "only HTTP GET supported against this resource",
            id="discovery answers 400",
        ),
    ],
)
def test_request_that_means_nothing_is_refused(
    method: str, path: str, status: int, message: str
) -> None:
    assert resolve(method, path) == NoRoute(status, message)


def test_metrics_have_a_path_of_their_own() -> None:
    assert resolve("GET", "/metrics") == Route(Endpoint.METRICS)


def test_endpoints_that_change_things_are_writes() -> None:
    writes = {endpoint for endpoint in Endpoint if endpoint.verb is Verb.WRITE}
    assert writes == {
        Endpoint.CHANGE_UNITS,
        Endpoint.SET_UNIT,
        Endpoint.DESTROY_UNIT,
        Endpoint.CHANGE_MACHINES,
        Endpoint.REBALANCE,
        Endpoint.RELEASE_HOLD,
        Endpoint.CORDON,
        Endpoint.UNCORDON,
        Endpoint.SET_SYNC,
        Endpoint.SYNC_NOW,
        Endpoint.STOP_SYNC,
    }
