"""hold, events, and what the lists say while machines are held."""

import json
import re
import time
from pathlib import Path

import pytest

from cli.holding import beside_lost
from cli.tables import clock_time
from fleet.api.client import FleetClient
from fleet.api.lost import FENCED, HELD, LEADERLESS, UNSETTLED, Lost
from fleet.claims import Claim, encode_claim
from fleet.cluster import Assignment, Refusal
from fleet.errors import Denied, NotFound
from fleet.hold import Hold, encode_hold
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.states import TargetState
from fleet.store.port import Delete, Put
from tests.unit.cli.fleetctl.cluster import HERE, Cluster, Fleetctl, wait_until

GONE = MachineId("9" * 32)
REASON = "2 of 4 machines vanished within 6 s: their units stay theirs"
UNTIL_S = time.time() + 600
WEB = "[Service]\nExecStart=/bin/sleep 100\n"


@pytest.fixture
def held(cluster: Cluster) -> Cluster:
    """The cluster while another machine of it is held, and one that has come back."""

    async def hold(registry: Registry) -> None:
        on = Hold(machines=frozenset({GONE, HERE}), until_s=UNTIL_S, reason=REASON)
        await registry.store.commit([], [Put(registry.keys.hold, encode_hold(on))])

    cluster.do(hold)
    return cluster


@pytest.mark.parametrize("verb", ["list-machines", "list-units"])
def test_lists_tell_of_a_hold_beside_what_they_list(
    fleetctl: Fleetctl, cluster: Cluster, held: Cluster, verb: str
) -> None:
    told = fleetctl(verb)
    assert told.status == 0
    first, *rest = told.err.splitlines()
    assert first == (
        "Machines are held: 99999999... vanished at once, and their units are not moved"
        f" before {clock_time(UNTIL_S)} unless you say so: fleetctl hold --release"
    )
    lost = [f"Lost: 99999999... (0 units): {HELD}"]
    assert rest == (lost if verb == "list-machines" else [])
    fleetctl("hold", "--release")
    silent = fleetctl(verb)
    assert (silent.out, silent.err) == (told.out, "")


def row(name: str) -> Assignment:
    return Assignment(
        unit=UnitName(name), machine=GONE, hash="aa", file="bb", target=TargetState.LAUNCHED
    )


@pytest.mark.parametrize(
    ("has_leader", "why"),
    [pytest.param(True, UNSETTLED, id="led"), pytest.param(False, LEADERLESS, id="leaderless")],
)
def test_machine_with_units_that_is_gone_is_listed_as_lost(
    fleetctl: Fleetctl, cluster: Cluster, has_leader: bool, why: str
) -> None:
    well = fleetctl("list-machines")
    assert (well.status, well.err) == (0, "")

    async def lose(registry: Registry) -> None:
        puts = [registry.assignment_put(row(name)) for name in ("web.service", "db.service")]
        ends = [] if has_leader else [Delete(registry.keys.engine)]
        await registry.store.commit([], [*puts, *ends])

    cluster.do(lose)
    told = fleetctl("list-machines")
    assert told.out == well.out
    assert told.err == f"Lost: 99999999... (2 units): {why}\n"
    listed = json.loads(fleetctl("list-machines", "-o", "json").out)
    assert [(each["machine"], each["state"], each["why"]) for each in listed] == [
        (HERE, "alive", None),
        (GONE, "lost", why),
    ]
    assert fleetctl("list-machines", "-o", "name").out == f"{HERE}\n"


def test_fenced_unit_that_waits_is_told_with_its_machine(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    reason = "it may still run on 99999999..."

    async def wait(registry: Registry) -> None:
        unit = UnitName("db.service")
        keys = registry.keys
        claim = encode_claim(Claim(unit=unit, machine=GONE, stop_s=90.0))
        refusal = Refusal(unit=unit, reasons={"": reason}, is_fenced=True, until_s=UNTIL_S)
        puts = [Put(keys.claim(GONE, unit), claim), registry.refusal_put(refusal)]
        await registry.store.commit([], puts)

    cluster.do(wait)
    assert fleetctl("list-machines").err == f"Lost: 99999999... (1 unit): {FENCED}\n"
    assert fleetctl("list-units").err == (
        f"Fenced: db.service waits: {reason}, until {clock_time(UNTIL_S)}\n"
    )


def test_hold_shows_machines_end_and_reason(fleetctl: Fleetctl, held: Cluster) -> None:
    outcome = fleetctl("hold")
    assert outcome.status == 0
    machines, until, reason = outcome.out.splitlines()
    assert machines == "machines  99999999..."
    assert re.fullmatch(
        rf"until     {clock_time(UNTIL_S)}, in \d+ s, unless they are back before", until
    )
    assert reason == f"reason    {REASON}"
    assert "fleetctl hold --release" in outcome.err
    assert GONE in fleetctl("hold", "--full").out


def test_released_hold_is_no_more(fleetctl: Fleetctl, held: Cluster) -> None:
    outcome = fleetctl("hold", "--release")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == "Gave up 99999999...: their units start elsewhere\n"
    for argv in (("hold",), ("hold", "--release")):
        nothing = fleetctl(*argv)
        assert (nothing.status, nothing.out, nothing.err) == (0, "No machines are held\n", "")


def test_start_says_that_the_units_machine_is_held(fleetctl: Fleetctl, cluster: Cluster) -> None:
    Path("web.service").write_text(WEB)
    fleetctl("start", "web")

    async def vanish(registry: Registry) -> None:
        keys = registry.keys
        on = Hold(machines=frozenset({HERE}), until_s=UNTIL_S, reason=REASON)
        gone = (await registry.store.read(keys.states)).entries
        deletes = [Delete(key) for key in (keys.machine(HERE), *gone)]
        await registry.store.commit([], [*deletes, Put(keys.hold, encode_hold(on))])

    cluster.do(vanish)
    outcome = fleetctl("start", "--block-attempts=1", "web")
    assert outcome.status == 1
    assert f"its machine 113f16a7... is held (see fleetctl hold): {REASON}" in outcome.err


def test_events_are_lines_with_the_newest_last(fleetctl: Fleetctl, cluster: Cluster) -> None:
    Path("web.service").write_text(WEB)
    fleetctl("start", "web")
    fleetctl("destroy", "web")
    wait_until(lambda: cluster.target("web.service") is None)

    async def decide(registry: Registry) -> None:
        what = f"remove on {HERE}: it was\ndestroyed\x1b[31m"
        by = f"engine on {HERE}"
        event = registry.event_put(by=by, unit="web.service", what=what)
        await registry.store.commit([], [event])

    cluster.do(decide)
    outcome = fleetctl("events", "--no-legend")
    assert (outcome.status, outcome.err) == (0, "")
    rows = [re.split(r"\t+", line) for line in outcome.out.splitlines()]
    assert [row[1:] for row in rows] == [
        ["root@here", "web.service", "stored, target state launched"],
        ["root@here", "web.service", "destroyed"],
        [
            "engine on 113f16a7...",
            "web.service",
            "remove on 113f16a7...: it was destroyed [31m",
        ],
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row[0]) for row in rows)
    assert len({line.index("web.service") for line in outcome.out.expandtabs(8).splitlines()}) == 1


def test_events_can_be_few_and_full(fleetctl: Fleetctl, cluster: Cluster) -> None:
    for number in range(3):
        fleetctl("submit", _written(f"u{number}.service"))
    assert fleetctl("events", "-n", "2", "--no-legend", "--fields=unit").out == (
        "u1.service\nu2.service\n"
    )
    header = fleetctl("events").out.splitlines()[0]
    assert header.split() == ["TIME", "WHO", "UNIT", "WHAT"]
    assert fleetctl("events", "--lines=0").status == 2
    assert fleetctl("events", "--lines=1001").status == 2


def _written(name: str) -> str:
    Path(name).write_text(WEB)
    return name


async def test_list_does_not_suffer_from_a_hold_that_cannot_be_told() -> None:
    async def listing() -> str:
        return "listed"

    class Deaf(FleetClient):
        async def lost(self) -> Lost:
            raise Denied("not for you")

    async with Deaf("unix:///nowhere") as client:
        assert await beside_lost(client, listing()) == ("listed", Lost())


async def test_list_that_fails_says_so_whatever_is_held() -> None:
    async def listing() -> str:
        raise NotFound("nothing there")

    async with FleetClient("unix:///nowhere") as client:
        with pytest.raises(NotFound, match="nothing there"):
            await beside_lost(client, listing())
