"""Moves as they are written: under guards, for the leader, and carried on by a real engine."""

import itertools
import json
from collections.abc import Awaitable, Callable

import pytest

from engine.apply import decide
from engine.moving import Rebalancer
from engine.rebalancing import MOST_TOGETHER
from engine.tasks import Task, TaskKind
from fleet.cluster import Assignment, Cluster, Leader, encode_leader
from fleet.errors import Conflict
from fleet.hold import Hold, encode_hold
from fleet.keys import Keys
from fleet.machine import Cordon, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState
from fleet.store.port import Delete, Put, Store
from tests.unit.engine.scene import Scene, scene
from tests.unit.engine.worlds import planned

M1, M2 = MachineId("m1"), MachineId("m2")
KEYS = Keys()
NAMES = ("a.service", "b.service", "c.service", "d.service")
ALL_ON_M1 = {f"{name}@m1" for name in NAMES}
ROOT = "root@box"

Deed = Callable[[Scene], Awaitable[object]]


class Overtaken(Registry):
    """A registry to whose every look something happens right after, as often as that is asked."""

    def __init__(self, store: Store, deed: Callable[[], Awaitable[object]], *, times: int) -> None:
        super().__init__(store, KEYS)
        self._deed = deed
        self._times = times
        self.looks = 0

    async def cluster(self) -> Cluster:
        self.looks += 1
        seen = await super().cluster()
        if self._times:
            self._times -= 1
            await self._deed()
        return seen


async def crowd(town: Scene, *names: str) -> None:
    """These units run on m1, and then m2 joins."""
    for name in names or NAMES:
        await town.start(name)
    await town.until_rows(*(f"{name}@m1" for name in names or NAMES))
    for name in names or NAMES:
        await town.report_up(name, "m1")
    await town.add_machine("m2")


async def test_moves_are_made_by_an_engine_that_takes_the_old_rows_away_once_units_are_up() -> None:
    async with scene("m1") as town:
        await crowd(town)
        made = await Rebalancer(town.registry).rebalance(10, by=ROOT)
        assert [(u.name, u.was, u.machines) for u in made.units] == [
            ("a.service", (M1,), (M2,)),
            ("b.service", (M1,), (M2,)),
        ]
        moving = {f"{name}@m1 leaving" for name in NAMES[:2]} | {f"{n}@m2" for n in NAMES[:2]}
        assert await town.rows() == moving | {f"{name}@m1" for name in NAMES[2:]}
        await town.report_up("a.service", "m2")
        await town.until_rows(
            *("a.service@m2", "b.service@m1 leaving", "b.service@m2"),
            *("c.service@m1", "d.service@m1"),
        )
        assert (await Rebalancer(town.registry).rebalance(10, by=ROOT)).units == ()


async def test_history_tells_of_a_move_with_its_reason_and_who_asked() -> None:
    async with scene("m1") as town:
        await crowd(town)
        await Rebalancer(town.registry).rebalance(1, by=ROOT)
        history = await town.registry.events(2, unit=UnitName("a.service"))
        leaves, comes = (event.what for event in history.events)
        reason = "machine m1 has 4 units; machine m2 suits it and has the fewest units, 0 units"
        assert comes == f"place on m2: {reason}; rebalance asked for by {ROOT}"
        assert leaves.startswith(f"leave on m1: {reason}; rebalance asked for by {ROOT}; it stays")


async def test_no_more_moves_than_asked_for_are_made_and_none_when_they_are_only_foreseen() -> None:
    async with scene("m1") as town:
        await crowd(town)
        before = await town.rows()
        assert len((await Rebalancer(town.registry).foresee(1)).units) == 1
        assert await town.rows() == before
        assert len((await Rebalancer(town.registry).rebalance(1, by=ROOT)).units) == 1


async def test_more_moves_than_fit_into_a_transaction_are_all_made() -> None:
    async with scene("m1") as town:
        names = tuple(f"u{number:03}.service" for number in range(120))
        await crowd(town, *names)
        foreseen = await Rebalancer(town.registry).foresee(100)
        made = await Rebalancer(town.registry).rebalance(100, by=ROOT)
        assert [unit.name for unit in made.units] == [unit.name for unit in foreseen.units]
        assert len(made.units) == 60
        assert sum(row.endswith(" leaving") for row in await town.rows()) == 60


async def test_largest_pack_that_moves_fits_into_a_transaction() -> None:
    async with scene("m1") as town:
        pack = [f"p{number:03}.service" for number in range(MOST_TOGETHER)]
        others = [f"u{number:03}.service" for number in range(MOST_TOGETHER + 2)]
        await town.start(pack[0])
        for name in pack[1:]:
            await town.start(name, f"MachineOf={pack[0]}")
        for name in others:
            await town.start(name, "MachineID=m1")
        await town.until_rows(*(f"{name}@m1" for name in (*pack, *others)))
        for name in (*pack, *others):
            await town.report_up(name, "m1")
        await town.add_machine("m2")
        made = await Rebalancer(town.registry).rebalance(MOST_TOGETHER, by=ROOT)
        assert [unit.name for unit in made.units] == pack


async def _change_another_unit(town: Scene) -> None:
    await town.start("other.service", "MachineMetadata=disk=tape")


async def _destroy_a_unit(town: Scene) -> None:
    await town.registry.destroy(UnitName("a.service"), by="alice")


async def _stop_a_unit(town: Scene) -> None:
    change = UnitChange(name=UnitName("a.service"), target=TargetState.LOADED)
    await town.registry.apply([change], by="alice")


async def _cordon_the_new_machine(town: Scene) -> None:
    await town.registry.cordon(M2, Cordon(by="alice"))


async def _describe_the_new_machine_otherwise(town: Scene) -> None:
    entry = await town.registry.machine_entry(M2)
    assert entry is not None
    other = json.dumps(json.loads(entry.value) | {"metadata": {"disk": "hdd"}}).encode()
    await town.store.commit([], [Put(KEYS.machine(M2), other, entry.lease)])


async def _lose_the_new_machine(town: Scene) -> None:
    entry = await town.registry.machine_entry(M2)
    assert entry is not None
    assert entry.lease is not None
    town.kill_machine("m2")
    await town.store.revoke(entry.lease)


async def _change_the_leader(town: Scene) -> None:
    await town.store.commit([], [Delete(KEYS.engine)])
    await town.store.commit([], [Put(KEYS.engine, encode_leader(M2))])


async def _move_the_unit_first(town: Scene) -> None:
    await Rebalancer(town.registry).rebalance(1, by="alice")


@pytest.mark.parametrize(
    ("deed", "moved"),
    [
        pytest.param(_change_another_unit, ["a", "b"], id="another unit is changed"),
        pytest.param(_destroy_a_unit, ["b"], id="a unit is destroyed"),
        pytest.param(_stop_a_unit, ["b", "c"], id="a unit is stopped"),
        pytest.param(_cordon_the_new_machine, [], id="the new machine is cordoned"),
        pytest.param(
            _describe_the_new_machine_otherwise, ["a", "b"], id="the new machine is another"
        ),
        pytest.param(_lose_the_new_machine, [], id="the new machine is lost"),
        pytest.param(_change_the_leader, ["a", "b"], id="another engine leads"),
        pytest.param(_move_the_unit_first, ["b"], id="somebody else rebalances"),
    ],
)
async def test_moves_of_a_cluster_that_has_changed_are_not_written_but_found_anew(
    deed: Deed, moved: list[str]
) -> None:
    async with scene("m1", engines=False) as town:
        lease = await town.lead_idly()
        await _place_all(town)
        seen: list[set[str]] = []

        async def overtake() -> None:
            await deed(town)
            seen.append(await town.rows())

        hasty = Overtaken(town.store.connect(), overtake, times=1)
        made = await Rebalancer(hasty).rebalance(10, by=ROOT)
        assert [unit.name for unit in made.units] == [f"{name}.service" for name in moved]
        assert seen[0] - await town.rows() == {f"{name}.service@m1" for name in moved}
        # The first look was in vain, and the last one finds no more.
        assert hasty.looks == (3 if moved else 2)
        await town.store.revoke(lease)


async def test_nothing_is_moved_of_a_cluster_that_changes_all_the_time() -> None:
    async with scene("m1", engines=False) as town:
        await town.lead_idly()
        await _place_all(town)
        numbers = itertools.count()
        busy = Overtaken(
            town.store.connect(), lambda: town.start(f"other{next(numbers)}.service"), times=99
        )
        with pytest.raises(Conflict, match="changes all the time, and nothing is moved"):
            await Rebalancer(busy).rebalance(10, by=ROOT)
        assert await town.rows() == ALL_ON_M1


async def test_nothing_is_moved_without_a_leader_or_while_vanished_machines_are_held() -> None:
    async with scene("m1", engines=False) as town:
        await _place_all(town)
        with pytest.raises(Conflict, match="no engine leads the cluster, so nothing is moved"):
            await Rebalancer(town.registry).rebalance(10, by=ROOT)
        await town.lead_idly()
        hold = Hold(machines=frozenset({MachineId("m9")}), until_s=1e12, reason="many are gone")
        await town.store.commit([], [Put(KEYS.hold, encode_hold(hold))])
        with pytest.raises(Conflict, match="machines that vanished are held"):
            await Rebalancer(town.registry).rebalance(10, by=ROOT)
        assert await town.rows() == ALL_ON_M1


async def _start_a_rival(town: Scene) -> tuple[Leader, list[Task]]:
    """All units run on m1, and one that `a` must not meet is wanted, too.

    Its place, as the leader has just planned it, is m2, which has joined.
    """
    await town.lead_idly()
    await _place_all(town)
    await town.start("x.service", "Conflicts=a.service")
    cluster = await town.registry.cluster()
    assert cluster.leader is not None
    tasks = [task for task in planned(cluster).tasks if task.unit == "x.service"]
    assert [(task.kind, task.machine) for task in tasks] == [(TaskKind.PLACE, M2)]
    return cluster.leader, tasks


async def test_leader_that_has_planned_before_a_move_looks_again() -> None:
    async with scene("m1", engines=False) as town:
        leader, tasks = await _start_a_rival(town)
        seen = (await town.registry.cluster()).latest_rows
        await Rebalancer(town.registry).rebalance(1, by=ROOT)
        assert "a.service@m2" in await town.rows()
        decisions = [decide(task, town.registry, leader) for task in tasks]
        with pytest.raises(Conflict):
            await town.registry.leadership.commit(leader, decisions, since=seen)
        assert "x.service@m2" not in await town.rows()


async def test_move_that_was_found_before_the_leader_wrote_is_found_anew() -> None:
    async with scene("m1", engines=False) as town:
        leader, tasks = await _start_a_rival(town)

        async def write() -> None:
            seen = (await town.registry.cluster()).latest_rows
            decisions = [decide(task, town.registry, leader) for task in tasks]
            await town.registry.leadership.commit(leader, decisions, since=seen)

        overtaken = Overtaken(town.store.connect(), write, times=1)
        made = await Rebalancer(overtaken).rebalance(1, by=ROOT)
        assert [unit.name for unit in made.units] == ["b.service"]
        assert {"x.service@m2", "b.service@m2", "a.service@m1"} <= await town.rows()


async def _place_all(town: Scene) -> None:
    """All units run on m1, without an engine that would say so, and m2 has joined."""
    for name in NAMES:
        await town.start(name)
    units = (await town.registry.cluster()).units.values()
    rows = [
        town.registry.assignment_put(
            Assignment(unit=u.name, machine=M1, hash=u.hash, file=u.file, target=u.target)
        )
        for u in units
    ]
    await town.store.commit([], rows)
    for name in NAMES:
        await town.report_up(name, "m1")
    await town.add_machine("m2")
