"""The rules of scheduling, each as a small cluster and the plan it gives."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.losses import EngineMemory
from engine.plan import plan
from engine.tasks import Task, TaskKind
from fleet.cluster import Cluster, Refusal, UnitRecord
from fleet.names import UnitName
from tests.unit.engine.worlds import (
    SETTINGS,
    all_up,
    carried_out,
    homes_of,
    machine,
    planned,
    reasons_of,
    rows_of,
    settled,
    unit,
    with_machines,
    with_rows,
    with_units,
    without_machines,
    without_units,
    world,
)

A, B = "a.service", "b.service"


def kinds_of(tasks: tuple[Task, ...]) -> list[str]:
    return [f"{task.kind} {task.unit or task.digest}" for task in tasks]


# Placing


def test_units_go_to_the_least_loaded_machine_and_ties_to_the_lowest_id() -> None:
    units = [unit(f"u{n}.service", revision=n) for n in range(5)]
    after = settled(world(["m3", "m1", "m2"], units))
    homes = {name: where for name, (where,) in homes_of(after).items()}
    assert homes == {
        "u0.service": "m1",
        "u1.service": "m2",
        "u2.service": "m3",
        "u3.service": "m1",
        "u4.service": "m2",
    }


def test_the_plan_does_not_depend_on_the_order_of_anything() -> None:
    units = [
        unit(f"u{n}.service", *options, revision=1)
        for n, options in enumerate([(), ("Conflicts=u*",), ("MachineOf=u0.service",), ()])
    ]
    one = planned(world(["m1", "m2", "m3"], units))
    other = planned(world(["m3", "m2", "m1"], reversed(units)))
    assert one.tasks == other.tasks


def test_an_inactive_unit_is_not_placed_and_not_refused() -> None:
    after = settled(world(["m1"], [unit(A, target="inactive")]))
    assert (rows_of(after), after.refusals) == (set(), {})


def test_a_template_is_never_placed_and_says_so() -> None:
    after = settled(world(["m1"], [unit("web@.service")]))
    assert rows_of(after) == set()
    assert "template" in reasons_of(after, "web@.service")[""]


def test_a_unit_with_a_problem_is_refused_with_it() -> None:
    broken = replace(unit(A), problem="line 3: this is malformed")
    after = settled(world(["m1"], [broken]))
    assert reasons_of(after, A) == {"": "line 3: this is malformed"}


def test_a_unit_with_a_problem_stays_where_it_runs() -> None:
    before = with_rows(world(["m1"], [unit(A)]), "a.service@m1")
    broken = replace(unit(A, revision=2, version="2"), problem="this is malformed")
    assert kinds_of(planned(with_units(before, broken)).tasks) == ["refuse a.service"]


def test_without_machines_everything_is_refused() -> None:
    after = settled(world([], [unit(A), unit(B, "Global=true")]))
    for name in (A, B):
        assert reasons_of(after, name) == {"": "there are no machines in the cluster"}


def test_a_refusal_names_each_machine_and_goes_when_one_suits() -> None:
    asking = unit(A, "MachineMetadata=disk=ssd")
    cluster = settled(world([machine("m1"), machine("m2", disk="hdd")], [asking]))
    assert reasons_of(cluster, A) == {
        "m1": "the unit asks for metadata disk=ssd, the machine has no disk",
        "m2": "the unit asks for metadata disk=ssd, the machine has disk=hdd",
    }
    after = settled(with_machines(cluster, machine("m3", disk="ssd")))
    assert (rows_of(after), after.refusals) == ({"a.service@m3"}, {})


# Rows that follow the unit


def test_new_contents_and_a_new_target_are_written_in_place() -> None:
    before = with_rows(world(["m1", "m2"], [unit(A)]), "a.service@m2")
    renewed = with_units(before, unit(A, version="2", target="loaded", revision=2))
    (task,) = planned(renewed).tasks
    assert task.kind is TaskKind.UPDATE
    assert task.reason == "its contents are new and its target state is now loaded"
    assert task.row is not None
    assert (task.row.machine, task.row.hash, task.row.target) == ("m2", "hash-2", "loaded")


def test_new_comments_alone_are_not_called_new_contents() -> None:
    before = with_rows(world(["m1"], [unit(A)]), "a.service@m1")
    reworded = replace(before.units[UnitName(A)], file="other-words", revision=2)
    (task,) = planned(with_units(before, reworded)).tasks
    assert (task.kind, task.reason) == (TaskKind.UPDATE, "only its comments are new")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda c: without_units(c, A), "the unit was destroyed", id="destroyed"),
        pytest.param(
            lambda c: with_units(c, unit(A, target="inactive", revision=2)),
            "its target state is inactive",
            id="made inactive",
        ),
    ],
)
def test_an_unwanted_unit_loses_all_its_rows(
    change: Callable[[Cluster], Cluster], reason: str
) -> None:
    before = with_rows(
        world(["m1", "m2"], [unit(A)]), "a.service@m1", "a.service@m2 leaving", "a.service@gone"
    )
    tasks = planned(change(before)).tasks
    assert kinds_of(tasks) == ["remove a.service"] * 3
    assert {task.reason for task in tasks} == {reason}


def test_refusals_of_unwanted_units_are_cleared() -> None:
    before = world(["m1"], [unit(A, target="inactive")])
    refused = {UnitName(name): Refusal(unit=UnitName(name), reasons={"": "x"}) for name in (A, B)}
    tasks = planned(replace(before, refusals=refused)).tasks
    assert kinds_of(tasks) == ["clear refusal a.service", "clear refusal b.service"]


def test_files_that_nothing_names_are_dropped_unless_something_cannot_be_read() -> None:
    before = with_rows(world(["m1"], [unit(A)]), "a.service@m1")
    before = replace(before, files={"file-a.service-1": 5, "old": 7})
    (task,) = planned(before).tasks
    assert (task.kind, task.digest, task.unit_revision) == (TaskKind.DROP_FILE, "old", 7)
    assert planned(replace(before, problems=("x holds a malformed value",))).tasks == ()
    assert planned(replace(before, uploading=True)).tasks == ()
    assert planned(replace(before, kept_files=frozenset({"old"}))).tasks == ()


def test_files_that_nothing_names_stay_a_while_and_go_together() -> None:
    settings = replace(SETTINGS, file_stay_s=5.0)
    before = with_rows(world(["m1"], [unit(A)]), "a.service@m1")
    before = replace(before, files={"file-a.service-1": 5, "old": 7})
    first = plan(before, EngineMemory(), 100.0, settings)
    assert (first.tasks, first.wake_at_s) == ((), 105.0)

    more = replace(before, files={**before.files, "older": 6})
    second = plan(more, first.memory, 104.0, settings)
    assert (second.tasks, second.wake_at_s) == ((), 105.0)
    third = plan(more, second.memory, 105.0, settings)
    assert [task.digest for task in third.tasks] == ["old", "older"]

    named = plan(replace(before, files={"file-a.service-1": 5}), second.memory, 104.0, settings)
    assert (named.wake_at_s, named.memory.drop_files_at_s) == (None, None)


# Conflicts


def test_five_conflicting_units_on_three_machines_run_three_times() -> None:
    units = [unit(f"c{n}.service", "Conflicts=c*.service", revision=n) for n in range(5)]
    after = settled(world(["m1", "m2", "m3"], units))
    assert homes_of(after) == {
        "c0.service": ["m1"],
        "c1.service": ["m2"],
        "c2.service": ["m3"],
    }
    assert reasons_of(after, "c4.service") == {
        f"m{n + 1}": f"it conflicts with c{n}.service here (Conflicts=c*.service)" for n in range(3)
    }


def test_a_one_way_conflict_blocks_the_other_unit_until_it_is_destroyed() -> None:
    cluster = settled(world(["m1"], [unit(A, "Conflicts=b.service"), unit(B, revision=2)]))
    assert homes_of(cluster) == {A: ["m1"]}
    assert reasons_of(cluster, B) == {
        "m1": "a.service here conflicts with it (Conflicts=b.service)"
    }
    assert homes_of(settled(without_units(cluster, A))) == {B: ["m1"]}


def test_of_two_placed_units_the_one_changed_last_yields_and_stops_at_once() -> None:
    before = with_rows(world(["m1", "m2"], [unit(A), unit(B)]), "a.service@m1", "b.service@m1")
    hostile = with_units(all_up(before), unit(A, "Conflicts=b.service", revision=5))
    assert rows_of(settled(hostile)) == {"a.service@m2", "b.service@m1"}
    (gone, *_) = planned(hostile).tasks
    assert (gone.kind, gone.unit, gone.machine) == (TaskKind.REMOVE, A, "m1")


def test_a_waiting_unit_never_drives_out_a_running_one() -> None:
    before = with_rows(
        world(["m1"], [unit(A, revision=9), unit(B, "Conflicts=a.service", revision=1)]),
        "a.service@m1",
    )
    assert homes_of(settled(before)) == {A: ["m1"]}


def test_a_unit_that_leaves_a_machine_still_repels_there() -> None:
    before = with_rows(
        world(["m1", "m2"], [unit(A), unit(B, "Conflicts=a.service", revision=2)]),
        "a.service@m1 leaving",
        "a.service@m2",
    )
    waiting = settled(before)
    assert B not in homes_of(waiting)
    assert reasons_of(waiting, B)["m1"].endswith("has not left yet")
    assert homes_of(settled(all_up(waiting))) == {A: ["m2"], B: ["m1"]}


# MachineOf


def test_a_pair_goes_to_one_machine_and_migrates_together() -> None:
    pair = [unit(B, "MachineOf=a.service"), unit(A, revision=2)]
    before = all_up(settled(world(["m1", "m2", "m3"], pair)))
    assert homes_of(before) == {A: ["m1"], B: ["m1"]}
    after = settled(without_machines(before, "m1"))
    assert homes_of(after) == {A: ["m2"], B: ["m2"]}


def test_a_chain_settles_in_one_plan() -> None:
    chain = [unit("u0.service", revision=9)]
    chain += [unit(f"u{n}.service", f"MachineOf=u{n - 1}.service") for n in range(1, 6)]
    after = settled(with_rows(world(["m1", "m2"], [unit(A), *chain]), "a.service@m1"))
    assert {name: where for name, where in homes_of(after).items() if name != A} == {
        f"u{n}.service": ["m2"] for n in range(6)
    }


def test_a_long_chain_does_not_exhaust_anything() -> None:
    chain = [unit("u0.service", revision=9)]
    chain += [unit(f"u{n}.service", f"MachineOf=u{n - 1}.service") for n in range(1, 300)]
    after = settled(world(["m1", "m2"], chain))
    assert {where for (where,) in homes_of(after).values()} == {"m1"}


def test_units_that_need_each_other_are_placed_together() -> None:
    pair = [
        unit(A, "MachineOf=b.service"),
        unit(B, "MachineOf=a.service", "MachineMetadata=disk=ssd"),
    ]
    after = settled(world([machine("m1"), machine("m2", disk="ssd")], pair))
    assert homes_of(after) == {A: ["m2"], B: ["m2"]}


def test_units_that_need_each_other_are_refused_together() -> None:
    pair = [
        unit(A, "MachineOf=b.service"),
        unit(B, "MachineOf=a.service", "MachineMetadata=disk=ssd"),
    ]
    after = settled(world(["m1"], pair))
    assert homes_of(after) == {}
    assert reasons_of(after, A) == {
        "m1": "b.service, which it goes with, cannot be here: "
        "the unit asks for metadata disk=ssd, the machine has no disk"
    }


def test_requirements_that_contradict_each_other_are_refused_in_their_words() -> None:
    after = settled(world(["m1"], [unit(A, "MachineID=m1", "Global=true")]))
    assert reasons_of(after, A) == {"": "MachineID cannot be used with Global"}


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([], id="missing peer"),
        pytest.param([unit(B, target="inactive")], id="inactive peer"),
    ],
)
def test_a_unit_whose_peer_is_not_started_is_refused_by_name(others: list[UnitRecord]) -> None:
    after = settled(world(["m1"], [unit(A, "MachineOf=b.service"), *others]))
    assert reasons_of(after, A) == {
        "": "it asks for MachineOf=b.service, and b.service is not started"
    }


def test_a_follower_moves_when_its_peer_has_to() -> None:
    units = [
        unit(A, "MachineMetadata=disk=ssd"),
        unit(B, "MachineOf=a.service"),
    ]
    hosts = [machine("m1", disk="ssd"), machine("m2", disk="ssd")]
    before = all_up(settled(world(hosts, units)))
    after = settled(with_machines(before, machine("m1", disk="hdd")))
    assert rows_of(after) == {
        "a.service@m1 leaving",
        "a.service@m2",
        "b.service@m1 leaving",
        "b.service@m2",
    }


def test_a_unit_may_lean_on_a_global_one() -> None:
    units = [unit(A, "MachineOf=b.service"), unit(B, "Global=true", "MachineMetadata=disk=ssd")]
    after = settled(world([machine("m1"), machine("m2", disk="ssd")], units))
    assert homes_of(after) == {A: ["m2"], B: ["m2"]}


# Replaces


def test_a_replacing_unit_takes_the_machine_and_the_other_goes_elsewhere() -> None:
    before = all_up(settled(world(["m1", "m2"], [unit(A), unit("x.service", revision=2)])))
    kick = unit(B, "Replaces=a.service", revision=3)
    after = settled(with_units(before, kick))
    assert homes_of(after) == {A: ["m2"], B: ["m1"], "x.service": ["m2"]}
    assert rows_of(after) == {"a.service@m2", "b.service@m1", "x.service@m2"}


def test_the_displaced_unit_is_placed_by_all_the_rules() -> None:
    units = [unit(A, "Conflicts=x.service"), unit("x.service", revision=2)]
    before = all_up(settled(world(["m1", "m2"], units)))
    after = settled(with_units(before, unit(B, "Replaces=a.service", revision=3)))
    assert homes_of(after) == {B: ["m1"], "x.service": ["m2"]}
    assert reasons_of(after, A) == {
        "m1": "b.service is here and replaces it",
        "m2": "it conflicts with x.service here (Conflicts=x.service)",
    }


def test_on_a_lone_machine_the_displaced_unit_waits_and_nothing_flaps() -> None:
    before = all_up(settled(world(["m1"], [unit(A)])))
    after = settled(with_units(before, unit(B, "Replaces=a.service", revision=2)))
    assert homes_of(after) == {B: ["m1"]}
    assert reasons_of(after, A) == {"m1": "b.service is here and replaces it"}
    assert homes_of(settled(with_machines(after, "m2"))) == {A: ["m2"], B: ["m1"]}


def test_units_that_replace_each_other_leave_each_other_alone() -> None:
    pair = [unit(A, "Replaces=b.service"), unit(B, "Replaces=a.service")]
    assert homes_of(settled(world(["m1"], pair))) == {A: ["m1"], B: ["m1"]}


def test_a_longer_circle_of_replacing_units_does_not_flap() -> None:
    circle = [
        unit(A, "Replaces=b.service", revision=1),
        unit(B, "Replaces=c.service", revision=2),
        unit("c.service", "Replaces=a.service", revision=3),
    ]
    after = settled(world(["m1"], circle))
    assert homes_of(after) == {A: ["m1"]}
    assert "in a circle" in reasons_of(after, "c.service")["m1"]


def test_a_unit_does_not_replace_what_it_depends_on() -> None:
    tangle = [
        unit(A, "MachineOf=b.service", "Replaces=c.service", revision=3),
        unit(B, "MachineOf=c.service", revision=2),
        unit("c.service", revision=1),
    ]
    after = settled(world(["m1", "m2"], tangle))
    assert homes_of(after) == {B: ["m1"], "c.service": ["m1"]}
    assert "depends" in reasons_of(after, A)["m1"]


# Pinned units and metadata


@pytest.mark.parametrize("name", ["0123456789abcdef", "01234567"])
def test_machine_id_pins_by_full_and_short_id(name: str) -> None:
    after = settled(world(["aaa", "0123456789abcdef"], [unit(A, f"MachineID={name}")]))
    assert homes_of(after) == {A: ["0123456789abcdef"]}


def test_changed_metadata_moves_a_unit_and_it_stays_until_it_is_up() -> None:
    hosts = [machine("m1", disk="ssd"), machine("m2", disk="ssd")]
    before = all_up(settled(world(hosts, [unit(A, "MachineMetadata=disk=ssd")])))
    changed = with_machines(before, machine("m1", disk="hdd"))
    tasks = planned(changed).tasks
    assert kinds_of(tasks) == ["leave a.service", "place a.service"]
    assert "can no longer run it: the unit asks for metadata disk=ssd" in tasks[1].reason
    moving = settled(changed)
    assert rows_of(moving) == {"a.service@m1 leaving", "a.service@m2"}
    assert rows_of(settled(all_up(moving))) == {"a.service@m2"}


@pytest.mark.parametrize("active", ["inactive", "failed"])
def test_unit_of_which_nothing_runs_is_not_kept_until_it_is_up_elsewhere(active: str) -> None:
    moving = with_rows(world(["m1", "m2"], [unit(A)]), "a.service@m1 leaving", "a.service@m2")
    states = tuple(replace(state, active=active) for state in all_up(moving).states)
    assert rows_of(settled(replace(moving, states=states))) == {"a.service@m2"}


def test_a_loaded_unit_has_arrived_when_it_is_loaded() -> None:
    before = with_rows(
        world(["m1", "m2"], [unit(A, target="loaded")]), "a.service@m1 leaving", "a.service@m2"
    )
    assert rows_of(settled(before)) == rows_of(before)
    assert rows_of(settled(all_up(before))) == {"a.service@m2"}


def test_a_unit_that_fits_nowhere_any_more_is_stopped_and_refused() -> None:
    before = all_up(
        settled(world([machine("m1", disk="ssd")], [unit(A, "MachineMetadata=disk=ssd")]))
    )
    changed = with_machines(before, machine("m1"))
    (gone, refused) = planned(changed).tasks
    assert (gone.kind, refused.kind) == (TaskKind.REMOVE, TaskKind.REFUSE)
    assert gone.reason.endswith("and no other machine suits it")


# Order


def test_rows_go_before_others_come() -> None:
    before = all_up(settled(world(["m1"], [unit(A), unit(B, revision=2)])))
    after = with_units(
        before,
        unit(A, target="inactive", revision=3),
        unit(B, version="2", revision=4),
        unit("c.service", revision=5),
        unit("d.service", "MachineID=m9", revision=6),
    )
    assert kinds_of(planned(after).tasks) == [
        "remove a.service",
        "place c.service",
        "update b.service",
        "refuse d.service",
        "drop file file-b.service-1",
    ]


def test_carrying_out_half_a_plan_and_planning_again_ends_the_same() -> None:
    units = [unit(f"web@{n}.service", revision=n) for n in range(6)]
    before = all_up(settled(world(["m1", "m2", "m3"], units)))
    lost = without_machines(before, "m2")
    tasks = planned(lost).tasks
    for steps in range(len(tasks)):
        assert rows_of(settled(carried_out(lost, tasks[:steps]))) == rows_of(settled(lost))
