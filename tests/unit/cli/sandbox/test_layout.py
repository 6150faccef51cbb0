from pathlib import Path

import pytest

from cli.sandbox.layout import (
    BASE,
    Kind,
    Node,
    Place,
    Spec,
    bridge_script,
    cable_script,
    inside,
    interface_script,
    plug_script,
    unplug_script,
)
from fleet.errors import InvalidRequest, NotFound

MACHINE = Node(kind=Kind.MACHINE, name="fleet1", address="10.89.0.11")


@pytest.mark.parametrize(
    ("machines", "etcd", "expected"),
    [
        pytest.param(1, 0, ["fleet1 10.89.0.11"], id="one machine alone"),
        pytest.param(
            3,
            1,
            ["etcd1 10.89.0.2", "fleet1 10.89.0.11", "fleet2 10.89.0.12", "fleet3 10.89.0.13"],
            id="three machines and a member of etcd, which comes first",
        ),
        pytest.param(
            1,
            3,
            ["etcd1 10.89.0.2", "etcd2 10.89.0.3", "etcd3 10.89.0.4", "fleet1 10.89.0.11"],
            id="three members",
        ),
    ],
)
def test_spec_names_and_addresses_its_nodes(machines: int, etcd: int, expected: list[str]) -> None:
    spec = Spec(machines=machines, etcd=etcd)

    assert [f"{node.name} {node.address}" for node in spec.nodes] == expected


def test_spec_gives_every_node_an_address_of_its_own() -> None:
    nodes = Spec(machines=60, etcd=3).nodes

    assert len({node.address for node in nodes}) == len({node.mac for node in nodes}) == 63
    assert all(int(node.address.rpartition(".")[2]) < 255 for node in nodes)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param({"machines": 0}, "1 to 60 machines, not 0", id="no machine"),
        pytest.param({"machines": 61}, "1 to 60 machines, not 61", id="too many machines"),
        pytest.param({"etcd": 2}, "1 or 3 members, or 0 for none, not 2", id="two members"),
        pytest.param({"etcd": 0}, "one machine only: --machines 1", id="many without etcd"),
        pytest.param({"name": "a b"}, "'a b' cannot name a sandbox", id="a blank in the name"),
        pytest.param({"name": "../x"}, "cannot name a sandbox", id="a path for a name"),
        pytest.param({"name": ""}, "cannot name a sandbox", id="no name"),
        pytest.param({"name": "a" * 21}, "at most 20", id="a long name"),
        pytest.param(
            {"metadata": {"fleet9": {"a": "b"}}}, "'fleet9', which is not a machine", id="stranger"
        ),
    ],
)
def test_spec_refuses_what_cannot_be(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        Spec(**options)  # type: ignore[arg-type]


def test_spec_allows_bare_machines_without_etcd() -> None:
    assert Spec(machines=3, etcd=0, fleetd=False).machines == 3


def test_spec_finds_a_node_by_name() -> None:
    assert Spec().node("fleet2").address == "10.89.0.12"


def test_spec_says_which_nodes_there_are() -> None:
    with pytest.raises(NotFound, match="'demo' has no 'fleet9'; it has etcd1, fleet1, fleet2"):
        Spec(name="demo", machines=2).node("fleet9")


def test_metadata_is_name_and_zone_and_what_was_asked() -> None:
    spec = Spec(machines=4, metadata={"fleet4": {"disk": "ssd", "zone": "x"}})
    machines = spec.of_kind(Kind.MACHINE)

    assert [spec.metadata_of(node) for node in machines] == [
        {"host": "fleet1", "zone": "a"},
        {"host": "fleet2", "zone": "b"},
        {"host": "fleet3", "zone": "c"},
        {"host": "fleet4", "zone": "x", "disk": "ssd"},
    ]


def test_place_keeps_everything_below_one_directory() -> None:
    place = Place(name="demo")
    paths = [
        place.state,
        place.ssh_config,
        place.known_hosts,
        place.identity,
        place.hub,
        place.net("fleet1"),
        place.root("fleet1"),
        place.disk("fleet1"),
        place.host_key("fleet1"),
        place.log("fleet1"),
        place.notify("fleet1"),
    ]

    assert all(path.is_relative_to(BASE / "demo") for path in paths)
    assert len(set(paths)) == len(paths)


def test_place_has_socket_paths_short_enough_for_the_kernel() -> None:
    assert len(str(Place(name="n" * 20).notify("fleet60"))) < 108


def test_bridge_waits_for_nothing_before_it_forwards() -> None:
    assert bridge_script().splitlines() == [
        "link set lo up",
        "link add fleet0 type bridge stp_state 0 forward_delay 0",
        "address add 10.89.0.1/24 dev fleet0",
        "link set fleet0 up",
    ]


def test_cable_leads_from_the_bridge_to_the_node() -> None:
    assert cable_script(Place(name="demo"), MACHINE).splitlines() == [
        "link add fleet1 type veth peer name host0 address 02:fe:0a:59:00:0b "
        "netns /run/fleet-sandbox/demo/net/fleet1",
        "link set fleet1 master fleet0",
    ]


def test_interface_has_an_address_and_no_route_out() -> None:
    script = interface_script(MACHINE)

    assert "address add 10.89.0.11/24 dev host0" in script
    assert "route" not in script


def test_cables_are_pulled_and_plugged_on_the_side_of_the_bridge() -> None:
    other = Node(kind=Kind.ETCD, name="etcd1", address="10.89.0.2")

    assert unplug_script([MACHINE, other]) == "link set fleet1 down\nlink set etcd1 down"
    assert plug_script([MACHINE, other]) == "link set fleet1 up\nlink set etcd1 up"


def test_a_command_enters_only_the_network_namespace() -> None:
    assert inside(Path("/run/x"), ["ip", "link"]) == ["nsenter", "--net=/run/x", "--", "ip", "link"]
