"""Every small world: three units of any shape on up to three machines, whatever happens next."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fleet.cluster import Cluster, UnitRecord
from fleet.constraints import able_to_run
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.options import Requirements
from fleet.states import TargetState
from tests.unit.engine.worlds import (
    all_up,
    carried_out,
    cordoned,
    machine,
    planned,
    settled,
    stride,
    unit,
    with_units,
    without_machines,
    without_units,
    world,
)

NAMES = ("a", "b", "c")
MACHINES = (machine("m1", role="x"), machine("m2"), machine("m3", role="x"))
PATIENCE = 6
# Of the disturbances of one world each world tries every so many, beginning at another one.
STRIDE = stride(61)


def shapes_of(name: str) -> tuple[tuple[str, ...], ...]:
    """What a unit can ask for with regard to the other two."""
    one, two = (f"{other}.service" for other in NAMES if other != name)
    return (
        (),
        ("Global=true",),
        ("MachineMetadata=role=x",),
        (f"Conflicts={one}",),
        (f"Conflicts={two}",),
        ("Global=true", f"Conflicts={one}"),
        (f"MachineOf={one}",),
        (f"MachineOf={two}",),
        (f"Replaces={one}",),
        (f"Replaces={two}",),
    )


def shaped(name: str, shape: tuple[str, ...], revision: int) -> UnitRecord:
    return unit(f"{name}.service", *shape, revision=revision)


def all_worlds(machines: int) -> Iterator[Cluster]:
    for shapes in itertools.product(*(shapes_of(name) for name in NAMES)):
        units = [shaped(*pair, n) for n, pair in enumerate(zip(NAMES, shapes, strict=True), 1)]
        yield world(MACHINES[:machines], units)


def neighbours(cluster: Cluster, where: str, *, leaving: bool) -> dict[UnitName, Requirements]:
    return {
        row.unit: cluster.units[row.unit].requirements
        for row in cluster.schedule
        if row.machine == where and row.unit in cluster.units and (leaving or not row.leaving)
    }


def check_peace(cluster: Cluster) -> None:
    """No two units that must not run together have rows on one living machine."""
    for where, host in cluster.machines.items():
        there = neighbours(cluster, where, leaving=True)
        for name, asked in there.items():
            verdict = able_to_run(name, asked.only_repelling(), host, there)
            assert verdict.able, (name, where, verdict.reason)
            assert not verdict.displaces, (name, where, verdict.displaces)


def check_settled(cluster: Cluster) -> None:
    """Everybody is where they may be, once, or there is a reason for every machine."""
    check_peace(cluster)
    for row in cluster.schedule:
        if not row.leaving and row.machine in cluster.machines:
            there = neighbours(cluster, row.machine, leaving=False)
            asked = there[row.unit]
            verdict = able_to_run(row.unit, asked, cluster.machines[row.machine], there)
            assert verdict.able, (row.unit, row.machine, verdict.reason)
    for name, record in cluster.units.items():
        homes = cluster.assignments_of(name)
        living = [row for row in homes if row.machine in cluster.machines]
        assert record.is_global or len(living) <= 1
        if record.target is TargetState.INACTIVE:
            assert not homes
        elif not homes or (cluster.machines and not living and not record.is_global):
            reasons = cluster.refusals[name].reasons
            assert "" in reasons or reasons.keys() >= cluster.machines.keys()
        elif not record.is_global and any(is_drained(cluster, row.machine) for row in homes):
            reasons = cluster.refusals[name].reasons
            assert (
                "" in reasons or {*reasons, *(r.machine for r in homes)} >= cluster.machines.keys()
            )
        else:
            assert name not in cluster.refusals


def is_drained(cluster: Cluster, where: MachineId) -> bool:
    host = cluster.machines.get(where)
    return host is not None and host.cordon is not None and host.cordon.drain


def check_calm(before: Cluster, after: Cluster) -> None:
    """Nobody has moved who could have stayed: with those who are there now it could not."""
    for row in before.schedule:
        name, host = row.unit, after.machines.get(row.machine)
        record = after.units.get(name)
        homes = [now.machine for now in after.assignments_of(name)]
        was_global = len(before.assignments_of(name)) > 1
        if not host or not record or not homes or row.machine in homes or was_global:
            continue
        if is_drained(after, row.machine):
            continue
        there = neighbours(after, row.machine, leaving=False)
        verdict = able_to_run(name, record.requirements, host, there)
        assert not verdict.able or verdict.displaces, (name, row.machine, homes)


def at_rest(cluster: Cluster) -> Cluster:
    """The cluster when all units are up and the plans have run dry."""
    for _ in range(PATIENCE):
        cluster = all_up(cluster)
        tasks = planned(cluster).tasks
        if not tasks:
            lingering = [r for r in cluster.schedule if r.leaving and r.machine in cluster.machines]
            assert not [r for r in lingering if cluster.assignments_of(r.unit)]
            return cluster
        cluster = carried_out(cluster, tasks)
    raise AssertionError([str(task) for task in tasks])


def disturbances(cluster: Cluster) -> Iterator[Cluster]:
    """Everything that can happen to one machine or one unit."""
    for host in cluster.machines:
        yield without_machines(cluster, host)
        yield cordoned(cluster, host)
        yield cordoned(cluster, host, drain=True)
    first, *_, second = cluster.machines[MachineId("m1")], *cluster.machines.values()
    swapped = {
        first.id: replace(first, metadata=second.metadata),
        second.id: replace(second, metadata={}),
    }
    yield replace(cluster, machines={**cluster.machines, **swapped})
    for name in NAMES:
        yield without_units(cluster, f"{name}.service")
        for shape in shapes_of(name):
            yield with_units(cluster, shaped(name, shape, 9))


@pytest.mark.parametrize("machines", [1, 2, 3])
def test_a_plan_from_nothing_satisfies_everybody_it_can(machines: int) -> None:
    for cluster in all_worlds(machines):
        after = settled(cluster)
        check_settled(after)
        check_settled(at_rest(after))


@pytest.mark.fuzz
@pytest.mark.parametrize("machines", [1, 2, 3])
def test_whatever_happens_next_one_plan_settles_it(machines: int) -> None:
    for number, start in enumerate(all_worlds(machines)):
        before = at_rest(settled(start))
        for disturbed in itertools.islice(disturbances(before), number % STRIDE, None, STRIDE):
            after = settled(disturbed)
            check_settled(after)
            check_calm(disturbed, after)
            check_settled(at_rest(after))


@pytest.mark.fuzz
@pytest.mark.parametrize("machines", [2, 3])
def test_a_plan_interrupted_after_any_step_leads_to_a_settlement(machines: int) -> None:
    for number, start in enumerate(all_worlds(machines)):
        before = at_rest(settled(start))
        for disturbed in itertools.islice(disturbances(before), number % STRIDE, None, STRIDE):
            tasks = planned(disturbed).tasks
            for steps in range(1, len(tasks)):
                halfway = carried_out(disturbed, tasks[:steps])
                check_settled(settled(halfway))
                check_settled(at_rest(halfway))
