"""Any sequence of what operators, machines and the store do to a town of three machines.

The engines, agents, heartbeats and fences are the real ones; systemd and the store are in memory,
on a virtual clock, and the store is troubled.
"""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fleet.names import UnitName
from fleet.options import fleet_options, read_requirements
from fleet.registry import UnitChange
from fleet.states import TargetState
from fleet.testing.loop import VirtualLoop
from fleet.unit import UnitFile, parse_unit
from tests.unit.town.boxes import Box
from tests.unit.town.gates import gated_tasks
from tests.unit.town.town import Town
from tests.unit.town.troubled import Fate, Mood

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3600)]

UNITS = tuple(UnitName(f"{name}.service") for name in ("a", "b", "c", "w@1", "w@2"))
SHAPES = (
    (),
    ("Global=true",),
    ("Fenced=true",),
    ("Fenced=true", "Conflicts=a.service"),
    ("Conflicts=b.service",),
    ("MachineOf=a.service",),
    ("MachineMetadata=role=x",),
    ("Replaces=b.service",),
    ("MaxUnavailable=1",),
    ("Global=true", "MaxUnavailable=1"),
)

units = st.sampled_from(UNITS)
goals = st.sampled_from((*[TargetState.LAUNCHED] * 3, TargetState.LOADED, TargetState.INACTIVE))
boxes = st.integers(0, 2)
troubles = st.sampled_from([mood for mood in Mood if mood is not Mood.WELL])
fates = st.lists(st.sampled_from(list(Fate)), min_size=1, max_size=4)


def file_of(shape: tuple[str, ...], version: int, stop_s: int) -> UnitFile:
    lines = ["[Service]", "ExecStart=/bin/sleep infinity", f"Environment=V={version}"]
    lines += [f"ExecStop=/bin/sleep {stop_s}"] if stop_s else []
    return parse_unit("\n".join([*lines, "TimeoutStopSec=4", "[X-Fleet]", *shape]))


files = st.builds(file_of, st.sampled_from(SHAPES), st.integers(1, 2), st.sampled_from((0, 0, 3)))


class TownModel(RuleBasedStateMachine):
    """One town, from its foundation to its peace."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._runner = asyncio.Runner(loop_factory=VirtualLoop)
        self._runner.get_loop().set_task_factory(gated_tasks)
        self._town: Town = self._run(self._found())
        self._store_mood = Mood.WELL

    async def _found(self) -> Town:
        town = Town(Path(self._folder.name))
        await asyncio.sleep(5)
        return town

    def _run(self, coroutine: Coroutine[Any, Any, Any], then_s: float = 0.3) -> Any:
        async def and_then() -> Any:
            result = await coroutine
            await asyncio.sleep(then_s)
            return result

        return self._runner.run(and_then())

    def _pass(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))

    def _box(self, number: int) -> Box:
        return self._town.boxes[number]

    # Operators

    @initialize(shapes=st.lists(files, min_size=len(UNITS), max_size=len(UNITS)))
    def settle_down(self, shapes: list[UnitFile]) -> None:
        for unit, file in zip(UNITS, shapes, strict=True):
            self.write(unit, file, TargetState.LAUNCHED)
        self._pass(8.0)

    @rule(unit=units, file=files, goal=goals)
    def write(self, unit: UnitName, file: UnitFile, goal: TargetState) -> None:
        self._town.asked[file.hash] = read_requirements(fleet_options(file), unit)
        self._run(self._town.ask(UnitChange(name=unit, file=file, target=goal)))

    @rule(unit=units, goal=goals)
    def set_target(self, unit: UnitName, goal: TargetState) -> None:
        self._run(self._town.ask(UnitChange(name=unit, target=goal)))

    @rule(unit=units)
    def destroy(self, unit: UnitName) -> None:
        self._run(self._town.ask(UnitChange(name=unit, destroy=True)))

    @rule(box=boxes, drain=st.booleans())
    def cordon(self, box: int, drain: bool) -> None:
        self._run(self._town.cordon(self._box(box), drain=drain))

    @rule(box=boxes)
    def uncordon(self, box: int) -> None:
        self._run(self._town.uncordon(self._box(box)))

    @rule()
    def rebalance(self) -> None:
        self._run(self._town.rebalance())

    # Machines

    @rule(box=boxes)
    def cut_the_power(self, box: int) -> None:
        if self._box(box).is_on:
            self._run(self._do(self._box(box).power_off))

    @rule(box=boxes)
    def power_on(self, box: int) -> None:
        if not self._box(box).is_on:
            self._run(self._do(self._box(box).power_on))

    @rule(box=boxes, gracefully=st.booleans(), away_s=st.sampled_from((0.0, 1.0, 10.0)))
    def restart_fleetd(self, box: int, gracefully: bool, away_s: float) -> None:
        machine = self._box(box)
        if not machine.is_on:
            return
        if gracefully:
            machine.fleetd.gate.open()
            self._run(machine.fleetd.end(), away_s)
        else:
            self._run(self._do(machine.kill_fleetd), away_s)
        self._run(self._do(machine.restart_fleetd))

    @rule(box=boxes)
    def freeze(self, box: int) -> None:
        self._run(self._do(self._box(box).fleetd.gate.shut))

    @rule()
    def freeze_the_leader(self) -> None:
        def freeze() -> None:
            for box in self._town.boxes:
                if box.fleetd.engine.is_leading:
                    box.fleetd.gate.shut()

        self._run(self._do(freeze))

    @rule(box=boxes)
    def thaw(self, box: int) -> None:
        if self._box(box).is_on:
            self._run(self._do(self._box(box).thaw))

    # The store

    @rule(box=boxes, mood=troubles, which=st.sampled_from(("main", "beat", "both")))
    def cut_off(self, box: int, mood: Mood, which: str) -> None:
        self._run(self._do(lambda: self._set(box, mood, which)))

    def _set(self, box: int, mood: Mood, which: str) -> None:
        fleetd = self._box(box).fleetd
        if not self._box(box).is_on:
            return
        for name, line in (("main", fleetd.main), ("beat", fleetd.beat)):
            if which in (name, "both"):
                line.be(mood)

    @rule(box=boxes)
    def heal(self, box: int) -> None:
        self._run(self._do(lambda: self._set(box, self._store_mood, "both")))

    @rule(box=boxes, fates=fates, beat=st.booleans())
    def have_requests_go_wrong(self, box: int, fates: list[Fate], beat: bool) -> None:
        fleetd = self._box(box).fleetd
        (fleetd.beat if beat else fleetd.main).fates.extend(fates)
        self._pass(2.0)

    @rule(fate=st.sampled_from((Fate.LOST, Fate.UNANSWERED)))
    def have_an_operator_unanswered(self, fate: Fate) -> None:
        self._town.hands.fates.append(fate)

    @rule(box=boxes)
    def end_watches(self, box: int) -> None:
        self._run(self._do(self._box(box).fleetd.main.end_watches))

    @rule()
    def compact(self) -> None:
        self._run(self._do(self._town.store.compact))

    @precondition(lambda self: self._store_mood is Mood.WELL)
    @rule(mood=troubles)
    def store_goes(self, mood: Mood) -> None:
        self._set_all(mood)

    @precondition(lambda self: self._store_mood is not Mood.WELL)
    @rule()
    def store_returns(self) -> None:
        self._set_all(Mood.WELL)

    def _set_all(self, mood: Mood) -> None:
        self._store_mood = mood

        async def everywhere() -> None:
            self._town.hands.be(mood)
            for box in range(3):
                self._set(box, mood, "both")

        self._run(everywhere())

    async def _do(self, deed: Any) -> None:
        deed()
        for box in self._town.boxes:  # also of a fleetd that is new
            for line in box.fleetd.lines:
                if box.is_on and line.mood is Mood.WELL:
                    line.be(self._store_mood)

    # Time

    @rule(seconds=st.sampled_from((1.0, 3.0, 6.0, 12.0)))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    @rule()
    def a_long_time_passes(self) -> None:
        self._pass(45.0)

    @rule()
    def peace(self) -> None:
        self._store_mood = Mood.WELL
        self._run(self._town.peace())

    @invariant()
    def nothing_has_happened_that_must_not(self) -> None:
        assert self._town.violations == []

    def teardown(self) -> None:
        try:
            if not self._town.violations:
                self.peace()
                self.nothing_has_happened_that_must_not()
        finally:
            self._run(self._town.close())
            self._runner.close()
            self._folder.cleanup()


def test_town_keeps_its_promises_whatever_happens() -> None:
    bounds = settings(max_examples=max(10, settings().max_examples // 4), stateful_step_count=25)
    run_state_machine_as_test(TownModel, settings=bounds)
