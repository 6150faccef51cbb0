"""The plan for one machine: what is done, in what order, and that it always gets there."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import pytest

from agent.local import LocalUnit, Note, requirements_of
from agent.plan import Here, Kind, Plan, Task, missing_files, plan, start_order
from agent.systemd import SystemdState
from fleet.cluster import Assignment
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import text_digest
from fleet.states import TargetState
from fleet.unit import UnitFile, parse_unit

ME = Machine(id=MachineId("me"))
LAUNCHED, LOADED = TargetState.LAUNCHED, TargetState.LOADED
OLD = parse_unit("[Service]\nExecStart=/bin/old\n")
NEW = parse_unit("[Service]\nExecStart=/bin/new\n")
UNIT = UnitName("web.service")
RELOAD = "reload"


def row(
    file: UnitFile = OLD, target: TargetState = LAUNCHED, *, leaving: bool = False, unit: str = UNIT
) -> Assignment:
    return Assignment(
        unit=UnitName(unit),
        machine=ME.id,
        hash=file.hash,
        file=text_digest(file.text),
        target=target,
        leaving=leaving,
    )


def local(
    file: UnitFile | None = OLD,
    *,
    note: UnitFile | None = OLD,
    launched: bool = False,
    unit: str = UNIT,
) -> LocalUnit:
    name = UnitName(unit)
    noted = Note(hash=note.hash, launched=launched, job="done") if note else None
    if file is None:
        return LocalUnit(unit=name, note=noted)
    asked = requirements_of(name, file)
    return LocalUnit(unit=name, file=file, hash=file.hash, note=noted, requirements=asked)


def state(active: str = "inactive", load: str = "loaded", unit: str = UNIT) -> SystemdState:
    return SystemdState(unit=UnitName(unit), load=load, active=active)


def planned(
    wanted: Assignment | None,
    here: LocalUnit | None,
    systemd: SystemdState | None = None,
    *,
    files: tuple[UnitFile, ...] = (OLD, NEW),
    **more: Any,
) -> Plan:
    observed = Here(
        local={here.unit: here} if here else {},
        states={UNIT: systemd or state("inactive", "loaded" if here else "not-found")},
        **more,
    )
    desired = {wanted.unit: wanted} if wanted else {}
    return plan(desired, observed, files={text_digest(f.text): f for f in files}, machine=ME)


def kinds(made: Plan) -> list[str]:
    return [task.kind.value for task in made.tasks]


@pytest.mark.parametrize(
    ("wanted", "here", "systemd", "expected"),
    [
        pytest.param(None, None, None, [], id="nothing wanted, nothing here"),
        pytest.param(
            row(), None, None, ["write", "link", RELOAD, "start"], id="scheduled here, not loaded"
        ),
        pytest.param(
            row(target=LOADED), None, None, ["write", "link", RELOAD], id="only to be loaded"
        ),
        pytest.param(row(), local(), None, ["start"], id="loaded, to be launched"),
        pytest.param(row(target=LOADED), local(), None, [], id="loaded as wanted"),
        pytest.param(
            row(), local(launched=True), state("active"), [], id="launched as wanted and running"
        ),
        pytest.param(
            row(), local(launched=True), state("failed"), [], id="crashed: it stays as it is"
        ),
        pytest.param(
            row(), local(launched=True), state("inactive"), [], id="stopped by hand: it stays"
        ),
        pytest.param(
            row(target=LOADED),
            local(launched=True),
            state("active"),
            ["stop"],
            id="launched, to be loaded only",
        ),
        pytest.param(
            row(target=LOADED),
            local(launched=True),
            state("failed"),
            ["stop"],
            id="crashed, to be loaded only: it is noted as no longer launched",
        ),
        pytest.param(
            row(target=LOADED), local(), state("active"), [], id="started by others: left alone"
        ),
        pytest.param(None, local(launched=True), state("active"), ["stop"], id="gone but running"),
        pytest.param(None, local(), state("deactivating"), ["stop"], id="gone but still stopping"),
        pytest.param(
            None, local(launched=True), state(), ["unload", RELOAD], id="gone and stopped"
        ),
        pytest.param(None, local(), state("failed"), ["unload", RELOAD], id="gone and failed"),
        pytest.param(None, local(None), state(), ["unload", RELOAD], id="only a note is left"),
        pytest.param(
            row(NEW), local(launched=True), state("active"), ["stop"], id="new contents, running"
        ),
        pytest.param(
            row(NEW),
            local(launched=True),
            state(),
            ["write", "link", RELOAD, "start"],
            id="new contents, stopped by now",
        ),
        pytest.param(
            row(NEW, LOADED),
            local(),
            state(),
            ["write", "link", RELOAD],
            id="new contents, only to be loaded",
        ),
        pytest.param(
            row(), local(note=None), None, ["link", RELOAD, "start"], id="written but not linked"
        ),
        pytest.param(
            row(), local(note=NEW), None, ["link", RELOAD, "start"], id="rewritten but not reloaded"
        ),
        pytest.param(
            row(), local(), state(load="not-found"), ["link", RELOAD, "start"], id="link was lost"
        ),
        pytest.param(
            row(),
            local(None, launched=True),
            state("active"),
            ["write", "link", RELOAD],
            id="file was lost under what runs: it is put back, and nothing started",
        ),
        pytest.param(
            row(NEW),
            local(None, launched=True),
            state("active"),
            ["stop"],
            id="file was lost under what runs, and others are wanted",
        ),
        pytest.param(row(leaving=True), local(launched=True), state("active"), [], id="leaving"),
        pytest.param(
            row(NEW, LOADED, leaving=True), local(), None, [], id="leaving, all different"
        ),
        pytest.param(row(leaving=True), None, None, [], id="leaving and never here"),
    ],
)
def test_plan_for_one_unit(
    wanted: Assignment | None,
    here: LocalUnit | None,
    systemd: SystemdState | None,
    expected: list[str],
) -> None:
    assert kinds(planned(wanted, here, systemd)) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param({"stopping": frozenset({UNIT})}, [], id="its stop is under way"),
        pytest.param({"resting": frozenset({UNIT})}, [], id="it failed a moment ago"),
        pytest.param({"starting": frozenset({UNIT})}, ["stop"], id="its start is under way"),
    ],
)
def test_unit_that_goes_is_left_alone_while_busy(
    more: dict[str, frozenset[UnitName]], expected: list[str]
) -> None:
    assert kinds(planned(None, local(), state(), files=(OLD, NEW), **more)) == expected


def test_start_under_way_is_not_repeated() -> None:
    assert kinds(planned(row(), local(), state(), starting=frozenset({UNIT}))) == []


def test_unit_that_the_fence_stopped_starts_again_or_is_noted_as_stopped() -> None:
    for target, expected in ((LAUNCHED, ["start"]), (LOADED, ["stop"])):
        here = local(launched=True)
        made = planned(row(target=target), here, lease="1", fallen=frozenset({here.unit}))
        assert kinds(made) == expected


def test_contents_that_are_not_at_hand_stop_nothing() -> None:
    made = planned(row(NEW), local(launched=True), state("active"), files=(OLD,))

    assert kinds(made) == []
    assert made.refused == {UNIT}
    assert "does not have its contents" in made.held[UNIT]


def test_foreign_unit_is_refused() -> None:
    made = planned(row(), None, state("active"), foreign={UNIT: "/lib/systemd/system/web.service"})

    assert kinds(made) == []
    assert made.refused == {UNIT}
    assert "/lib/systemd/system/web.service" in made.held[UNIT]


def test_foreign_unit_is_never_stopped() -> None:
    made = planned(None, local(note=None), state("active"), foreign={UNIT: "/etc/web.service"})

    assert kinds(made) == ["unload", RELOAD]


def test_every_task_has_a_reason() -> None:
    for wanted, here, active in product((None, row(), row(NEW)), (None, local()), ("active", "")):
        for task in planned(wanted, here, state(active)).tasks:
            assert task.reason, task


def test_tasks_are_in_the_one_order_of_kinds() -> None:
    names = [UnitName(f"{letter}.service") for letter in "abcd"]
    desired = {name: row(unit=name) for name in names[:2]}
    desired[names[1]] = row(NEW, unit=names[1])
    here = Here(
        local={name: local(launched=True, unit=name) for name in names[1:]},
        states={name: state("active" if name != names[3] else "inactive") for name in names},
    )
    made = plan(desired, here, files={text_digest(f.text): f for f in (OLD, NEW)}, machine=ME)

    assert [(task.kind, task.unit) for task in made.tasks] == [
        (Kind.STOP, names[1]),
        (Kind.STOP, names[2]),
        (Kind.UNLOAD, names[3]),
        (Kind.WRITE, names[0]),
        (Kind.LINK, names[0]),
        (Kind.RELOAD, None),
        (Kind.START, names[0]),
    ]


@pytest.mark.parametrize(
    ("mine", "theirs", "theirs_active", "starts"),
    [
        pytest.param("", "", "active", True, id="nothing between them"),
        pytest.param(
            "Conflicts=old.service", "", "active", False, id="it conflicts with the other"
        ),
        pytest.param(
            "", "Conflicts=new.*", "deactivating", False, id="the other conflicts with it"
        ),
        pytest.param("Replaces=old.service", "", "active", False, id="it replaces the other"),
        pytest.param("Conflicts=old.service", "", "inactive", True, id="the other has stopped"),
        pytest.param("MachineOf=gone.service", "", "active", True, id="attraction is the engine's"),
    ],
)
@pytest.mark.parametrize("leaving", [False, True])
def test_start_waits_for_what_repels_it(
    mine: str, theirs: str, theirs_active: str, starts: bool, leaving: bool
) -> None:
    old, new = UnitName("old.service"), UnitName("new.service")
    files = [parse_unit(f"{OLD.text}\n[X-Fleet]\n{line}\n") for line in (theirs, mine)]
    here = Here(
        local={old: local(files[0], note=files[0], launched=True, unit=old)},
        states={old: state(theirs_active, unit=old), new: state(load="not-found", unit=new)},
    )
    desired = {new: row(files[1], unit=new)}
    if leaving:
        desired[old] = row(files[0], unit=old, leaving=True)
    made = plan(desired, here, files={text_digest(files[1].text): files[1]}, machine=ME)

    assert (Kind.START in {task.kind for task in made.tasks}) is starts
    assert Kind.WRITE in {task.kind for task in made.tasks}
    assert (new in made.held) is not starts
    assert not made.refused


def test_only_files_that_are_to_be_written_are_fetched() -> None:
    here = Here(local={UNIT: local()})

    assert missing_files({UNIT: row()}, here) == frozenset()
    assert missing_files({UNIT: row(NEW)}, here) == {text_digest(NEW.text)}
    assert missing_files({UNIT: row(NEW, leaving=True)}, here) == frozenset()


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param({"b": [], "a": []}, ("a", "b"), id="by name where nothing is said"),
        pytest.param({"a": ["b"], "b": []}, ("b", "a"), id="what others come after goes first"),
        pytest.param({"a": ["x"], "b": []}, ("a", "b"), id="units that are elsewhere count not"),
        pytest.param({"a": ["b"], "b": ["a"]}, ("a", "b"), id="a circle is left as it is"),
    ],
)
def test_start_order(after: dict[str, list[str]], expected: tuple[str, ...]) -> None:
    assert start_order({UnitName(k): v for k, v in after.items()}) == expected


def test_starts_are_ordered_by_dependency() -> None:
    files = {"a": parse_unit("[Unit]\nAfter=network.target b.service\n[Service]\n"), "b": OLD}
    desired = {UnitName(f"{k}.service"): row(f, unit=f"{k}.service") for k, f in files.items()}
    made = plan(desired, Here(), files={text_digest(f.text): f for f in files.values()}, machine=ME)

    assert [task.unit for task in made.tasks if task.kind is Kind.START] == [
        "b.service",
        "a.service",
    ]


# Every plan, interrupted after every step, made anew from what is there then.


@dataclass
class World:
    """A machine as plans see it: files and notes, and what systemd runs. `reads` is its memory."""

    file: UnitFile | None = None
    note: Note | None = None
    linked: bool = False
    reads: UnitFile | None = None
    active: str = "inactive"
    runs: UnitFile | None = None
    starts: list[str] = field(default_factory=list)

    def here(self) -> Here:
        at_all = self.file is not None or self.note is not None
        unit = replace(local(self.file, note=None), note=self.note)
        load = "loaded" if self.linked and self.file else "not-found"
        return Here(local={UNIT: unit} if at_all else {}, states={UNIT: state(self.active, load)})

    def do(self, task: Task, contents: UnitFile | None) -> None:
        match task.kind:
            case Kind.STOP:
                self.active, self.runs = "inactive", None
                if self.note:
                    self.note = replace(self.note, launched=False)
            case Kind.UNLOAD:
                assert self.active == "inactive", "a live unit's file is never removed"
                self.file, self.note, self.linked = None, None, False
            case Kind.WRITE:
                assert contents is not None
                if self.file is not None:
                    assert self.active == "inactive", "a live unit's file is never replaced"
                if self.note and self.note.hash != contents.hash:
                    self.note = None
                self.file = contents
            case Kind.LINK:
                self.linked = True
            case Kind.RELOAD:
                self.reads = self.file
                if (
                    self.file
                    and self.linked
                    and (not self.note or self.note.hash != self.file.hash)
                ):
                    self.note = Note(hash=self.file.hash)
            case Kind.START:
                assert self.note
                self.active, self.runs = "active", self.reads
                self.starts.append(self.note.hash)
                self.note = replace(self.note, launched=True)


def worlds() -> list[World]:
    made = []
    for file, noted, launched in product((None, OLD), (None, OLD, NEW), (False, True)):
        for active in ("inactive", "active"):
            note = Note(hash=noted.hash, launched=launched) if noted else None
            runs = file if active == "active" else None
            linked = note is not None or active == "active"
            made.append(
                World(file=file, note=note, linked=linked, reads=file, active=active, runs=runs)
            )
    return made


WANTED: Mapping[str, Assignment | None] = {
    "nothing": None,
    "loaded": row(target=LOADED),
    "launched": row(),
    "new contents, loaded": row(NEW, LOADED),
    "new contents, launched": row(NEW),
}


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED.keys())
@pytest.mark.parametrize("stop_after", range(6))
def test_interrupted_plan_comes_to_the_same_end(wanted: Assignment | None, stop_after: int) -> None:
    contents = None if wanted is None else (NEW if wanted.hash == NEW.hash else OLD)
    for world in worlds():
        for interruption in (stop_after, None, None, None, None):
            tasks = planned_in(world, wanted).tasks
            for task in tasks[:interruption]:
                world.do(task, contents)

        assert planned_in(world, wanted).tasks == ()
        assert world.file == contents
        assert len(world.starts) == len(set(world.starts)), "nothing is started twice"
        if wanted is not None and wanted.target is LAUNCHED:
            assert world.note is not None
            assert world.note.launched


def planned_in(world: World, wanted: Assignment | None) -> Plan:
    desired = {UNIT: wanted} if wanted else {}
    return plan(
        desired,
        world.here(),
        files={text_digest(f.text): f for f in (OLD, NEW)},
        machine=ME,
    )
