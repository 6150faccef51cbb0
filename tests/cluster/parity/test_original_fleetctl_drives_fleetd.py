"""What the original's fleetctl sends, on the Unix socket and on TCP, does what its user wants."""

import ctypes
import json
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import BASE, Place
from fleet.unit import parse_unit
from tests.cluster.machines import eventually
from tests.cluster.parity.conftest import TCP_PORT
from tests.cluster.parity.original_client import ApiError, Document, OriginalClient
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

UNIT = parse_unit("[Service]\nExecStart=/bin/sleep 100000\n")
PAGE = 5
JSON = {"Content-Type": "application/json"}


def _connect_inside(namespace: Path, address: tuple[str, int]) -> socket.socket:
    """A TCP connection that is made in a network namespace, and usable from everywhere."""

    def work() -> socket.socket:
        descriptor = os.open(namespace, os.O_RDONLY)
        try:
            # Of this thread alone, which ends with it.
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        finally:
            os.close(descriptor)
        return socket.create_connection(address, timeout=10)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _on_unix(sandbox: Sandbox) -> OriginalClient:
    return OriginalClient.on_unix(sandbox.socket("fleet2"))


def _on_tcp(sandbox: Sandbox) -> OriginalClient:
    address = (sandbox.machine("fleet1").address, TCP_PORT)
    hub = Place(name=sandbox.name, base=BASE).hub
    return OriginalClient(lambda: _connect_inside(hub, address), f"{address[0]}:{address[1]}")


WAYS = [pytest.param(_on_unix, id="unix"), pytest.param(_on_tcp, id="tcp")]


@pytest.fixture(params=WAYS)
def client(module_cluster: Sandbox, request: pytest.FixtureRequest) -> Iterator[OriginalClient]:
    way: Callable[[Sandbox], OriginalClient] = request.param
    with way(module_cluster) as made:
        yield made


def test_units_are_created_started_stopped_unloaded_and_destroyed(
    operator: Operator, client: OriginalClient
) -> None:
    names = [f"hello@{number}.service" for number in range(7)]
    units = dict.fromkeys(names, UNIT)

    client.submit(units)
    assert [unit["name"] for unit in client.units()] == sorted(names)
    assert client.pages == 2

    lines = client.start(units)
    assert len(lines) == 7
    homes = {row.unit: operator.sandbox.machine(row.machine) for row in operator.rows()}
    for line, name in zip(lines, names, strict=True):
        home = homes[name]
        assert line == f"Unit {name} launched on {home.id[:8]}.../{home.address}"
    assert client.start(units) == []

    client.stop(*names)
    assert {row.active for row in operator.rows()} == {"inactive"}
    client.unload(*names)
    eventually(lambda: operator.rows() == ())
    client.destroy(*names)
    assert client.units() == []
    with pytest.raises(ApiError, match=r"^googleapi: Error 404: unit does not exist$"):
        client.destroy(names[0])


def test_unit_is_shown_as_the_original_shows_it(operator: Operator, client: OriginalClient) -> None:
    client.start({"hello@1.service": UNIT})
    home = operator.machine_id(operator.home("hello@1.service"))

    shown = client.unit("hello@1.service")
    assert shown is not None
    # What is new here the original passes over.
    del shown["text"]
    assert shown == {
        "currentState": "launched",
        "desiredState": "launched",
        "machineID": home,
        "name": "hello@1.service",
        "options": [{"name": "ExecStart", "section": "Service", "value": "/bin/sleep 100000"}],
    }
    (state,) = client.states()
    assert state == {
        "hash": UNIT.hash,
        "machineID": home,
        "name": "hello@1.service",
        "systemdActiveState": "active",
        "systemdLoadState": "loaded",
        "systemdSubState": "running",
    }
    assert client.ask("GET", "state", query=f"&unitName=hello%401.service&machineID={home}") == {
        "states": [state]
    }


def test_unit_that_is_replaced_runs_with_its_new_contents(
    operator: Operator, client: OriginalClient
) -> None:
    name = "hello.service"
    client.start({name: UNIT})

    # `start --replace`: overwrite, wait until it is inactive, and start it.
    client.create(name, parse_unit("[Service]\nExecStart=/bin/sleep 2222\n"))
    assert client.start({name: UNIT})[0].startswith(f"Unit {name} launched on")

    home = operator.wait_home(name)
    assert "sleep 2222" in operator.show(home, name, "ExecStart")["ExecStart"]


@pytest.mark.parametrize(
    ("name", "document", "status", "message"),
    [
        pytest.param(
            "absent.service",
            {"name": "absent.service", "desiredState": "launched"},
            409,
            "unit does not exist and options field empty",
            id="no contents",
        ),
        pytest.param(
            "a.service",
            {"name": "b.service", "desiredState": "launched"},
            400,
            'name in URL "a.service" differs from unit name in request body "b.service"',
            id="two names",
        ),
        pytest.param(
            "a.service",
            {
                "name": "a.service",
                "options": [
                    {"section": "X-Fleet", "name": "MachineID", "value": "x"},
                    {"section": "X-Fleet", "name": "Global", "value": "true"},
                ],
            },
            400,
            "MachineID cannot be used with Global",
            id="options that contradict",
        ),
    ],
)
def test_refusals_are_in_the_originals_words(
    client: OriginalClient, name: str, document: Document, status: int, message: str
) -> None:
    with pytest.raises(ApiError) as caught:
        client.put(name, document)
    assert caught.value.status == status
    assert message in str(caught.value)


def test_machines_are_listed_page_by_page_as_json(
    operator: Operator, client: OriginalClient
) -> None:
    status, headers, body = client.send("GET", "/fleet/v1/machines?alt=json")

    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert headers["Server"].startswith("fleetd/")
    listed = json.loads(body)["machines"]
    assert [machine["id"] for machine in listed] == sorted(
        operator.machine_id(name) for name in operator.powered()
    )
    assert {machine["metadata"]["host"] for machine in listed} == set(operator.powered())


@pytest.mark.parametrize("path", ["machines", "units", "state"])
def test_page_token_of_another_size_is_refused(client: OriginalClient, path: str) -> None:
    status, headers, body = client.send("GET", f"/fleet/v1/{path}?nextPageToken=EwBMLg%3D%3D")

    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert json.loads(body)["error"]["message"] == f"token limit must be {PAGE}"


def test_metadata_is_added_changed_and_removed(operator: Operator, client: OriginalClient) -> None:
    machine = operator.machine_id("fleet1")
    path = f"/{machine}/metadata/foo"

    def patch(*operations: Document) -> tuple[int, str]:
        body = json.dumps(operations).encode()
        status, headers, _ = client.send("PATCH", "/fleet/v1/machines", body, JSON)
        return status, headers["Content-Type"]

    def metadata() -> dict[str, str]:
        found = next(each for each in client.machines() if each["id"] == machine)["metadata"]
        assert found["host"] == "fleet1"
        return {key: value for key, value in found.items() if key not in ("host", "zone")}

    done = (204, "application/json")
    # The member's name as a test of the original has it, the value as its clients send it.
    assert patch({"op": "add", "path": path, "value": {"Value": "bar"}}) == done
    assert metadata() == {"foo": "bar"}
    assert patch({"op": "replace", "path": path, "value": {"value": "baz"}}) == done
    assert metadata() == {"foo": "baz"}
    assert patch({"op": "remove", "path": path}, {"op": "remove", "path": f"{path}x"}) == done
    assert metadata() == {}


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        pytest.param(
            {"op": "noop", "path": "/x/metadata/foo"},
            "invalid op: expect add, remove, or replace",
            id="op",
        ),
        pytest.param({"op": "add", "path": "/x/y"}, "machine metadata path invalid", id="path"),
        pytest.param(
            {"op": "add", "path": "/x/metadata/foo"},
            "invalid value: add and replace require a value",
            id="value",
        ),
    ],
)
def test_malformed_metadata_is_refused(
    client: OriginalClient, operation: Document, message: str
) -> None:
    with pytest.raises(ApiError) as caught:
        client.patch_machines([operation])
    assert caught.value.status == 400
    assert message in str(caught.value)


def test_discovery_document_names_what_there_is(client: OriginalClient) -> None:
    found = client.ask("GET", "discovery")

    assert found["rootUrl"] == "$ENDPOINT/"
    assert set(found["resources"]) == {"Machines", "UnitState", "Units"}
