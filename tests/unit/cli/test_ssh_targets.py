"""What the words after --tunnel, ssh, status and journal mean."""

from dataclasses import replace

import pytest

from cli.fleetctl.status import chosen_places, header
from cli.looking import Reading, journal_argv, status_argv
from cli.places import (
    NoPlace,
    Sight,
    Wish,
    address_of,
    find_machine,
    find_place,
    places_of,
    remote_command,
)
from cli.tunnel.inspection import Finding, explain_finding, parse_inspection
from cli.tunnel.session import signal_status
from cli.tunnel.target import (
    FarPort,
    FarSocket,
    Target,
    choose_user,
    expand_known_hosts,
    parse_far_end,
    parse_jumps,
    parse_target,
)
from fleet.api.schema import ListedState, Unit
from fleet.errors import Denied, FleetError, InvalidRequest, NotFound, Unavailable
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.states import TargetState
from fleet.unit import UnitOption

A = Machine(id=MachineId("aaaa0000" * 4), address="10.0.0.1")
AB = Machine(id=MachineId("aabb0000" * 4), address="10.0.0.2")
B = Machine(id=MachineId("bbbb0000" * 4), address="10.0.0.3")
WEB = UnitName("web.service")
GLOBAL = (UnitOption("X-Fleet", "Global", "true"),)


def unit(machine: Machine | None = A, current: TargetState = TargetState.LAUNCHED) -> Unit:
    return Unit(name=WEB, current=current, machine=machine.id if machine else None)


def states(*machines: Machine, load: str = "loaded") -> tuple[ListedState, ...]:
    return tuple(
        ListedState(unit=WEB, machine=m.id, hash="", load=load, active="active", sub="running")
        for m in machines
    )


def sight(found: Unit | None = None, seen: tuple[ListedState, ...] = ()) -> Sight:
    return Sight(machines=(A, AB, B), unit=found, states=seen)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("bastion", Target(host="bastion"), id="a name"),
        pytest.param("bastion:2222", Target(host="bastion", port=2222), id="a name and a port"),
        pytest.param("me@bastion:2222", Target(host="bastion", port=2222, user="me"), id="a user"),
        pytest.param("a@b@bastion", Target(host="bastion", user="a@b"), id="a user with an @"),
        pytest.param("[fe80::1]:2222", Target(host="fe80::1", port=2222), id="IPv6 and a port"),
        pytest.param("[fe80::1]", Target(host="fe80::1"), id="IPv6 in brackets"),
        pytest.param("fe80::1", Target(host="fe80::1"), id="bare IPv6 has no port"),
        pytest.param(" bastion ", Target(host="bastion"), id="blanks around it"),
    ],
)
def test_target_is_read(text: str, expected: Target) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "no host", id="nothing"),
        pytest.param(":22", "no host", id="only a port"),
        pytest.param("@host", "no user before the @", id="an empty user"),
        pytest.param("host:", "is not a port", id="an empty port"),
        pytest.param("host:ssh", "is not a port", id="a named port"),
        pytest.param("host:0", "is not a port", id="port 0"),
        pytest.param("host:65536", "is not a port", id="a port too high"),
        pytest.param("[fe80::1", "cannot read the address", id="an open bracket"),
        pytest.param("[fe80::1]22", "cannot read the address", id="no colon after the bracket"),
        pytest.param("-oProxyCommand=evil", "no host", id="a flag in disguise"),
        pytest.param("two words", "no host", id="a blank within"),
    ],
)
def test_target_that_means_nothing_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        parse_target(text)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (Target(host="bastion"), "bastion"),
        (Target(host="bastion", port=2222), "bastion:2222"),
        (Target(host="fe80::1", port=2222), "[fe80::1]:2222"),
        (Target(host="fe80::1"), "fe80::1"),
    ],
)
def test_target_is_shown_as_it_is_typed(target: Target, shown: str) -> None:
    assert str(target) == shown


def test_jumps_are_read_in_order() -> None:
    first, second = parse_jumps("me@a:2222, ssh://b")
    assert (first, second) == (Target(host="a", port=2222, user="me"), Target(host="b"))


@pytest.mark.parametrize(
    ("endpoint", "far"),
    [
        ("unix:///run/fleet.sock", FarSocket(path="/run/fleet.sock")),
        ("file:///run/fleet.sock", FarSocket(path="/run/fleet.sock")),
        ("unix:///run/a%20b.sock", FarSocket(path="/run/a b.sock")),
        ("http://10.0.0.1:49153", FarPort(host="10.0.0.1", port=49153)),
        ("http://web", FarPort(host="web", port=80)),
        ("https://web/", FarPort(host="web", port=443)),
        ("http://[fe80::1]:8080", FarPort(host="fe80::1", port=8080)),
    ],
)
def test_far_end_is_read_from_the_endpoint(endpoint: str, far: FarSocket | FarPort) -> None:
    assert parse_far_end(endpoint) == far


@pytest.mark.parametrize("endpoint", ["unix://var/run", "ftp://a", "/run", "http://a:b", "http://"])
def test_endpoint_that_leads_nowhere_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_far_end(endpoint)


@pytest.mark.parametrize(
    ("flag", "in_target", "config", "user"),
    [
        (None, None, None, "core"),
        (None, None, "config", "config"),
        ("flag", None, "config", "flag"),
        ("flag", "typed", "config", "typed"),
    ],
)
def test_user_is_the_most_explicit_one(
    flag: str | None, in_target: str | None, config: str | None, user: str
) -> None:
    assert choose_user(flag, in_target, config, "core") == user


def test_known_hosts_path_is_filled_in() -> None:
    tokens = {"d": "/home/me", "h": "web"}
    assert expand_known_hosts("~/%h", home="/home/me", tokens=tokens) == "/home/me/web"
    assert expand_known_hosts("%d/k", home="/home/me", tokens=tokens) == "/home/me/k"
    assert expand_known_hosts("/etc/k", home="/home/me", tokens=tokens) == "/etc/k"


@pytest.mark.parametrize(
    ("output", "finding"),
    [
        ("missing\n", (Finding.MISSING, "")),
        ("Welcome to the machine\nmissing\n", (Finding.MISSING, "")),
        ("denied\nfleet\n", (Finding.DENIED, "fleet")),
        ("denied\n", (Finding.DENIED, "")),
        ("", (Finding.UNKNOWN, "")),
        ("This account is not available.\n", (Finding.UNKNOWN, "")),
    ],
)
def test_inspection_is_read(output: str, finding: tuple[Finding, str]) -> None:
    assert parse_inspection(output) == finding


@pytest.mark.parametrize(
    ("finding", "detail", "kind", "said"),
    [
        (Finding.MISSING, "", NotFound, "/s on host: no such file; is fleetd running there?"),
        (Finding.NO_SOCKET, "", NotFound, "/s on host is not a socket: check --endpoint"),
        (Finding.DENIED, "fleet", Denied, "it is for the group 'fleet' (there: sudo usermod"),
        (Finding.DENIED, "root", Denied, "permission denied to 'me'; log in as another user"),
        (Finding.DEAD, "", Unavailable, "nothing answers"),
        (Finding.NO_HELPER, "", Unavailable, "AllowStreamLocalForwarding"),
        (Finding.UNKNOWN, "", Unavailable, "AllowStreamLocalForwarding"),
    ],
)
def test_finding_is_explained(
    finding: Finding, detail: str, kind: type[FleetError], said: str
) -> None:
    error = explain_finding(finding, detail, path="/s", place="host", user="me")
    assert isinstance(error, kind)
    assert said in str(error)


@pytest.mark.parametrize(("name", "status"), [("TERM", 143), ("KILL", 137), ("MADEUP", 255)])
def test_death_by_a_signal_is_a_status(name: str, status: int) -> None:
    assert signal_status(name) == status


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        pytest.param("b", B, id="one letter that only one id begins with"),
        pytest.param(A.id, A, id="a whole id"),
        pytest.param("10.0.0.2", AB, id="an address"),
    ],
)
def test_machine_is_found(text: str, machine: Machine) -> None:
    assert find_machine((A, AB, B), text) == machine


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("c", "machine does not exist", id="no id begins so"),
        pytest.param("", "machine does not exist", id="nothing is the beginning of nothing"),
        pytest.param("aa", "found more than one machine", id="two ids begin so"),
    ],
)
def test_machine_that_is_not_one_is_refused(text: str, problem: str) -> None:
    with pytest.raises(NoPlace, match=problem):
        find_machine((A, AB, B), text)


@pytest.mark.parametrize(
    ("wish", "seen", "machine"),
    [
        pytest.param(Wish(machine="b"), sight(), B, id="--machine"),
        pytest.param(Wish(unit="web"), sight(unit()), A, id="--unit"),
        pytest.param(Wish(either="b"), sight(), B, id="an argument that is a machine"),
        pytest.param(Wish(either="web"), sight(unit()), A, id="an argument that is a unit"),
        pytest.param(
            Wish(unit="web"),
            sight(Unit(name=WEB, options=GLOBAL), states(B)),
            B,
            id="a global unit on one machine only",
        ),
    ],
)
def test_place_is_found(wish: Wish, seen: Sight, machine: Machine) -> None:
    assert find_place(wish, seen) == machine


@pytest.mark.parametrize(
    ("wish", "seen", "problem"),
    [
        pytest.param(Wish(), sight(), "one machine or unit must be provided", id="nothing"),
        pytest.param(
            Wish(machine="a", unit="web"), sight(), "please specify only one", id="both flags"
        ),
        pytest.param(Wish(machine="c"), sight(), "machine does not exist", id="no such machine"),
        pytest.param(Wish(machine="aa"), sight(), "found more than one", id="two machines"),
        pytest.param(Wish(unit="web"), sight(), "unit does not exist", id="no such unit"),
        pytest.param(Wish(unit="web"), sight(unit(None)), "is on no machine", id="not scheduled"),
        pytest.param(
            Wish(unit="web"),
            sight(Unit(name=WEB, options=GLOBAL), states(A, B)),
            "global units unsupported: web.service is on aaaa0000, bbbb0000",
            id="a global unit on two machines",
        ),
        pytest.param(
            Wish(unit="web"), sight(unit(Machine(id=MachineId("gone")))), "has left", id="left"
        ),
        pytest.param(Wish(either="x"), sight(), "could not find matching", id="neither"),
        pytest.param(Wish(either="b"), sight(unit()), "ambiguous", id="a unit named as a machine"),
        pytest.param(Wish(either="aa"), sight(), "found more than one", id="two machines begin so"),
    ],
)
def test_place_that_is_not_one_is_refused(wish: Wish, seen: Sight, problem: str) -> None:
    with pytest.raises(NoPlace, match=problem):
        find_place(wish, seen)


@pytest.mark.parametrize(
    ("found", "seen", "places"),
    [
        pytest.param(unit(), (), (A,), id="a unit where it is"),
        pytest.param(unit(None), (), (), id="a unit that is nowhere"),
        pytest.param(unit(A, TargetState.INACTIVE), (), (), id="not loaded there yet"),
        pytest.param(
            Unit(name=WEB, options=GLOBAL), states(B, A), (A, B), id="a global unit, by machine"
        ),
        pytest.param(
            Unit(name=WEB, options=GLOBAL), states(A, load="not-found"), (), id="not found there"
        ),
    ],
)
def test_places_of_a_unit(
    found: Unit, seen: tuple[ListedState, ...], places: tuple[Machine, ...]
) -> None:
    assert places_of(found, sight(found, seen)) == places


def test_wanted_place_is_one_of_the_units() -> None:
    seen = sight(Unit(name=WEB, options=GLOBAL), states(A, B))
    assert chosen_places(seen, "") == (A, B)
    assert chosen_places(seen, "bb") == (B,)
    with pytest.raises(NoPlace, match=r"web.service is not on the machine aabb0000"):
        chosen_places(seen, "aab")
    assert chosen_places(sight(), "") == ()


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::"])
def test_machine_without_an_address_is_refused(address: str) -> None:
    with pytest.raises(NoPlace, match="Could not determine address of machine aaaa0000"):
        address_of(Machine(id=A.id, address=address))


@pytest.mark.parametrize(
    ("words", "command"),
    [
        pytest.param((), None, id="a shell"),
        pytest.param(("ls", "-l"), "ls -l", id="words are joined"),
        pytest.param(("--", "ls", "-l"), "ls -l", id="leading dashes are ours"),
        pytest.param(("grep", "--", "-x"), "grep -- -x", id="later dashes are the command's"),
        pytest.param(("sh", "-c", "exit 3"), "sh -c exit 3", id="nothing is quoted, as ever"),
        pytest.param(("--",), None, id="dashes alone"),
    ],
)
def test_remote_command_is_built(words: tuple[str, ...], command: str | None) -> None:
    assert remote_command(words) == command


def test_status_is_asked_without_a_pager() -> None:
    assert status_argv(WEB, A) == ("systemctl", "status", "--no-pager", "-l", "--", "web.service")


def test_units_of_a_user_are_looked_for_in_their_own_systemd() -> None:
    alices = replace(A, user=1000)
    asked = status_argv(WEB, alices)
    assert asked[:2] == ("sh", "-c")
    assert asked[3:] == ("systemctl", "1000", "status", "--no-pager", "-l", "--", "web.service")
    read = " ".join(journal_argv(WEB, alices, Reading()))
    assert read.startswith("journalctl _SYSTEMD_USER_UNIT=web.service _UID=1000 + USER_UNIT=")


def test_header_names_the_machine() -> None:
    assert header(WEB, A) == "==> web.service on aaaa0000.../10.0.0.1 <=="


@pytest.mark.parametrize(
    ("reading", "argv"),
    [
        (Reading(), "journalctl --unit web.service --no-pager -n 10 --output short"),
        (
            Reading(lines=3, follow=True, output="cat", sudo=True),
            "sudo journalctl --unit web.service --no-pager -n 3 --output cat -f",
        ),
    ],
)
def test_journal_is_asked_as_told(reading: Reading, argv: str) -> None:
    assert " ".join(journal_argv(WEB, A, reading)) == argv
