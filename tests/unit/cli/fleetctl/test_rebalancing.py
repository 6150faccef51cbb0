"""rebalance as its users see it."""

import json
from pathlib import Path

from fleet.machine import Machine, MachineId, encode_machine
from fleet.registry import Registry
from fleet.store.port import Put
from tests.unit.cli.fleetctl.cluster import LEGEND, Cluster, Fleetctl

AWAY = MachineId("9" * 32)


async def _join(registry: Registry) -> None:
    document = json.dumps(encode_machine(Machine(id=AWAY, address="10.0.0.9"))).encode()
    await registry.store.commit([], [Put(registry.keys.machine(AWAY), document)])


def test_rebalance_shows_the_moves_and_moves_nothing(fleetctl: Fleetctl, cluster: Cluster) -> None:
    for name in ("a", "b", "c", "d"):
        Path(f"{name}.service").write_text("[Service]\nExecStart=/bin/sleep 100\n")
    assert fleetctl("start", "a", "b", "c", "d").status == 0
    assert fleetctl("rebalance", "--dry-run").out == "No move would gain anything\n"
    cluster.do(_join)
    before = cluster.do(lambda registry: registry.cluster()).schedule
    done = fleetctl("rebalance", "--dry-run")
    assert (done.status, done.err) == (0, "")
    header, first, second = (line.split(maxsplit=3) for line in done.out.splitlines())
    assert header == ["UNIT", "FROM", "TO", "WHY"]
    assert first[:3] == ["a.service", LEGEND, "99999999.../10.0.0.9"]
    assert first[3].startswith("machine 113f16a7 has 4 units; machine 99999999 suits it")
    assert second[0] == "b.service"
    assert len(fleetctl("rebalance", "--dry-run", "--max", "1").out.splitlines()) == 2
    assert cluster.do(lambda registry: registry.cluster()).schedule == before


def test_rebalance_has_to_be_a_dry_run(fleetctl: Fleetctl, cluster: Cluster) -> None:
    done = fleetctl("rebalance")
    assert done.status == 2
    assert "rebalance moves nothing: say --dry-run" in done.err
    assert fleetctl("rebalance", "--dry-run", "--max", "0").status == 2
