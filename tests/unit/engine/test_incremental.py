"""A planner that is told only of changes plans as one that sees everything for the first time."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.facts import Facts
from engine.losses import EngineMemory
from engine.plan import Plan, Planner, plan
from engine.tasks import Task, TaskKind
from fleet.claims import Claim
from fleet.cluster import Cluster
from tests.unit.engine.telling import tell
from tests.unit.engine.test_random_worlds import Dice
from tests.unit.engine.worlds import (
    SETTINGS,
    all_up,
    carried_out,
    machine,
    unit,
    with_machines,
    with_units,
    without_machines,
    without_units,
    world,
)

SEASONED = EngineMemory(is_new=False)
WORLDS_PER_TEST = 25
STEPS = 12


class WideDice(Dice):
    """Worlds wide enough that a change leaves most of them alone."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        counts = self.chance.randint(2, 8), self.chance.randint(0, 8), self.chance.randint(0, 12)
        self.names = [f"{letter}.service" for letter in "abcdefgh"[: counts[0]]]
        self.names += [f"w@{number}.service" for number in range(counts[1])]
        self.names += [f"p{number}.service" for number in range(counts[2])]
        self.bound = self.chance.choice([0.1, 0.3, 1.0])

    def options(self, name: str) -> list[str]:
        others = [other for other in self.names if other != name]
        patterns = [*others, "w@*", "[a-c].service"]
        likely = {
            "Global=true": 0.08,
            "Fenced=true": 0.15,
            f"MachineMetadata=role={self.chance.choice('xy')}": 0.2,
            f"MachineID=m{self.chance.randint(0, 9)}": 0.05,
            f"Conflicts={self.chance.choice(patterns)}": 0.2 * self.bound,
            f"Replaces={self.chance.choice(patterns)}": 0.15 * self.bound,
            f"MachineOf={self.chance.choice(others)}": 0.25 * self.bound,
        }
        return [option for option, part in likely.items() if self.chance.random() < part]

    def world(self) -> Cluster:
        hosts = [self.machine(number) for number in range(self.chance.randint(3, 16))]
        return world(hosts, [self.unit(name) for name in self.names])

    def some_up(self, cluster: Cluster) -> Cluster:
        """Most units have come up, some have ended, of some nothing is heard."""
        states = []
        for state in all_up(cluster).states:
            what = self.chance.random()
            if what < 0.8:
                ended = replace(state, active="inactive", sub="dead")
                states.append(state if what < 0.6 else ended)
        return replace(cluster, states=tuple(states))

    def claimed(self, cluster: Cluster, done: tuple[Task, ...]) -> Cluster:
        """Machines claim fenced units, or not yet, and give claims back, or not yet."""
        freed = {(task.unit, task.machine) for task in done if task.kind is TaskKind.FREE}
        claims = {(c.unit, c.machine): c for c in cluster.claims}
        rows = {(row.unit, row.machine) for row in cluster.schedule}
        for name, where in sorted(rows - claims.keys()):
            record = cluster.units.get(name)
            if record and record.requirements.is_fenced and self.chance.random() < 0.7:
                stop_s = self.chance.choice([1.0, 5.0, float("inf")])
                claims[name, where] = Claim(unit=name, machine=where, stop_s=stop_s, revision=1)
        kept = [
            claim
            for place, claim in sorted(claims.items())
            if place not in freed and (place in rows or self.chance.random() < 0.6)
        ]
        return replace(cluster, claims=tuple(kept))

    def next(self, cluster: Cluster, made: Plan) -> Cluster:
        """What becomes of the cluster: the plan is carried out or not, and things happen."""
        whole = self.chance.random() < 0.7
        steps = len(made.tasks) if whole else self.chance.randint(0, len(made.tasks))
        cluster = carried_out(cluster, made.tasks[:steps])
        cluster = self.claimed(cluster, made.tasks[:steps])
        what = self.chance.random()
        if what < 0.6:
            cluster = all_up(cluster) if what < 0.4 else self.some_up(cluster)
        return self.disturbed(cluster) if what < 0.8 else cluster


def with_files(cluster: Cluster, *, kept: bool = False) -> Cluster:
    """The cluster with the files that it names; a commit may name what units name just now."""
    files = {row.file: 1 for row in cluster.schedule}
    files |= {record.file: 1 for record in cluster.units.values()}
    kept_files = frozenset(files) if kept else cluster.kept_files
    return replace(cluster, files={**cluster.files, **files}, kept_files=kept_files)


@pytest.mark.parametrize("start", range(0, 4 * WORLDS_PER_TEST, WORLDS_PER_TEST))
def test_planner_told_of_changes_plans_as_one_that_sees_all(start: int) -> None:
    for seed in range(start, start + WORLDS_PER_TEST):
        dice = WideDice(seed) if seed % 3 else Dice(seed)
        wide = WideDice(seed)
        cluster, before, now_s = dice.world(), Cluster(), 100.0
        memory, facts = SEASONED, Facts()
        planner = Planner(facts, SETTINGS)
        for step in range(STEPS):
            cluster = with_files(cluster, kept=step % 3 == 1)
            tell(facts, before, cluster)
            fresh = plan(cluster, memory, now_s, SETTINGS)
            assert planner.plan(memory, now_s) == fresh, (seed, step)
            if seed % 2:  # else nothing is ever held
                memory, now_s = fresh.memory, now_s + dice.chance.choice([0.1, 3.0, 70.0])
            wide.chance, before = dice.chance, cluster
            cluster = wide.next(cluster, fresh)


def test_planner_among_many_machines_plans_as_one_that_sees_all() -> None:
    """Beyond a hundred machines refusals are counted, and the planner skips who hears no news."""
    hosts = [machine(f"m{number:03}", disk="ssd" if number < 3 else "hdd") for number in range(120)]
    units = [unit(f"p{number}.service", revision=number + 1) for number in range(200)]
    units += [
        unit("lone.service", "MachineMetadata=disk=nvme", revision=300),
        *(
            unit(f"db@{n}.service", "MachineMetadata=disk=ssd", "Conflicts=db@*", revision=301 + n)
            for n in range(5)
        ),
        unit("all.service", "Global=true", "MachineMetadata=disk=ssd", revision=310),
        unit("follower.service", "MachineOf=absent.service", revision=311),
    ]
    cluster = world(hosts, units)
    steps: list[Callable[[Cluster], Cluster]] = [
        lambda now: now,
        lambda now: with_units(now, unit("new.service", revision=400)),
        lambda now: without_machines(now, "m001"),
        lambda now: without_units(now, "db@2.service"),
        lambda now: with_machines(now, machine("m500", disk="ssd")),
        lambda now: with_units(now, unit("absent.service", revision=401)),
        lambda now: with_machines(now, machine("m050", disk="nvme")),
        lambda now: without_machines(now, *(f"m{number:03}" for number in range(60, 90))),
        lambda now: with_machines(now, machine("m001", disk="ssd")),
    ]
    facts, before = Facts(), Cluster()
    planner = Planner(facts, SETTINGS)
    for step in steps:
        cluster = with_files(step(cluster))
        for _ in range(2):
            tell(facts, before, cluster)
            before = cluster
            fresh = plan(cluster, SEASONED, 100.0, SETTINGS)
            assert planner.plan(SEASONED, 100.0) == fresh
            cluster = carried_out(cluster, fresh.tasks)
    assert "new.service" in {row.unit for row in cluster.schedule}
