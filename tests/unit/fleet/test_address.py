"""Which interface leads out, and which addresses other machines can use."""

import pytest

from fleet.address import detect_public_ip, interface_address, is_reachable, parse_default_interface

_HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"


def _route(interface: str, destination: str, flags: str = "0003", mask: str = "00000000") -> str:
    return f"{interface}\t{destination}\t010200C0\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0"


@pytest.mark.parametrize(
    ("routes", "interface"),
    [
        pytest.param([_route("eth0", "00000000")], "eth0", id="one default route"),
        pytest.param(
            [_route("lan", "000200C0", "0001", "00FFFFFF"), _route("wan", "00000000")],
            "wan",
            id="after another route",
        ),
        pytest.param(
            [_route("a", "00000000"), _route("b", "00000000")], "a", id="the first of two"
        ),
        pytest.param(
            [_route("vpn", "00000000", mask="00000080"), _route("wan", "00000000")],
            "wan",
            id="half of the world is no default",
        ),
        pytest.param(
            [_route("down", "00000000", "0002"), _route("up", "00000000")],
            "up",
            id="a route that is down",
        ),
        pytest.param(
            [_route("*", "00000000", "0201"), _route("wan", "00000000")],
            "wan",
            id="a route that refuses",
        ),
        pytest.param(
            ["nonsense", "eth0\tx\ty", _route("wan", "00000000")], "wan", id="lines of rubbish"
        ),
        pytest.param([_route("lan", "000200C0", "0001", "00FFFFFF")], None, id="no default route"),
        pytest.param([], None, id="no route"),
    ],
)
def test_default_interface_is_found(routes: list[str], interface: str | None) -> None:
    assert parse_default_interface("\n".join([_HEADER, *routes, ""])) == interface


def test_no_routing_table_has_no_default_interface() -> None:
    assert parse_default_interface("") is None


@pytest.mark.parametrize(
    ("address", "reachable"),
    [
        pytest.param("10.0.0.1", True, id="private"),
        pytest.param("172.18.1.1", True, id="private as well"),
        pytest.param("8.8.8.8", True, id="public"),
        pytest.param("127.0.0.1", False, id="loopback"),
        pytest.param("169.254.1.1", False, id="link-local"),
        pytest.param("224.0.0.1", False, id="multicast"),
        pytest.param("255.255.255.255", False, id="broadcast"),
        pytest.param("0.0.0.0", False, id="unspecified"),
    ],
)
def test_address_that_others_can_use(address: str, reachable: bool) -> None:
    assert is_reachable(address) is reachable


def test_interface_without_a_usable_address_has_none() -> None:
    assert interface_address("lo") == ""
    assert interface_address("no-such-interface-at-all") == ""


def test_detected_address_is_one_that_others_can_use_or_none() -> None:
    address = detect_public_ip()

    assert address == "" or is_reachable(address)
