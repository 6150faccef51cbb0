"""rebalance as its users see it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.cluster import decode_assignment
from fleet.machine import Machine, MachineId, encode_machine
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.states import UnitState, encode_state
from fleet.store.port import Delete, Event, Put
from tests.unit.cli.fleetctl.cluster import HERE, LEGEND, Cluster, Fleetctl

AWAY = MachineId("9" * 32)
THERE = "99999999.../10.0.0.9"
GONE = {"active": "failed", "sub": "failed", "result": "exit-code", "journal": ("no disk",)}


async def _join(registry: Registry) -> int:
    """A machine joins; the revision of that."""
    document = json.dumps(encode_machine(Machine(id=AWAY, address="10.0.0.9"))).encode()
    return (await registry.store.commit([], [Put(registry.keys.machine(AWAY), document)])).revision


async def _abdicate(registry: Registry) -> None:
    await registry.store.commit([], [Delete(registry.keys.engine)])


class Newcomer:
    """A machine that joins late, with an engine that takes away what is up there elsewhere."""

    def __init__(self, cluster: Cluster) -> None:
        self.failing: set[str] = set()
        joined = cluster.do(_join)
        self._work = asyncio.run_coroutine_threadsafe(
            self._serve(cluster.registry, joined), cluster.loop
        )

    def end(self) -> None:
        self._work.cancel()

    async def _serve(self, registry: Registry, after: int) -> None:
        async for changes in registry.store.watch(registry.keys.schedule_of(AWAY), after):
            for event in changes.events:
                await self._take(registry, event)

    async def _take(self, registry: Registry, event: Event) -> None:
        if event.entry is None:
            return
        keys = registry.keys
        row = decode_assignment(AWAY, UnitName(event.key.rpartition("/")[2]), event.entry.value)
        words: dict[str, Any] = {"active": "active", "sub": "running", "result": "success"}
        fails = row.unit in self.failing
        state = UnitState(
            unit=row.unit,
            machine=AWAY,
            hash=row.hash,
            current=row.target,
            load="loaded",
            job="done",
            **(GONE if fails else words),
        )
        document = json.dumps(encode_state(state)).encode()
        await registry.store.commit([], [Put(keys.state(AWAY, row.unit), document)])
        if not fails:
            old = (keys.assignment(HERE, row.unit), keys.state(HERE, row.unit))
            await registry.store.commit([], [Delete(key) for key in old])


@pytest.fixture
def crowded(fleetctl: Fleetctl) -> None:
    """Four units run on the only machine there is."""
    for name in ("a", "b", "c", "d"):
        Path(f"{name}.service").write_text("[Service]\nExecStart=/bin/sleep 100\n")
    assert fleetctl("start", "a", "b", "c", "d").status == 0


@pytest.fixture
def newcomer(cluster: Cluster, crowded: None) -> Iterator[Newcomer]:
    made = Newcomer(cluster)
    yield made
    made.end()


@pytest.mark.usefixtures("crowded")
def test_rebalance_shows_the_moves_and_moves_nothing(fleetctl: Fleetctl, cluster: Cluster) -> None:
    assert fleetctl("rebalance", "--dry-run").out == "No move would gain anything\n"
    assert fleetctl("rebalance").out == "No move would gain anything\n"
    cluster.do(_join)
    before = cluster.do(lambda registry: registry.cluster()).schedule
    done = fleetctl("rebalance", "--dry-run")
    assert (done.status, done.err) == (0, "")
    header, first, second = (line.split(maxsplit=3) for line in done.out.splitlines())
    assert header == ["UNIT", "FROM", "TO", "WHY"]
    assert first[:3] == ["a.service", LEGEND, THERE]
    assert first[3].startswith("machine 113f16a7 has 4 units; machine 99999999 suits it")
    assert second[0] == "b.service"
    assert len(fleetctl("rebalance", "--dry-run", "--max", "1").out.splitlines()) == 2
    assert cluster.do(lambda registry: registry.cluster()).schedule == before


@pytest.mark.usefixtures("newcomer")
def test_rebalance_moves_units_and_waits_until_they_are_up_there(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    done = fleetctl("rebalance")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["UNIT", "a.service", "b.service"]
    assert sorted(lines[3:5]) == [
        f"Unit a.service launched on {THERE}",
        f"Unit b.service launched on {THERE}",
    ]
    assert lines[5:] == ["Moved 2 units; no other move would gain anything"]
    rows = {(row.unit[0], row.machine) for row in cluster.do(lambda r: r.cluster()).schedule}
    assert rows == {("a", AWAY), ("b", AWAY), ("c", HERE), ("d", HERE)}
    assert "rebalance asked for by" in fleetctl("history", "a").out
    assert "rebalance asked for by" in fleetctl("why", "a").out
    assert fleetctl("rebalance").out == "No move would gain anything\n"


@pytest.mark.usefixtures("newcomer")
def test_rebalance_that_stops_at_its_limit_says_that_there_is_more(fleetctl: Fleetctl) -> None:
    done = fleetctl("rebalance", "--max", "1")
    assert done.out.splitlines()[-1] == "Moved 1 unit; more moves would gain something"


def test_rebalance_tells_of_a_unit_that_fails_on_its_new_machine(
    fleetctl: Fleetctl, newcomer: Newcomer
) -> None:
    newcomer.failing.add("b.service")
    done = fleetctl("rebalance")
    assert done.status == 1
    assert f"Unit a.service launched on {THERE}" in done.out
    first, *_, last = done.err.splitlines()
    assert first == f"Unit b.service stays on {LEGEND}, because it fails on {THERE}:"
    assert "no disk" in done.err
    assert last == "Moved 1 unit, and 1 did not come up elsewhere"


@pytest.mark.usefixtures("crowded")
def test_rebalance_without_waiting_leaves_the_moves_under_way(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    cluster.do(_join)
    done = fleetctl("rebalance", "--no-block")
    assert (done.status, done.out.splitlines()[-1]) == (0, "Moving 2 units")
    leaving = [row.unit for row in cluster.do(lambda r: r.cluster()).schedule if row.leaving]
    assert leaving == ["a.service", "b.service"]
    assert fleetctl("rebalance", "--no-block").out == "No move would gain anything\n"


@pytest.mark.usefixtures("crowded")
def test_rebalance_gives_up_waiting_after_the_time(fleetctl: Fleetctl, cluster: Cluster) -> None:
    cluster.do(_join)
    done = fleetctl("rebalance", "--max", "1", "--timeout", "0.2")
    assert done.status == 1
    assert "Unit a.service has not left within the time: it goes when it is up on" in done.err


@pytest.mark.usefixtures("newcomer")
def test_rebalance_is_refused_when_nobody_leads(fleetctl: Fleetctl, cluster: Cluster) -> None:
    cluster.do(_abdicate)
    done = fleetctl("rebalance")
    assert done.status == 1
    assert "no engine leads the cluster, so nothing is moved" in done.err
    assert fleetctl("rebalance", "--dry-run").status == 0


def test_rebalance_wants_a_number_of_moves(fleetctl: Fleetctl) -> None:
    assert fleetctl("rebalance", "--dry-run", "--max", "0").status == 2
    assert fleetctl("rebalance", "--max", "101").status == 2
