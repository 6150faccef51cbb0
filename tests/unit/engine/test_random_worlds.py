"""Larger worlds, drawn by seed: several requirements a unit, and several changes in turn."""

import random
from dataclasses import replace

import pytest

from engine.losses import EngineMemory
from engine.tasks import Task
from fleet.cluster import Cluster, UnitRecord
from fleet.machine import Machine
from fleet.options import find_contradiction
from fleet.resources import Resources
from tests.unit.engine.test_small_worlds import check_settled
from tests.unit.engine.worlds import (
    all_up,
    carried_out,
    cordoned,
    machine,
    planned,
    settled,
    uncordoned,
    unit,
    with_machines,
    with_units,
    without_machines,
    without_units,
    world,
)

# A leader that has seen everything: no loss is news to it, so no brake.
SEASONED = EngineMemory(is_new=False)
WORLDS_PER_TEST = 100
STEPS = 6
PATIENCE = 12


class Dice:
    """A world's names, and what chance makes of them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.names = [f"{letter}.service" for letter in "abcdef"[: self.chance.randint(3, 6)]]
        self._revision = 0

    def options(self, name: str) -> list[str]:
        others = [other for other in self.names if other != name]
        likely = {
            "Global=true": 0.25,
            f"MachineMetadata=role={self.chance.choice('xy')}": 0.25,
            f"Conflicts={self.chance.choice(others)}": 0.3,
            f"Replaces={self.chance.choice(others)}": 0.25,
            f"MachineOf={self.chance.choice(others)}": 0.3,
            f"CPU={self.chance.randint(1, 3)}": 0.25,
            "MachineMetadata=role!=z": 0.1,
        }
        return [option for option, part in likely.items() if self.chance.random() < part]

    def unit(self, name: str) -> UnitRecord:
        self._revision += 1
        target = self.chance.choice(["launched"] * 5 + ["inactive", "loaded"])
        while True:
            made = unit(name, *self.options(name), revision=self._revision, target=target)
            if not find_contradiction(made.requirements):
                return made

    def machine(self, number: int) -> Machine:
        made = machine(f"m{number}", role=self.chance.choice("xyz"))
        return replace(made, resources=Resources(cpus=self.chance.randint(1, 6)))

    def world(self) -> Cluster:
        hosts = [self.machine(number) for number in range(self.chance.randint(1, 4))]
        return world(hosts, [self.unit(name) for name in self.names])

    def disturbed(self, cluster: Cluster) -> Cluster:
        what = self.chance.random()
        if what < 0.4:
            return with_units(cluster, self.unit(self.chance.choice(self.names)))
        if what < 0.55 and len(cluster.machines) > 1:
            return without_machines(cluster, self.chance.choice(list(cluster.machines)))
        if what < 0.7:
            host = self.chance.choice(list(cluster.machines))
            if cluster.machines[host].cordon is not None:
                return uncordoned(cluster, host)
            return cordoned(cluster, host, drain=self.chance.random() < 0.7)
        if what < 0.85:
            return with_machines(cluster, self.machine(self.chance.randint(0, 4)))
        return without_units(cluster, self.chance.choice(self.names))

    def begun(self, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        """Mostly none of the tasks, sometimes the first few."""
        return tasks[: self.chance.randint(0, len(tasks))] if self.chance.random() < 0.4 else ()


def at_rest(cluster: Cluster) -> Cluster:
    for _ in range(PATIENCE):
        cluster = all_up(cluster)
        tasks = planned(cluster, SEASONED).tasks
        if not tasks:
            return cluster
        cluster = carried_out(cluster, tasks)
    raise AssertionError([str(task) for task in tasks])


@pytest.mark.parametrize("start", range(0, 5 * WORLDS_PER_TEST, WORLDS_PER_TEST))
def test_whatever_happens_every_plan_is_the_last_until_more_happens(start: int) -> None:
    for seed in range(start, start + WORLDS_PER_TEST):
        dice = Dice(seed)
        cluster = dice.world()
        for _ in range(STEPS):
            cluster = settled(cluster, SEASONED)
            check_settled(cluster)
            if dice.chance.random() < 0.7:
                cluster = at_rest(cluster)
                check_settled(cluster)
            cluster = dice.disturbed(cluster)
            tasks = planned(cluster, SEASONED).tasks
            cluster = carried_out(cluster, dice.begun(tasks))
