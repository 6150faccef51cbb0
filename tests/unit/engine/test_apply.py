"""Tasks as writes: what they write, and what makes them void."""

import pytest

from engine.apply import decide
from engine.losses import EngineMemory
from engine.plan import Planner
from engine.tasks import Task
from engine.view import View, prefixes_of
from fleet.cluster import Leader
from fleet.errors import Conflict
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.store.port import Delete, Put
from fleet.unit import parse_unit
from tests.unit.engine.worlds import SETTINGS, rows_of

A = UnitName("a.service")
M1 = MachineId("m1")


async def begin() -> tuple[Registry, Leader]:
    """A cluster of one machine with a leader and one unit that is wanted."""
    registry = Registry(MemoryStore(), Keys())
    lease = await registry.store.grant(1000)
    await registry.register(Machine(id=M1), lease, over=0)
    leader = await registry.leadership.acquire(M1, lease)
    assert leader is not None
    await start(registry, "/bin/true")
    return registry, leader


async def start(
    registry: Registry, command: str, target: TargetState = TargetState.LAUNCHED
) -> None:
    file = parse_unit(f"[Service]\nExecStart={command}\n")
    await registry.apply([UnitChange(name=A, file=file, target=target)], by="test")


async def next_tasks(registry: Registry) -> tuple[Task, ...]:
    snapshot = await registry.store.read(*prefixes_of(registry.keys))
    view = View(registry.keys)
    view.update(snapshot.entries, None)
    return Planner(view.facts, SETTINGS).plan(EngineMemory(), 0.0).tasks


async def write(registry: Registry, leader: Leader, tasks: tuple[Task, ...]) -> None:
    since = (await registry.cluster()).latest_rows
    decisions = [decide(task, registry, leader) for task in tasks]
    await registry.leadership.commit(leader, decisions, since=since)


async def test_tasks_that_are_written_leave_nothing_to_do() -> None:
    registry, leader = await begin()
    steps = 0
    for command, target in [
        ("/bin/true", TargetState.LAUNCHED),
        ("/bin/false", TargetState.LAUNCHED),
        ("/bin/false", TargetState.LOADED),
        ("/bin/false", TargetState.INACTIVE),
    ]:
        await start(registry, command, target)
        tasks = await next_tasks(registry)
        steps += len(tasks)
        await write(registry, leader, tasks)
        assert await next_tasks(registry) == ()
    assert steps == 5  # place, update, drop the old file, update, remove


async def test_a_placement_is_told_with_its_reason() -> None:
    registry, leader = await begin()
    (task,) = await next_tasks(registry)
    await write(registry, leader, (task,))
    events = (await registry.store.read(registry.keys.events)).entries
    (told,) = [e.value.decode() for e in events.values() if "engine on m1" in e.value.decode()]
    assert task.reason in told


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(Delete("/fleet/units/a.service"), id="the unit is destroyed"),
        pytest.param(Put("/fleet/units/a.service", b"{}"), id="the unit is changed"),
        pytest.param(Put("/fleet/changes/rows", b""), id="another wrote rows"),
        pytest.param(Delete("/fleet/engine"), id="the leader is deposed"),
    ],
)
async def test_a_decision_about_something_that_changed_is_void(change: Put | Delete) -> None:
    registry, leader = await begin()
    tasks = await next_tasks(registry)
    since = (await registry.cluster()).latest_rows
    await registry.store.commit([], [change])
    before = rows_of(await registry.cluster())
    decisions = [decide(task, registry, leader) for task in tasks]
    with pytest.raises(Conflict):
        await registry.leadership.commit(leader, decisions, since=since)
    assert rows_of(await registry.cluster()) == before


async def test_a_file_that_is_used_again_meanwhile_is_not_dropped() -> None:
    registry, leader = await begin()
    await write(registry, leader, await next_tasks(registry))
    await start(registry, "/bin/false")
    update, drop = await next_tasks(registry)
    await write(registry, leader, (update,))
    await start(registry, "/bin/true")
    with pytest.raises(Conflict):
        await write(registry, leader, (drop,))
