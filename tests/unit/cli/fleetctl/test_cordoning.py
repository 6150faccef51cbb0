"""cordon, uncordon and drain as their users see them, and what lists say of cordoned machines."""

import asyncio
import json
from pathlib import Path

import pytest

from fleet.cluster import Refusal
from fleet.machine import Cordon, Machine, MachineId, encode_machine
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.store.port import Put
from tests.unit.cli.fleetctl.cluster import HERE, LEGEND, Cluster, Fleetctl

AWAY = MachineId("9" * 32)
WEB = "[Service]\nExecStart=/bin/sleep 100\n"


def cordons(cluster: Cluster) -> dict[MachineId, Cordon]:
    return dict(cluster.do(lambda registry: registry.cluster()).cordons)


@pytest.mark.parametrize("name", ["113f16a7", HERE, "172.17.8.103"], ids=["short", "id", "address"])
def test_machine_is_cordoned_told_of_and_uncordoned(
    fleetctl: Fleetctl, cluster: Cluster, name: str
) -> None:
    done = fleetctl("cordon", "--why", "new disks", name)
    assert (done.status, done.out, done.err) == (0, f"Cordoned {LEGEND}\n", "")
    (cordon,) = cordons(cluster).values()
    assert (cordon.by, cordon.why, cordon.drain) == ("root@here", "new disks", False)

    listed = fleetctl("list-machines")
    assert listed.out.splitlines()[0].split() == ["MACHINE", "IP", "METADATA"]
    assert listed.err == (
        "Machines that take no new units (see fleetctl uncordon):"
        " 113f16a7... cordoned by root@here: new disks\n"
    )
    assert fleetctl("list-machines", "--no-legend", "--fields=cordon").out == "cordoned\n"

    done = fleetctl("uncordon", name)
    assert (done.status, done.out) == (0, f"Uncordoned {LEGEND}\n")
    assert cordons(cluster) == {}
    assert fleetctl("uncordon", name).out == f"{LEGEND} is not cordoned\n"
    assert fleetctl("list-machines", "--no-legend", "--fields=cordon").out == "-\n"
    assert "cordons machine 113f16a7...: new disks" in fleetctl("events").out


def test_cordoned_machine_that_is_away_is_uncordoned_by_its_id(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    cluster.do(lambda registry: registry.cordon(AWAY, Cordon(by="alice")))
    assert fleetctl("uncordon", "9999").out == "Uncordoned 99999999...\n"
    assert cordons(cluster) == {}


@pytest.mark.parametrize("verb", ["cordon", "uncordon", "drain"])
def test_unknown_machine_is_refused_and_nothing_is_done(
    fleetctl: Fleetctl, cluster: Cluster, verb: str
) -> None:
    done = fleetctl(verb, "113f16a7", "nosuch")
    assert done.status == 1
    assert (
        done.err == "machine does not exist: no id begins with 'nosuch', and no address is that\n"
    )
    assert cordons(cluster) == {}
    assert fleetctl(verb).status == 2


def test_drain_tells_of_units_that_stay_and_of_those_that_have_not_left(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    Path("web.service").write_text(WEB)
    fleetctl("start", "web")
    # Nobody plans here: the unit is as it would be with an engine that is at work.
    slow = fleetctl("drain", "--timeout=0.1", "113f16a7")
    assert slow.status == 1
    assert slow.err == (
        "Unit web.service has not left within the time: "
        "no other machine has been chosen for it yet\n"
        f"Not drained {LEGEND}: 0 units left it, 1 still there\n"
    )

    async def refuse(registry: Registry) -> None:
        refusal = Refusal(unit=UnitName("web.service"), reasons={"": "there is no other machine"})
        await registry.store.commit([], [registry.refusal_put(refusal)])

    cluster.do(refuse)
    stuck = fleetctl("drain", "113f16a7")
    assert stuck.status == 1
    assert stuck.err == (
        f"Unit web.service stays on {LEGEND}, because no other machine can take it:\n"
        "  every machine  there is no other machine\n"
        f"Not drained {LEGEND}: 0 units left it, 1 still there\n"
    )
    assert fleetctl("drain", "--no-block", "113f16a7").out == f"Draining {LEGEND}\n"
    assert fleetctl("drain", "--timeout=soon", "113f16a7").status == 2


def test_drain_ends_when_all_units_have_left(fleetctl: Fleetctl, cluster: Cluster) -> None:
    Path("web.service").write_text(WEB)
    fleetctl("start", "web")
    other = Machine(id=AWAY, address="10.0.0.9")

    async def move(registry: Registry, revision: int) -> None:
        """What engine and agents do about a drain, as soon as there is one."""
        keys = registry.keys
        async for _ in registry.store.watch(keys.cordons, revision):
            break
        row = (await registry.cluster()).schedule[0]
        entries = (await registry.store.read(keys.states)).entries
        (state,) = entries.values()
        put = Put(keys.state(AWAY, row.unit), state.value)
        there = registry.assignment_put(
            type(row)(unit=row.unit, machine=AWAY, hash=row.hash, file=row.file, target=row.target)
        )
        await registry.store.commit([], [put, there])
        await cluster._remove(row.unit)

    async def begin(registry: Registry) -> None:
        document = json.dumps(encode_machine(other)).encode()
        put = Put(registry.keys.machine(AWAY), document)
        revision = (await registry.store.commit([], [put])).revision
        moving.append(asyncio.create_task(move(registry, revision)))

    moving: list[asyncio.Task[None]] = []
    cluster.do(begin)
    done = fleetctl("drain", "113f16a7")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        f"Unit web.service launched on 99999999.../10.0.0.9\nDrained {LEGEND}: 1 unit left it\n"
    )
